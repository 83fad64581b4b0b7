"""Units for each channel in which all channels of a tensor have the same range, as int8 wants it."""

import keras
import numpy as np

from mixnet_tf import layers
from mixnet_tf.endpoints import parts

_BATCH = 8  # images
_SMALLEST = 1e-3  # of a tensor's largest unit; a channel that is always zero has none of its own


def channel_units(model, images):
    """The largest absolute value of each channel behind each batch normalization.

    Int8 has one scale for a whole tensor, so a channel a hundred times smaller than another keeps no digits. Computed
    in units of its own range, each channel uses all of them: exact in real numbers, folded into the kernels before
    and after, and free but for swish, whose sigmoid needs the channel as it was. Blocks that are added up share their
    units.

    Args:
        model: A `keras.Model` with a MixNet's layers at its top level.
        images: (images, size, size, 3), float32 in [0, 255].

    Returns:
        Dict from the name of a batch normalization to float64 (channels,), all above 0; empty if the layers lie deeper.

    Source: cross-layer equalization, arXiv:1906.04721, section 4.1, by measured ranges; the way through swish is ours.
    """
    if not any(isinstance(layer, layers.BatchNormalization) for layer in model.layers):
        return {}
    normalizations, sums = {}, {}  # name -> layer; name of a projection's normalization -> the addition behind it
    chain_of, chain = {}, None
    for name, part in parts(model).items():
        for layer in part:
            if isinstance(layer, layers.BatchNormalization):
                normalizations[layer.name] = layer
                chain_of[layer.name] = layer.name
        project = f"{name}_project_bn"
        if project in normalizations:
            added = [layer for layer in part if isinstance(layer, keras.layers.Add)]
            chain = chain if added and chain is not None else project
            chain_of[project] = chain
            if added:
                sums[project] = added[0]
    outputs = {name: layer.output for name, layer in normalizations.items()}
    outputs |= {f"{name} added": layer.output for name, layer in sums.items()}
    probe = keras.Model(model.input, outputs)
    ranges = {}
    for start in range(0, len(images), _BATCH):
        for name, maps in probe.predict_on_batch(images[start : start + _BATCH]).items():
            largest = np.abs(maps).max((0, 1, 2)).astype(np.float64)
            name = name.removesuffix(" added")
            ranges[chain_of[name]] = np.maximum(ranges.get(chain_of[name], 0.0), largest)
    units = {name: np.maximum(values, _SMALLEST * values.max()) for name, values in ranges.items()}
    return {name: units[chain] for name, chain in chain_of.items() if units[chain].max() > 0}
