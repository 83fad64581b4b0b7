"""A large depthwise kernel as a sum of small dilated ones."""

import functools

import numpy as np
import tensorflow as tf

from mixnet_tf.export.arithmetics import ARITHMETICS

MAX_TAPS = 25
# Pixels: up to this size every cover by halves is tried; the time doubles with each row, and beyond it few halves are.
_MAX_SEARCHED = 13


def depthwise_conv2d(
    inputs: tf.Tensor, kernel: np.ndarray, stride: int, rate: int, bias: np.ndarray, arithmetic: str | None = "float32"
) -> tf.Tensor:
    """Depthwise convolution plus bias, SAME padding, as the sum of `cheapest_tiles` if the kernel is large.

    Args:
        inputs: (batch, height, width, channels), float32.
        kernel: numpy (k, k, channels, 1), float32.
        stride: Pixels, rows and columns alike.
        rate: Dilation, pixels. A dilated kernel is never split.
        bias: numpy (channels,), float32.
        arithmetic: One of `ARITHMETICS`, which kernels of more than `MAX_TAPS` taps are split for; None: they are not.

    Returns:
        (batch, ceil(height / stride), ceil(width / stride), channels).
    """
    kernel = _within_reach(kernel, rate, inputs.shape[1:3])
    size = kernel.shape[0]
    if rate != 1 or arithmetic is None or size * size <= MAX_TAPS:
        return _depthwise(inputs, kernel, stride, (rate, rate)) + bias
    total = None
    for rows, columns in cheapest_tiles(size, stride, arithmetic):
        taps = kernel[np.ix_(*(np.array(comb) + size // 2 for comb in (rows, columns)))]
        tile = _depthwise(inputs, taps, stride, (_step(rows), _step(columns)))
        # A depthwise op without a bias is not delegated; the converter gives one of zeros to the others.
        total = tile + bias if total is None else total + tile
    return total


def _within_reach(kernel, rate, image_size):
    """The middle of a kernel, without the taps that meet nothing but padding wherever they stand.

    XNNPACK cannot prepare an int8 convolution all of whose taps do.
    """
    if None in image_size:
        return kernel
    radius = kernel.shape[0] // 2
    reach = min(radius, (max(image_size) - 1) // rate)
    return kernel[radius - reach : radius + reach + 1, radius - reach : radius + reach + 1]


def _depthwise(inputs, kernel, stride, rates):
    if rates == (1, 1) or stride == 1:
        return tf.nn.depthwise_conv2d(inputs, kernel, (1, stride, stride, 1), "SAME", dilations=rates)
    # LiteRT computes what TensorFlow only lets one write: a stride and a dilation at once.
    return tf.raw_ops.DepthwiseConv2dNative(
        input=inputs, filter=kernel, strides=(1, stride, stride, 1), padding="SAME", dilations=(1, *rates, 1)
    )


@functools.cache
def cheapest_tiles(size: int, stride: int, arithmetic: str = "float32") -> tuple:
    """An exact cover of a square kernel by tiles that SAME padding centers where they belong.

    It is the cheapest one up to `_MAX_SEARCHED` pixels, and a cheap one beyond.

    A tile is a comb of rows times a comb of columns: offsets from the kernel's center with one distance between
    neighbours and symmetric about the center, such as (-3, -1, 1, 3), so that a dilated convolution computes it.

    Args:
        size: Rows and columns of the kernel, odd.
        stride: Pixels.
        arithmetic: One of `ARITHMETICS`, whose costs count.

    Returns:
        A tuple of (rows, columns), each a tuple of offsets in pixels, together covering each tap once.
    """
    # At stride 2 SAME pads an even image one pixel less before than after, save for a single row, which it cannot.
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
    """The offsets of these distances from the center if they are evenly spaced, else None."""
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
    """Those of evenly spaced distances into two that are evenly spaced again: nearer and farther, every other one."""
    halves = [(magnitudes[:place], magnitudes[place:]) for place in range(1, len(magnitudes))]
    return [*halves, (magnitudes[::2], magnitudes[1::2])] if len(magnitudes) > 2 else halves


def _step(comb):
    return comb[1] - comb[0] if len(comb) > 1 else 1
