"""The kernels of channel groups as one kernel, with zeros where the groups have nothing."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


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


def side_by_side(kernels: Sequence[Any]) -> tf.Tensor:
    """The kernel of one depthwise convolution that equals depthwise convolutions in channel groups.

    With SAME padding they are equal if no kernel is smaller than the stride; with symmetric padding always.

    Args:
        kernels: (k, k, channels, 1) of each group; k is odd.

    Returns:
        (largest k, largest k, all channels, 1).
    """
    return kernels[0] if len(kernels) == 1 else tf.concat(_of_one_size(kernels), axis=2)


def runs_of(can_join: Sequence[bool], most: int) -> list[slice]:
    """Slices of neighbouring groups that one convolution computes.

    Args:
        can_join: Of each group, whether it may be with others.
        most: The most groups of a run.
    """
    runs: list[slice] = []
    for group, joins in enumerate(can_join):
        if runs and joins and can_join[group - 1] and group - runs[-1].start < most:
            runs[-1] = slice(runs[-1].start, group + 1)
        else:
            runs.append(slice(group, group + 1))
    return runs


def _of_one_size(kernels):
    """Each kernel in the center of zeros, as large as the largest."""
    largest = max(kernel.shape[0] for kernel in kernels)
    margins = [(largest - kernel.shape[0]) // 2 for kernel in kernels]
    return [
        tf.pad(tf.convert_to_tensor(kernel), [(margin, margin)] * 2 + [(0, 0)] * 2)
        for kernel, margin in zip(kernels, margins, strict=True)
    ]
