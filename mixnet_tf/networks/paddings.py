"""The pixels that convolutions pad with zeros."""

from collections.abc import Sequence
from typing import Any

from mixnet_tf.networks.block_strings import SAME


def padding_of(padding: str, sizes: Sequence[int], strides: Sequence[int]) -> list[Any]:
    """The `padding` of an op for each kernel size; at stride 1 symmetric padding is SAME, because kernels are odd."""
    if padding == SAME or tuple(strides) == (1, 1):
        return ["SAME"] * len(sizes)
    return [[(0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)] for size in sizes]


def same_padding(image_size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """The pixels that SAME pads before and after a side of an image; a dilated kernel has the size that it spans."""
    missing = max((-(-image_size // stride) - 1) * stride + kernel_size - image_size, 0)
    return missing // 2, missing - missing // 2
