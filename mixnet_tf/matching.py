"""Foreign names of weights matched to the variables of a MixNet, all of them or none.

A variable's key is (part, kind, rank, name): the part of `endpoints.parts`; "conv", "depthwise", "se",
"bn" or "dense"; the rank of its layer, or channel group, among the part's own of this kind in the order of
computation; and the official name of the variable.
"""

import keras

from mixnet_tf import layers
from mixnet_tf.endpoints import parts
from mixnet_tf.errors import InputError


def rank(parsed, source):
    """Names by key, where the place among the counters gives the rank.

    Args:
        parsed: A dict from a name to (part, kind, counter, variable); counters of a kind compare.
        source: What error messages call the file.

    Raises:
        ValueError: If two names mean the same variable.
    """
    counters = {}
    for part, kind, counter, _ in parsed.values():
        counters.setdefault((part, kind), set()).add(counter)
    names = {}
    for name, (part, kind, counter, variable) in parsed.items():
        key = (part, kind, sorted(counters[part, kind]).index(counter), variable)
        if key in names:
            raise InputError(f"{source} holds the same variable twice: {names[key]} and {name}.")
        names[key] = name
    return names


def match(model, names, shapes, source, skip_head):
    """Pairs of a model's variable and the name of its value.

    Args:
        model: A MixNet. Without its top it takes no dense layer.
        names: Names by key, as `rank` gives.
        shapes: The shape of each name's value, in our layout.
        source: What error messages call the file.
        skip_head: Whether to leave out the dense layer.

    Raises:
        ValueError: For variables that are missing, left over or of another shape, naming them.
    """
    targets = variables(model)
    if skip_head or not any(kind == "dense" for _, kind, _, _ in targets):
        names, targets = ({k: v for k, v in found.items() if k[1] != "dense"} for found in (names, targets))
    problems = [f"missing: {'/'.join(map(str, key))}" for key in targets if key not in names]
    problems += [f"left over: {name}" for key, name in names.items() if key not in targets]
    for key in targets.keys() & names.keys():
        have, want = tuple(shapes[names[key]]), tuple(targets[key].shape)
        if have != want:
            hint = " (another number of classes; skip_head=True leaves the head as it is)" if key[1] == "dense" else ""
            problems.append(f"misshapen: {names[key]} is {have}, the model's is {want}{hint}")
    if problems:
        raise InputError(f"{source} does not fit model {model.name!r}; nothing was loaded.\n" + listing(problems))
    return [(variable, names[key]) for key, variable in targets.items()]


def variables(model):
    """A MixNet's variables by key."""
    found = {}
    for part, part_layers in parts(model).items():
        ranks = {}

        def add(kind, names, values, part=part, ranks=ranks):
            place = ranks[kind] = ranks.get(kind, -1) + 1
            found.update({(part, kind, place, name): v for name, v in zip(names, values, strict=True)})

        for layer in part_layers:
            if isinstance(layer, layers.GroupedConv2D):
                for kernel in layer.kernels:
                    add("conv", ["kernel"], [kernel])
            elif isinstance(layer, layers.MixConv):
                for kernel in layer.kernels:
                    add("depthwise", ["depthwise_kernel"], [kernel])
            elif isinstance(layer, layers.SqueezeExcite):
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


def listing(lines, most=20):
    """The first lines in order, indented, and how many more there are."""
    lines = sorted(lines)
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join(f"  {line}" for line in lines[:most] + more)
