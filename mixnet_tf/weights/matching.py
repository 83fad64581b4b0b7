"""Matches weights from any source with the variables of a MixNet, and assigns all of them or none.

The key of a variable is (part, kind, rank, name): its part in `endpoints.parts`; "conv", "depthwise", "se", "bn"
or "dense"; the rank of its layer or channel group among those of this kind in the part, in the order of computation;
and the official name of the variable. A layer that does not belong to MixNet is a part of its own, with the kind
"layer".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from mixnet_tf.class_names import listed, repeated
from mixnet_tf.errors import InputError
from mixnet_tf.imagenet import CLASSES, wordnet_ids
from mixnet_tf.networks import (
    GlobalParams,
    GroupedConv2D,
    MixConv,
    Resizing,
    SqueezeExcite,
    carry_resizing,
    class_names,
    name_classes,
    parts,
)

LAYER = "layer"  # kind of the variables of a layer that does not belong to MixNet


class Arrays(NamedTuple):
    """Weights as numpy arrays, so that they can be read before a strategy's scope and assigned inside it."""

    source: str  # name of the source in error messages
    arrays: dict  # arrays by key, in our layout
    names: dict  # names in the source, by key
    has_layers: bool = False  # whether the source also has the layers that do not belong to MixNet
    class_names: tuple[str, ...] | None = None  # class names of the classifier or detector; None: not known
    params: Mapping[str, Any] | None = None  # fields of `GlobalParams` of the network that was trained; None: not known
    resizing: Resizing | None = None  # how the images of these weights are cropped and resized; None: not known

    @property
    def classes(self) -> int | None:
        """Number of classes of the classifier; None if there is no classifier."""
        bias = self.arrays.get(("head", "dense", 0, "bias"))
        return None if bias is None else len(bias)

    def of_layer(self, name: str) -> list[Any]:
        """The arrays of a layer outside the MixNet, in the order of its weights; empty if there is no such layer."""
        return [value for key, value in self.arrays.items() if key[:2] == (name, LAYER)]

    def network(self) -> "Arrays":
        """The arrays of the MixNet alone, without those of other layers."""
        arrays = {key: value for key, value in self.arrays.items() if key[1] != LAYER}
        return self._replace(arrays=arrays, has_layers=False, class_names=None)

    def in_order_of(self, names: tuple[str, ...] | None, predictors: Sequence[str] = ()) -> "Arrays | None":
        """Returns the arrays with their classes in the order of a model's; None if the classes differ.

        Args:
            names: Names of the model's classes; None: not known, then the order stays.
            predictors: Names of a detector's layers that score the background and the classes at each anchor.

        Raises:
            ValueError: If the order has to change and several classes share a name.
        """
        own = self.class_names
        if own is None or names is None or own == names:
            return self
        if sorted(own) != sorted(names):
            return None
        twice = sorted(repeated(own))
        if twice:
            raise InputError(
                f"{self.source} has the model's classes in another order, but several are named {listed(twice)}; give "
                "each class a name of its own."
            )
        places = {name: number for number, name in enumerate(own)}
        order = np.array([places[name] for name in names])
        slots = np.concatenate([[0], 1 + order])  # the background is first
        arrays = {}
        for key, value in self.arrays.items():
            if key[1] == "dense":
                value = value[..., order]
            elif key[0] in predictors:
                value = value.reshape(*value.shape[:-1], -1, len(slots))[..., slots].reshape(value.shape)
            arrays[key] = value
        return self._replace(arrays=arrays, class_names=names)


def params_with(read: Arrays, params: GlobalParams, overrides: Mapping[str, Any] | None) -> GlobalParams:
    """The parameters of a network to which weights belong.

    Args:
        read: The weights.
        params: The network's `GlobalParams`.
        overrides: The fields among these that were asked for.

    Raises:
        ValueError: If one of these contradicts the weights.
    """
    for name, value in (read.params or {}).items():
        asked = (overrides or {}).get(name, value)
        if asked != value:
            raise InputError(f"{read.source} is of a network with {name}={value!r}; override_params has {asked!r}.")
    return params._replace(**(read.params or {}))


def with_imagenet_names(read: Arrays) -> Arrays:
    """Adds ImageNet's WordNet ids as class names to weights that have a classifier of its 1,000 classes."""
    return read._replace(class_names=wordnet_ids()) if read.classes == CLASSES else read


def rank(parsed: dict[str, tuple], source: str) -> dict[tuple, str]:
    """Names by key; the rank in a key is the position among the sorted counters.

    Args:
        parsed: A dict from a name to (part, kind, counter, variable); counters of one kind can be compared.
        source: Name of the file in error messages.

    Raises:
        ValueError: If two names have the same key.
    """
    counters: dict[tuple, set] = {}
    for part, kind, counter, _ in parsed.values():
        counters.setdefault((part, kind), set()).add(counter)
    names: dict[tuple, str] = {}
    for name, (part, kind, counter, variable) in parsed.items():
        key = (part, kind, sorted(counters[part, kind]).index(counter), variable)
        if key in names:
            raise InputError(f"{source} holds the same variable twice: {names[key]} and {name}.")
        names[key] = name
    return names


def assign(model: keras.Model, read: Arrays, skip_head: bool = False, skip_layers: Iterable[str] = ()) -> None:
    """Assigns arrays to a model; nothing is assigned unless all of them fit.

    A model without class names takes those of the arrays. A model with the same names in another order keeps its order.
    The model's `Preprocessing` says from then on how the images of these weights are cropped and resized.

    Args:
        model: A MixNet. If it has no top, the dense layer of `read` is ignored.
        read: `Arrays`.
        skip_head: Whether to leave the model's classifier unchanged.
        skip_layers: Names of other layers to leave unchanged as well.

    Raises:
        ValueError: If variables are missing, unused or of another shape (the message names them), if the classifier
            is of other classes, or if the model pads or normalizes in another way than the network of the weights.
    """
    _check_params(model, read)
    names_classes = not skip_head and not skip_layers
    if names_classes:
        read = _with_classes_of(model, read)
    targets, arrays = variables(model), read.arrays
    if skip_head or not any(kind == "dense" for _, kind, _, _ in targets):
        arrays, targets = ({k: v for k, v in found.items() if k[1] != "dense"} for found in (arrays, targets))
    if read.has_layers:
        skipped, others = set(skip_layers), _variables_of_other_layers(model)
        targets |= {key: variable for key, variable in others.items() if key[0] not in skipped}
    problems = [f"missing: {'/'.join(map(str, key))}" for key in targets if key not in arrays]
    problems += [f"left over: {read.names[key]}" for key in arrays if key not in targets and key[1] != LAYER]
    for key in targets.keys() & arrays.keys():
        have, want = tuple(arrays[key].shape), tuple(targets[key].shape)
        if have != want:
            hint = (
                " (another number of classes; skip_head=True leaves the classifier unchanged)"
                if key[1] == "dense"
                else ""
            )
            problems.append(f"misshapen: {read.names[key]} is {have}, the model's is {want}{hint}")
    if problems:
        raise InputError(f"{read.source} does not fit model {model.name!r}; nothing was loaded.\n" + listing(problems))
    for key, variable in targets.items():
        variable.assign(arrays[key])
    if names_classes and read.class_names is not None:
        name_classes(model, read.class_names)
    if read.resizing is not None:
        carry_resizing(model, read.resizing)


def _check_params(model, read):
    """Checks that a model pads and normalizes as the network did whose weights these are."""
    mixnets = [layer for part in parts(model).values() for layer in part]
    own: dict[str, set] = {
        "padding": {layer.padding for layer in mixnets if isinstance(layer, MixConv)},
        "batch_norm_epsilon": {
            layer.epsilon for layer in mixnets if isinstance(layer, keras.layers.BatchNormalization)
        },
    }
    for name, value in (read.params or {}).items():
        if own[name] != {value}:
            [theirs] = own[name] if len(own[name]) == 1 else [own[name]]
            raise InputError(
                f"{read.source} is of a network with {name}={value!r}, but model {model.name!r} has {name}={theirs!r}; "
                "build the model with these weights, or with override_params."
            )


def _with_classes_of(model, read):
    """The arrays with their classes in the model's order."""
    own, names = read.class_names or (), class_names(model)
    ordered = read.in_order_of(names)
    if ordered is None or (ordered is not read and read.classes is None):  # a detector's predictors are not known here
        raise InputError(
            f"{read.source} has the classes {listed(own)}, but model {model.name!r} has {listed(names or ())}, in "
            "this order; skip_head=True leaves the classifier unchanged."
        )
    return ordered


def variables(model: keras.Model) -> dict[tuple, Any]:
    """The variables of a MixNet by key."""
    found = {}
    for part, part_layers in parts(model).items():
        ranks: dict[str, int] = {}

        def add(kind, names, values, part=part, ranks=ranks):
            place = ranks[kind] = ranks.get(kind, -1) + 1
            found.update({(part, kind, place, name): v for name, v in zip(names, values, strict=True)})

        for layer in part_layers:
            if isinstance(layer, GroupedConv2D):
                for kernel in layer.kernels:
                    add("conv", ["kernel"], [kernel])
            elif isinstance(layer, MixConv):
                for kernel in layer.kernels:
                    add("depthwise", ["depthwise_kernel"], [kernel])
            elif isinstance(layer, SqueezeExcite):
                for conv in (layer.reduce, layer.expand):
                    add("se", ["kernel", "bias"], [conv.kernel, conv.bias])
            elif isinstance(layer, keras.layers.BatchNormalization):
                values = [layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance]
                add("bn", ["gamma", "beta", "moving_mean", "moving_variance"], values)
            elif isinstance(layer, keras.layers.Conv2D):
                add("conv", ["kernel"], [layer.kernel])
            elif isinstance(layer, keras.layers.Dense):
                add("dense", ["kernel", "bias"], [layer.kernel, layer.bias])
    return found


def _variables_of_other_layers(model):
    mixnets = {id(layer) for part in parts(model).values() for layer in part}
    others = [layer for layer in model.layers if id(layer) not in mixnets]
    return {(layer.name, LAYER, i, "variable"): v for layer in others for i, v in enumerate(layer.weights)}


def listing(lines: Iterable[str], most: int = 20) -> str:
    """The first lines, sorted and indented, and the number of further ones."""
    lines = sorted(lines)
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join(f"  {line}" for line in lines[:most] + more)
