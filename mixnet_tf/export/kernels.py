"""Splits a large depthwise kernel into a sum of small ones (tiles)."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mixnet_tf.export.arithmetics import ARITHMETICS
from mixnet_tf.networks import SAME, SYMMETRIC, same_padding

MAX_TAPS = 25
# Pixels: up to this size all halvings are tried; the time doubles with each row, so beyond it only a few are.
_MAX_SEARCHED = 13
# Relative to 9 taps, as `Arithmetic.costs_of_taps`: instructions on ARM64. Each rectangle also copies a window.
_COSTS_OF_RECTANGLES = {4: 0.67, 9: 1.0, 25: 1.85}


def depthwise_conv2d(
    inputs: tf.Tensor,
    kernel: np.ndarray,
    stride: int,
    rate: int,
    bias: np.ndarray,
    arithmetic: str | None = "float32",
    padding: str = SAME,
) -> tf.Tensor:
    """Depthwise convolution with bias; a large kernel is computed as a sum of tiles.

    At stride 1 they are `cheapest_tiles`, dilated. NPUs refuse a dilation at stride 2, where they are
    `cheapest_rectangles`, each of which convolves another window of the images.

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
    knows_size = None not in inputs.shape[1:3]
    if arithmetic is not None and rate == 1 and size * size > MAX_TAPS and (stride == 1 or knows_size):
        return _sum_of_tiles(inputs, kernel, stride, bias, arithmetic, padding)
    if not differs(padding, stride, inputs.shape[1:3]):
        return tf.nn.depthwise_conv2d(inputs, kernel, (1, stride, stride, 1), "SAME", dilations=(rate, rate)) + bias
    padded = pad_symmetrically(inputs, size)
    return tf.nn.depthwise_conv2d(padded, kernel, (1, stride, stride, 1), "VALID") + bias


def differs(padding: str, stride: int, image_size: Sequence[int]) -> bool:
    """Whether a padding is another one than SAME, for odd kernels on an image of even size (height, width)."""
    return padding == SYMMETRIC and any((n - 1) % stride for n in image_size)


def pad_symmetrically(inputs: tf.Tensor, size: int) -> tf.Tensor:
    """Pads images with size // 2 zeros on every side; XNNPACK computes it within the convolution that follows."""
    sides = (size // 2, size // 2)
    return tf.pad(inputs, [(0, 0), sides, sides, (0, 0)])


def _sum_of_tiles(inputs, kernel, stride, bias, arithmetic, padding):
    if stride == 1:
        convolve, tiles = _dilated, cheapest_tiles(kernel.shape[0], arithmetic)
    else:
        inputs, convolve = _padded(inputs, kernel.shape[0], stride, padding), _windowed
        tiles = cheapest_rectangles(kernel.shape[0])
    total = None
    for rows, columns in tiles:
        tile = convolve(inputs, kernel, stride, rows, columns)
        # A depthwise op without a bias is not delegated; the converter adds a bias of zeros to other ops.
        total = tile + bias if total is None else total + tile
    return total


def _dilated(inputs, kernel, _, rows, columns):
    """The convolution with a tile of evenly spaced taps, whose SAME padding centers it."""
    taps = kernel[np.ix_(*(np.array(comb) + kernel.shape[0] // 2 for comb in (rows, columns)))]
    rates = tuple(comb[1] - comb[0] if len(comb) > 1 else 1 for comb in (rows, columns))
    return tf.nn.depthwise_conv2d(inputs, taps, (1, 1, 1, 1), "SAME", dilations=rates)


def _windowed(padded, kernel, stride, rows, columns):
    """The convolution with a rectangle of taps, on the window of the padded images that they meet."""
    size = kernel.shape[0]
    ends = (last - (size - taps.stop) for last, taps in zip(padded.shape[1:3], (rows, columns), strict=True))
    (bottom, right), taps = ends, kernel[rows.start : rows.stop, columns.start : columns.stop]
    window = padded[:, rows.start : bottom, columns.start : right]
    return tf.nn.depthwise_conv2d(window, taps, (1, stride, stride, 1), "VALID")


def _padded(inputs, size, stride, padding):
    """Images with the zeros that a convolution with these strides and padding meets."""
    if padding == SYMMETRIC:
        return pad_symmetrically(inputs, size)
    rows, columns = (same_padding(n, size, stride) for n in inputs.shape[1:3])
    return tf.pad(inputs, [(0, 0), rows, columns, (0, 0)])


def _within_reach(kernel, rate, image_size):
    """The middle of a kernel, without the taps that meet only padding at every position.

    XNNPACK cannot prepare an int8 convolution in which all taps do.
    """
    if None in image_size:
        return kernel
    radius = kernel.shape[0] // 2
    reach = min(radius, (max(image_size) - 1) // rate)
    return kernel[radius - reach : radius + reach + 1, radius - reach : radius + reach + 1]


@functools.cache
def cheapest_tiles(size: int, arithmetic: str = "float32") -> tuple:
    """Covers a square kernel of stride 1 exactly by tiles that SAME padding centers correctly.

    The cover is the cheapest one up to `_MAX_SEARCHED` pixels, and a cheap one beyond.

    A tile is a set of rows times a set of columns. Each set has offsets from the kernel's center that are evenly spaced
    and symmetric about the center, such as (-3, -1, 1, 3), so that a dilated convolution can compute the tile.

    Args:
        size: Rows and columns of the kernel, odd.
        arithmetic: One of `ARITHMETICS`, which gives the costs.

    Returns:
        A tuple of (rows, columns), each a tuple of offsets in pixels; together they cover each tap once.
    """
    costs = ARITHMETICS[arithmetic].costs_of_taps
    halvings = _bipartitions if size <= _MAX_SEARCHED else _even_bipartitions

    @functools.cache
    def cover(rows, columns):
        best: tuple[float, tuple] = (float("inf"), ())
        combs = _comb(rows), _comb(columns)
        if None not in combs and len(combs[0]) * len(combs[1]) <= MAX_TAPS:
            best = (_cost(len(combs[0]) * len(combs[1]), costs), (combs,))
        halves = [(cover(a, columns), cover(b, columns)) for a, b in halvings(rows)]
        halves += [(cover(rows, a), cover(rows, b)) for a, b in halvings(columns)]
        for (cost_1, tiles_1), (cost_2, tiles_2) in halves:
            if cost_1 + cost_2 < best[0] - 1e-9:
                best = (cost_1 + cost_2, tiles_1 + tiles_2)
        return best

    magnitudes = tuple(range(size // 2 + 1))
    return cover(magnitudes, magnitudes)[1]


@functools.cache
def cheapest_rectangles(size: int) -> tuple:
    """Covers a square kernel exactly by rectangles, the cheapest ones that cutting it in two, again and again, gives.

    Args:
        size: Rows and columns of the kernel.

    Returns:
        A tuple of (rows, columns), each a `range` of the kernel's; together they cover each tap once.
    """

    @functools.cache
    def cover(height, width):
        """(cost, rectangles) of the cheapest cover of so many rows and columns."""
        best: tuple[float, tuple] = (float("inf"), ())
        if height * width <= MAX_TAPS:
            best = (_cost(height * width, _COSTS_OF_RECTANGLES), ((range(height), range(width)),))
        cuts = [((place, width), (height - place, width), (place, 0)) for place in range(1, height)]
        cuts += [((height, place), (height, width - place), (0, place)) for place in range(1, width)]
        for first, second, (down, right) in cuts:
            (cost_1, tiles_1), (cost_2, tiles_2) = cover(*first), cover(*second)
            if cost_1 + cost_2 < best[0] - 1e-9:
                best = (cost_1 + cost_2, tiles_1 + _moved(tiles_2, down, right))
        return best

    return cover(size, size)[1]


def _moved(tiles, down, right):
    return tuple(
        (range(rows.start + down, rows.stop + down), range(columns.start + right, columns.stop + right))
        for rows, columns in tiles
    )


def _cost(taps, costs):
    return next(cost for most, cost in costs.items() if taps <= most)


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
