"""The kernels of channel groups as one kernel, with zeros where the groups have nothing."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_BLOCK = 8  # channels of a convolution's group


def block_diagonal(kernels: Sequence[Any]) -> tf.Tensor:
    """The kernel of one convolution that equals convolutions in channel groups, at stride 1 with SAME padding.

    Args:
        kernels: (k, k, channels in, channels out) of each group; k is odd.

    Returns:
        (largest k, largest k, all channels in, all channels out).
    """
    if len(kernels) == 1:
        return kernels[0]
    filters = [kernel.shape[3] for kernel in kernels]
    rows = [
        tf.pad(kernel, [(0, 0)] * 3 + [(sum(filters[:group]), sum(filters[group + 1 :]))])
        for group, kernel in enumerate(_of_one_size(kernels))
    ]
    return tf.concat(rows, axis=2)


def dense_pieces(kernels: Sequence[Any], joins: Sequence[bool]) -> list[tuple[int, tf.Tensor]]:
    """The kernels of grouped convolutions that equal depthwise convolutions in channel groups.

    A matrix unit computes convolutions of eight channels to eight faster than a vector unit the depthwise ones, in
    spite of the zeros. So all pieces but the last one have a multiple of eight channels: a group's last channels may be
    in the next piece, in the center of its kernel.

    Args:
        kernels: (k, k, channels, 1) of each group; k is odd.
        joins: Of each group, whether it is one piece with its neighbours that join, too.

    Returns:
        (channels, kernel (largest k, largest k, 8, channels)) of each piece. Where the channels are no multiple of 8,
        the kernel is for their greatest common divisor.
    """
    ends = list(itertools.accumulate(kernel.shape[2] for kernel in kernels))
    bounds = [*(end // _BLOCK * _BLOCK for end in ends[:-1]), ends[-1]]
    whole = tf.concat(_of_one_size(kernels), axis=2)
    pieces, begin = [], 0
    for end, joined in zip(bounds, [*map(all, itertools.pairwise(joins)), False], strict=True):
        if joined or end == begin:
            continue
        size = max(
            kernel.shape[0]
            for kernel, last in zip(kernels, ends, strict=True)
            if last > begin and last - kernel.shape[2] < end
        )
        pieces.append((end - begin, _across(_center(whole, size)[:, :, begin:end])))
        begin = end
    return pieces


def _center(kernel, size):
    """The middle rows and columns of a kernel."""
    margin = (kernel.shape[0] - size) // 2
    return kernel[margin : margin + size, margin : margin + size]


def _across(kernel):
    """The kernel of a grouped convolution that equals a depthwise one, with zeros between the channels of a group."""
    height, width, channels, _ = kernel.shape
    block = math.gcd(channels, _BLOCK)
    own = tf.tile(tf.eye(block, dtype=kernel.dtype), (1, channels // block))
    return tf.reshape(kernel, (height, width, 1, channels)) * own


def _of_one_size(kernels):
    """Each kernel in the center of zeros, as large as the largest."""
    largest = max(kernel.shape[0] for kernel in kernels)
    margins = [(largest - kernel.shape[0]) // 2 for kernel in kernels]
    return [
        tf.pad(tf.convert_to_tensor(kernel), [(margin, margin)] * 2 + [(0, 0)] * 2)
        for kernel, margin in zip(kernels, margins, strict=True)
    ]
