"""The parts and endpoints of a built MixNet, by the reference's names."""

from collections.abc import Sequence
from typing import Any

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.networks import layers
from mixnet_tf.networks.names import block_part, is_block, layer_name, part_of


def parts(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """The layers of each part of a MixNet, in the order of computation.

    Args:
        model: A model of `build_model`, or a functional model that contains its layers.

    Returns:
        A dict from "stem", "block_0", "block_1", ..., "head" to a list of layers.

    Raises:
        ValueError: If the model is not a MixNet.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"Expected a MixNet of mixnet_tf, received {model!r}.")
    found: dict[str, list[keras.layers.Layer]] = {"stem": []}
    for layer in model.layers:
        part = part_of(layer)
        if part is not None:
            found.setdefault(part, []).append(layer)
    if not found["stem"] or block_part(0) not in found:
        raise InputError(f"Model {model.name!r} is not a MixNet of mixnet_tf: it has no layers stem_* and block_0_*.")
    return found


def block_names(model: keras.Model) -> list[str]:
    """The names "block_0", "block_1", ... of a MixNet's blocks, in order."""
    return [part for part in parts(model) if is_block(part)]


def endpoints(model: keras.Model) -> dict[str, Any]:
    """The reference's endpoints as Keras tensors.

    Args:
        model: A MixNet.

    Returns:
        A dict with these names:

        - "stem", and "block_N" for each block;
        - "block_N/expand", before the block's MixConv (the reference has no such endpoint), and
          "block_N/expansion_output", after MixConv and squeeze-and-excitation;
        - "reduction_1", "reduction_2", ... and their "/expansion_output": the last block before each block of
          stride 2, and the last block;
        - "global_pool", the reference's name for the last block, without pooling;
        - "head", the logits, if the model has its top.

    Source: mixnet/mixnet_model.py:MixnetModel.call.
    """
    by_part = parts(model)
    found = {"stem": by_part["stem"][-1].output}
    blocks = block_names(model)
    reductions = 0
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        own = by_part[block]
        project = [layer.name for layer in own].index(layer_name(block, "project_conv"))
        ends = {"": own[-1].output, "/expansion_output": own[project - 1].output}
        names = [block]
        if following is None or _mixconv(by_part[following]).strides[0] > 1:
            reductions += 1
            names.append(f"reduction_{reductions}")
        found |= {name + suffix: tensor for name in names for suffix, tensor in ends.items()}
        found[f"{block}/expand"] = _mixconv(own).input
    found["global_pool"] = found[blocks[-1]]
    dense = [layer for layer in by_part.get("head", []) if isinstance(layer, keras.layers.Dense)]
    if dense:
        found["head"] = dense[0].output
    return found


def _mixconv(block):
    return next(layer for layer in block if isinstance(layer, layers.MixConv))


def features_model(model: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """Returns a model that outputs some endpoints of a MixNet and shares its weights.

    Args:
        model: A MixNet.
        names: Names of `endpoints`; None: every "reduction_N", from half the resolution of the images (reduction_1)
            to a 32nd (reduction_5), for detection and segmentation heads.

    Returns:
        A `keras.Model` whose output is a dict from each name to (batch, height, width, channels).

    Raises:
        ValueError: If the model is not a MixNet or lacks an endpoint.

    Example:
        >>> import mixnet_tf
        >>> features = mixnet_tf.features_model(mixnet_tf.MixNetS(input_shape=(64, 64, 3)))
        >>> features.compute_output_shape((None, 64, 64, 3))["reduction_5"]
        (None, 2, 2, 200)
    """
    available = endpoints(model)
    if names is None:
        names = [name for name in available if name.startswith("reduction_") and "/" not in name]
    if not isinstance(names, list | tuple) or not names:
        raise InputError(f"names: expected a list of endpoints such as ['reduction_5'], received {names!r}.")
    unknown = [name for name in names if name not in available]
    if unknown:
        raise InputError(f"Model {model.name!r} has no endpoints {unknown}; it has {list(available)}.")
    return keras.Model(model.input, {name: available[name] for name in names}, name=f"{model.name}_features")
