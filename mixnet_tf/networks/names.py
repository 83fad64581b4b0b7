"""The exact names of a MixNet's layers: makes them, parses them, and finds layers by them."""

import re

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.networks import layers
from mixnet_tf.networks.dropout import DropPath
from mixnet_tf.networks.resizing import Preprocessing

PREPROCESSING, PREDICTIONS = "preprocessing", "predictions"
_CONV = {"bn": keras.layers.BatchNormalization, "activation": keras.layers.Activation}
# The roles of the layers in each kind of part, and their classes: a layer is named PART_ROLE.
_CLASSES = {
    "stem": {"conv": keras.layers.Conv2D, **_CONV},
    "block": {
        "expand_conv": layers.GroupedConv2D,
        **{f"expand_{role}": kind for role, kind in _CONV.items()},
        "mixconv": layers.MixConv,
        **{f"mixconv_{role}": kind for role, kind in _CONV.items()},
        "se": layers.SqueezeExcite,
        "project_conv": layers.GroupedConv2D,
        "project_bn": keras.layers.BatchNormalization,
        "project_activation": keras.layers.Activation,
        "drop_path": DropPath,
        "add": keras.layers.Add,
    },
    "head": {
        "conv": keras.layers.Conv2D,
        **_CONV,
        "pool": (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D),
        "dropout": keras.layers.Dropout,
        "dense": keras.layers.Dense,
    },
}
_OTHERS = {PREPROCESSING: Preprocessing, PREDICTIONS: keras.layers.Activation}
_NAME = re.compile(r"(stem|head|(block)_(?:0|[1-9][0-9]*))_(.+)")


def block_part(number: int) -> str:
    """The part's name of a block, counted from 0."""
    return f"block_{number}"


def is_block(part: str) -> bool:
    """Whether a part is a block: neither "stem" nor "head"."""
    return part.startswith("block_")


def layer_name(part: str, role: str) -> str:
    """The name of a part's layer, such as "block_3_expand_conv" for ("block_3", "expand_conv").

    Raises:
        ValueError: If no such layer is ever built.
    """
    name = f"{part}_{role}"
    if parse(name) is None:
        raise InputError(f"No layer is named {name!r}: there is no role {role!r} in {part!r}.")
    return name


def parse(name: str) -> tuple[str, str] | None:
    """(part, role) from the name of a MixNet's layer; None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None or found[3] not in _CLASSES[found[2] or found[1]]:
        return None
    return found[1], found[3]


def part_of(layer: keras.layers.Layer) -> str | None:
    """The part of a layer by its name and class: "stem", "block_0", ..., "head"; None: not a MixNet's layer."""
    parsed = parse(layer.name)
    if parsed is None:
        return None
    part, role = parsed
    classes = _CLASSES["block" if is_block(part) else part][role]
    return part if isinstance(layer, classes) else None


def is_mixnets(layer: keras.layers.Layer) -> bool:
    """Whether a layer is one that `build_model` builds, by its name and class."""
    return part_of(layer) is not None or isinstance(layer, _OTHERS.get(layer.name, ()))


def find_classifier(model: keras.Model) -> keras.layers.Dense | None:
    """The dense layer that a MixNet classifies with; None if it has none."""
    name = layer_name("head", "dense")
    return next((layer for layer in model.layers if layer.name == name and part_of(layer)), None)
