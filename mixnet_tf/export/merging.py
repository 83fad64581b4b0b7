"""Channel groups as one convolution, with zeros where the groups have nothing: exact, and fewer ops."""

from collections.abc import Sequence

import numpy as np

from mixnet_tf.networks import SAME, same_padding


def block_diagonal(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """The kernel of one convolution that equals convolutions in channel groups.

    Args:
        kernels: (k, k, channels in, channels out) of each group; k is the same for all.

    Returns:
        (k, k, all channels in, all channels out).
    """
    size = kernels[0].shape[:2]
    whole = np.zeros((*size, *(sum(kernel.shape[axis] for kernel in kernels) for axis in (2, 3))), kernels[0].dtype)
    row = column = 0
    for kernel in kernels:
        taken, given = kernel.shape[2:]
        whole[:, :, row : row + taken, column : column + given] = kernel
        row, column = row + taken, column + given
    return whole


def largest_kernel(
    kernels: Sequence[np.ndarray], rates: Sequence[int], stride: int, image_size: int, padding: str = SAME
) -> np.ndarray:
    """The kernel of one depthwise convolution that equals depthwise convolutions in channel groups.

    Each kernel lies where SAME padding puts its taps: in the center, unless it is smaller than the stride.

    Args:
        kernels: (k, k, channels, 1) of each group.
        rates: Dilation of each group, pixels. A dilated kernel gets zeros between its taps.
        stride: Pixels.
        image_size: Height and width of the input, pixels.
        padding: "same" or "symmetric".

    Returns:
        (largest k, largest k, all channels, 1), to be used without dilation.
    """
    extents = [(kernel.shape[0] - 1) * rate + 1 for kernel, rate in zip(kernels, rates, strict=True)]
    size = max(extents)
    whole = np.zeros((size, size, sum(kernel.shape[2] for kernel in kernels), 1), kernels[0].dtype)
    channel = 0
    for kernel, rate, extent in zip(kernels, rates, extents, strict=True):
        first = (size - extent) // 2
        if padding == SAME:
            first = same_padding(image_size, size, stride)[0] - same_padding(image_size, extent, stride)[0]
        places = slice(first, first + extent, rate)
        whole[places, places, channel : channel + kernel.shape[2]] = kernel
        channel += kernel.shape[2]
    return whole
