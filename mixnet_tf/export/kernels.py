"""Splits a large depthwise kernel into a sum of small dilated ones (tiles)."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mixnet_tf.export.arithmetics import ARITHMETICS
from mixnet_tf.networks import SAME, SYMMETRIC

MAX_TAPS = 25
# Pixels: up to this size all halvings are tried; the time doubles with each row, so beyond it only a few are.
_MAX_SEARCHED = 13


def depthwise_conv2d(
    inputs: tf.Tensor,
    kernel: np.ndarray,
    stride: int,
    rate: int,
    bias: np.ndarray,
    arithmetic: str | None = "float32",
    padding: str = SAME,
) -> tf.Tensor:
    """Depthwise convolution with bias; a large kernel is computed as the sum of `cheapest_tiles`.

    Args:
        inputs: (batch, height, width, channels), float32.
        kernel: numpy (k, k, channels, 1), float32.
        stride: Stride of rows and columns, pixels.
        rate: Dilation, pixels. A dilated kernel is never split.
        bias: numpy (channels,), float32.
        arithmetic: One of `ARITHMETICS`, for which kernels of more than `MAX_TAPS` taps are split; None: no splitting.
        padding: "same", or "symmetric" for an undilated kernel.

    Returns:
        (batch, ceil(height / stride), ceil(width / stride), channels).
    """
    kernel = _within_reach(kernel, rate, inputs.shape[1:3])
    size = kernel.shape[0]
    is_whole = rate != 1 or arithmetic is None or size * size <= MAX_TAPS
    if differs(padding, stride, inputs.shape[1:3]):
        if is_whole or stride != 2:
            padded = pad_symmetrically(inputs, size)
            return tf.nn.depthwise_conv2d(padded, kernel, (1, stride, stride, 1), "VALID") + bias
        # SAME pads an image of odd size symmetrically, but then there is one row and one column of outputs more.
        rows, columns = inputs.shape[1:3]
        odd = tf.pad(inputs, [(0, 0), (0, (rows - 1) % 2), (0, (columns - 1) % 2), (0, 0)])
        return _tiled(odd, kernel, stride, bias, arithmetic)[:, : -(-rows // 2), : -(-columns // 2)]
    if is_whole:
        return _depthwise(inputs, kernel, stride, (rate, rate)) + bias
    return _tiled(inputs, kernel, stride, bias, arithmetic)


def differs(padding: str, stride: int, image_size: Sequence[int]) -> bool:
    """Whether a padding is another one than SAME, for odd kernels on an image of even size (height, width)."""
    return padding == SYMMETRIC and any((n - 1) % stride for n in image_size)


def pad_symmetrically(inputs: tf.Tensor, size: int) -> tf.Tensor:
    """Pads images with size // 2 zeros on every side; XNNPACK computes it within the convolution that follows."""
    sides = (size // 2, size // 2)
    return tf.pad(inputs, [(0, 0), sides, sides, (0, 0)])


def _tiled(inputs, kernel, stride, bias, arithmetic):
    size, total = kernel.shape[0], None
    for rows, columns in cheapest_tiles(size, stride, arithmetic):
        taps = kernel[np.ix_(*(np.array(comb) + size // 2 for comb in (rows, columns)))]
        tile = _depthwise(inputs, taps, stride, (_step(rows), _step(columns)))
        # A depthwise op without a bias is not delegated; the converter adds a bias of zeros to other ops.
        total = tile + bias if total is None else total + tile
    return total


def _within_reach(kernel, rate, image_size):
    """The middle of a kernel, without the taps that meet only padding at every position.

    XNNPACK cannot prepare an int8 convolution in which all taps do.
    """
    if None in image_size:
        return kernel
    radius = kernel.shape[0] // 2
    reach = min(radius, (max(image_size) - 1) // rate)
    return kernel[radius - reach : radius + reach + 1, radius - reach : radius + reach + 1]


def _depthwise(inputs, kernel, stride, rates):
    if rates == (1, 1) or stride == 1:
        return tf.nn.depthwise_conv2d(inputs, kernel, (1, stride, stride, 1), "SAME", dilations=rates)
    # A stride and a dilation at once: LiteRT computes it, whereas TensorFlow on a CPU only builds the graph.
    return tf.raw_ops.DepthwiseConv2dNative(
        input=inputs, filter=kernel, strides=(1, stride, stride, 1), padding="SAME", dilations=(1, *rates, 1)
    )


@functools.cache
def cheapest_tiles(size: int, stride: int, arithmetic: str = "float32") -> tuple:
    """Covers a square kernel exactly by tiles that SAME padding centers correctly.

    The cover is the cheapest one up to `_MAX_SEARCHED` pixels, and a cheap one beyond.

    A tile is a set of rows times a set of columns. Each set has offsets from the kernel's center that are evenly spaced
    and symmetric about the center, such as (-3, -1, 1, 3), so that a dilated convolution can compute the tile.

    Args:
        size: Rows and columns of the kernel, odd.
        stride: Pixels.
        arithmetic: One of `ARITHMETICS`, which gives the costs.

    Returns:
        A tuple of (rows, columns), each a tuple of offsets in pixels; together they cover each tap once.
    """
    # At stride 2, SAME pads an even image one pixel less before than after, except for a single row.
    shortest = 1 if stride == 1 else 2
    costs = ARITHMETICS[arithmetic].costs_of_taps
    halvings = _bipartitions if size <= _MAX_SEARCHED else _even_bipartitions

    @functools.cache
    def cover(rows, columns):
        best: tuple[float, tuple] = (float("inf"), ())
        combs = _comb(rows), _comb(columns)
        if None not in combs and min(map(len, combs)) >= shortest and len(combs[0]) * len(combs[1]) <= MAX_TAPS:
            taps = len(combs[0]) * len(combs[1])
            best = (next(cost for most, cost in costs.items() if taps <= most), (combs,))
        halves = [(cover(a, columns), cover(b, columns)) for a, b in halvings(rows)]
        halves += [(cover(rows, a), cover(rows, b)) for a, b in halvings(columns)]
        for (cost_1, tiles_1), (cost_2, tiles_2) in halves:
            if cost_1 + cost_2 < best[0] - 1e-9:
                best = (cost_1 + cost_2, tiles_1 + tiles_2)
        return best

    magnitudes = tuple(range(size // 2 + 1))
    return cover(magnitudes, magnitudes)[1]


@functools.cache
def _comb(magnitudes):
    """The offsets with these distances from the center if they are evenly spaced, else None."""
    offsets = tuple(sorted({sign * m for m in magnitudes for sign in (-1, 1)}))
    steps = {b - a for a, b in zip(offsets, offsets[1:], strict=False)}
    return offsets if len(steps) <= 1 else None


@functools.cache
def _bipartitions(magnitudes):
    first, *rest = magnitudes
    halves = []
    for mask in range(2 ** len(rest) - 1):
        a = (first, *(m for i, m in enumerate(rest) if mask >> i & 1))
        halves.append((a, tuple(m for m in magnitudes if m not in a)))
    return halves


@functools.cache
def _even_bipartitions(magnitudes):
    """Divides evenly spaced distances into two evenly spaced halves: near and far, or every other one."""
    halves = [(magnitudes[:place], magnitudes[place:]) for place in range(1, len(magnitudes))]
    return [*halves, (magnitudes[::2], magnitudes[1::2])] if len(magnitudes) > 2 else halves


def _step(comb):
    return comb[1] - comb[0] if len(comb) > 1 else 1
