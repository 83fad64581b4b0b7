"""Counts the parameters and multiply-adds of a network, from its block strings or from a built model."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from mixnet_tf.errors import InputError, is_count
from mixnet_tf.networks import layers
from mixnet_tf.networks.block_strings import BlockArgs, GlobalParams
from mixnet_tf.networks.endpoints import parts
from mixnet_tf.networks.names import block_part, part_of
from mixnet_tf.networks.widths import round_filters, split_channels, unroll

# Layers that may follow a network.
_CONVOLUTIONS = (
    layers.GroupedConv2D,
    layers.MixConv,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
)


class Count(NamedTuple):
    """The size of a part of a network, and its cost for one image.

    Attributes:
        part: "stem", "block_0", ..., "head".
        resolution: Height and width of the part's output, pixels.
        kernels: Sizes of its depthwise kernels, or the size of its convolution.
        channels: Channels of the part's output.
        parameters: All parameters, the statistics of batch normalization included, like `model.count_params()`.
        trainable: Trainable parameters.
        multiply_adds: Multiply-adds, counted like `mixnet_tf.multiply_adds`.
    """

    part: str
    resolution: tuple[int, int]
    kernels: tuple[int, ...]
    channels: int
    parameters: int
    trainable: int
    multiply_adds: int


def count_parts(
    stages: Sequence[BlockArgs], params: GlobalParams, image_size: int | tuple[int, int] = 224
) -> list[Count]:
    """Counts each part of a network, its classifier included.

    Args:
        stages: List of `BlockArgs`, from `stages_and_params`.
        params: The `GlobalParams`.
        image_size: Pixels, or (height, width).

    Returns:
        A `Count` for the stem, each block and the head.
    """
    size = (int(image_size), int(image_size)) if is_count(image_size) else image_size
    size = _strided(size, 2)
    channels = round_filters(params.stem_size, params)
    rows = [_count("stem", size, (3,), channels, [_Conv(9 * 3 * channels, size, channels)])]
    for number, block in enumerate(unroll(stages, params)):
        row = _count_block(block_part(number), block, params, size)
        rows.append(row)
        size, channels = row.resolution, row.channels
    own: list[_Conv] = []
    kernels: tuple[int, ...] = ()
    if params.head:
        own, kernels = [_Conv(channels * params.feature_size, size, params.feature_size)], (1,)
        channels = params.feature_size
    dense = channels * params.num_classes
    head = _count("head", (1, 1), kernels, params.num_classes, own)
    extra = dense + params.num_classes
    rows.append(
        head._replace(
            parameters=head.parameters + extra,
            trainable=head.trainable + extra,
            multiply_adds=head.multiply_adds + dense,
        )
    )
    return rows


class _Conv(NamedTuple):
    """A convolution and the batch normalization after it."""

    products: int  # multiply-adds per position: the weights of the kernels
    size: tuple[int, int]  # positions, rows and columns
    channels: int  # of the batch normalization


def _count_block(part, block, params, size):
    expanded = block.expanded_filters
    convs = []
    if block.expand_ratio != 1:
        convs.append(_Conv(_grouped(block.input_filters, expanded, block.expand_ksize), size, expanded))
    dilated = (block.dilated or params.dilated) and block.strides == (1, 1)
    sizes = split_channels(expanded, len(block.dw_ksize), params.partition)
    taps = [9 if dilated else kernel * kernel for kernel in block.dw_ksize]
    size = _strided(size, block.strides[0])
    convs.append(_Conv(sum(n * count for n, count in zip(taps, sizes, strict=True)), size, expanded))
    project = _grouped(expanded, block.output_filters, block.project_ksize)
    convs.append(_Conv(project, size, block.output_filters))
    row = _count(part, size, block.dw_ksize, block.output_filters, convs)
    if block.se_filters is None:
        return row
    products = 2 * expanded * block.se_filters
    extra = products + expanded + block.se_filters
    return row._replace(
        parameters=row.parameters + extra,
        trainable=row.trainable + extra,
        multiply_adds=row.multiply_adds + products,
    )


def _count(part, size, kernels, channels, convs):
    weights = sum(conv.products for conv in convs)
    normalized = sum(conv.channels for conv in convs)
    products = sum(conv.products * conv.size[0] * conv.size[1] for conv in convs)
    return Count(part, size, kernels, channels, weights + 4 * normalized, weights + 2 * normalized, products)


def _grouped(channels_in, channels_out, kernels):
    groups = zip(
        kernels, split_channels(channels_in, len(kernels)), split_channels(channels_out, len(kernels)), strict=True
    )
    return sum(kernel * kernel * inputs * outputs for kernel, inputs, outputs in groups)


def _strided(size, stride):
    return (-(-size[0] // stride), -(-size[1] // stride))


def multiply_adds(model: keras.Model, image_size: int | None = None) -> int:
    """The multiply-adds of a model for one image.

    Counts every convolution (depthwise, grouped and squeeze-and-excitation included) and the dense layer, also those
    after the network, such as a detector's. Does not count biases, batch normalization, activations, pooling and
    additions. The paper counts more: 256M, 360M and 565M for S, M and L.

    Args:
        model: A MixNet, or a functional model that contains one.
        image_size: Height and width in pixels; None for the model's own, or 224 if it takes any.

    Returns:
        An int.

    Raises:
        ValueError: If the model is not a MixNet, or if `image_size` is not a whole number from 1 or, for a model with
            other convolutions after the network, not the model's own size.

    Example:
        >>> import mixnet_tf
        >>> mixnet_tf.multiply_adds(mixnet_tf.MixNetS()) / 1e6
        239.17336
    """
    by_part = parts(model)
    height, width = model.input_shape[1:3]
    if image_size is not None:
        if not is_count(image_size):
            raise InputError(f"image_size: expected a whole number of pixels from 1, received {image_size!r}.")
        height = width = int(image_size)
    size = [height or 224, width or 224]
    total = 0
    for layer in [layer for group in by_part.values() for layer in group]:
        size = [-(-n // stride) for n, stride in zip(size, getattr(layer, "strides", (1, 1)), strict=True)]
        slides = not isinstance(layer, layers.SqueezeExcite | keras.layers.Dense)
        total += _products(layer) * (math.prod(size) if slides else 1)
    return total + sum(_multiply_adds_of(layer, model, image_size) for layer in model.layers if part_of(layer) is None)


def _multiply_adds_of(layer, model, image_size):
    """The multiply-adds of a layer after the network, from the size of its output."""
    if not isinstance(layer, _CONVOLUTIONS):
        return 0
    positions = layer.output.shape[1:-1]
    if None in positions or image_size not in (None, model.input_shape[1]):
        raise InputError(
            f"image_size: expected {model.input_shape[1]}, the model's own, because layer {layer.name!r} does not "
            f"belong to the network; received {image_size}."
        )
    return _products(layer) * math.prod(positions)


def _products(layer):
    """The multiply-adds of a layer at one position: the sizes of its kernels, without its biases."""
    return sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
