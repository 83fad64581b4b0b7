"""Finds out which released network a model or a checkpoint is."""

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.networks import MixConv, get_model_params, parts, unroll
from mixnet_tf.weights.google import ARCHIVES

PUBLISHED = (*ARCHIVES, "mixnet-xl")  # the networks whose ImageNet weights are published, XL's by timm


def mixconvs_of(model: keras.Model) -> list[tuple[tuple[int, ...], int]]:
    """(kernel sizes, channels) of each MixConv of a model, for `variant_of`."""
    mixconvs = [layer for part in parts(model).values() for layer in part if isinstance(layer, MixConv)]
    return [(tuple(layer.kernel_size), layer.output.shape[-1]) for layer in mixconvs]


def variant_of(mixconvs: list[tuple[tuple[int, ...], int]]) -> str:
    """The name of the released network that has these MixConvs.

    Args:
        mixconvs: (kernel sizes, channels) of each MixConv, in order.

    Raises:
        ValueError: If no released network has them.
    """
    for model_name in PUBLISHED:
        blocks = unroll(*get_model_params(model_name))
        if mixconvs == [(block.dw_ksize, block.expanded_filters) for block in blocks]:
            return model_name
    raise InputError(
        f"weights='imagenet': the network has the kernels and widths of none of {list(PUBLISHED)}, "
        "for which weights were published; build one of them, without overriding its widths."
    )
