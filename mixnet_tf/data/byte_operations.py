"""Operations on images of bytes, equal to Pillow's to the bit unless a docstring says otherwise.

An image is uint8 (height, width, 3), RGB, and so is each result.
"""

import math
from typing import Any

import tensorflow as tf

_GREY = 128  # fills what a moved image leaves empty. Source: tensorflow/tpu, efficientnet/autoaugment.py:unwrap
_LUMA = (19595, 38470, 7471)  # parts of 65536. Source: python-pillow/Pillow, src/libImaging/Convert.c:L24


def invert(image: tf.Tensor) -> tf.Tensor:
    """The negative."""
    return 255 - image


def posterize(image: tf.Tensor, bits: Any) -> tf.Tensor:
    """Keeps the highest `bits` bits, from 0 to 8."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - bits)
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image: tf.Tensor, threshold: Any) -> tf.Tensor:
    """Inverts the values from `threshold` on."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, addition: Any) -> tf.Tensor:
    """Adds a number from 0 to the values below 128; Pillow has no such operation."""
    values = tf.cast(image, tf.int32)
    return tf.where(values < 128, tf.cast(tf.minimum(values + addition, 255), tf.uint8), image)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches the values of each channel to the range from 0 to 255."""
    low, high = (tf.cast(reduce(image, (0, 1)), tf.float64) for reduce in (tf.reduce_min, tf.reduce_max))
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)[:, tf.newaxis]
    offset = tf.where(high > low, -low, 0)[:, tf.newaxis] * scale
    table = tf.range(256, dtype=tf.float64) * scale + offset
    return _looked_up(_places(image), tf.clip_by_value(table, 0, 255))


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Spreads the values of each channel, so that about equally many pixels have each value."""
    places = _places(image)
    counts = tf.math.bincount(tf.reshape(places, [-1]), minlength=3 * 256, maxlength=3 * 256)
    counts = tf.reshape(counts, (3, 256))
    of_highest = tf.gather(counts, tf.cast(tf.reduce_max(image, (0, 1)), tf.int32), batch_dims=1)
    step = ((tf.size(image) // 3 - of_highest) // 255)[:, tf.newaxis]
    spread = (step // 2 + tf.cumsum(counts, 1, exclusive=True)) // tf.maximum(step, 1)
    return _looked_up(places, tf.where(step > 0, tf.minimum(spread, 255), tf.range(256)))


def _places(image):
    """The place of each value in a flat table of 256 entries per channel."""
    return tf.cast(image, tf.int32) + (0, 256, 512)


def _looked_up(places, table):
    return tf.gather(tf.reshape(tf.cast(table, tf.uint8), [-1]), places)


def brightness(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """Moves each pixel away from black; a factor of 1 changes nothing."""
    return _enhanced(0.0, image, factor)


def contrast(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """Moves each pixel away from the mean of the grey image; a factor of 1 changes nothing."""
    grey = tf.cast(_grey(image), tf.int64)  # whose sum a float32 would round
    count = tf.size(grey, tf.int64)
    return _enhanced(tf.cast((2 * tf.reduce_sum(grey) + count) // (2 * count), tf.float32), image, factor)


def color(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """Moves each pixel away from its grey (saturation); a factor of 1 changes nothing."""
    return _enhanced(_grey(image), image, factor)


def sharpness(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """Moves each pixel away from the mean of its neighborhood, except at the border; a factor of 1 changes nothing."""
    pixels = tf.cast(image, tf.float32)
    kernel = tf.tile(tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]])[..., tf.newaxis, tf.newaxis], (1, 1, 3, 1))
    sums = tf.nn.depthwise_conv2d(pixels[tf.newaxis], kernel, (1, 1, 1, 1), "VALID")[0]
    change = tf.floor(sums / 13 + 0.5) - pixels[1:-1, 1:-1]
    return _enhanced(pixels + tf.pad(change, ((1, 1), (1, 1), (0, 0))), image, factor)


def _grey(image):
    """Whole numbers as float32 (height, width, 1): all sums are below 2**24, so exact, and faster than integers."""
    parts = [
        part * channel for part, channel in zip(_LUMA, tf.unstack(tf.cast(image, tf.float32), axis=-1), strict=True)
    ]
    return tf.floor((tf.add_n(parts) + 32768) / 65536)[..., tf.newaxis]


def _enhanced(other, image, factor):
    values = other + factor * (tf.cast(image, tf.float32) - other)
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)  # truncates, as Pillow does


def rotate(image: tf.Tensor, degrees: Any) -> tf.Tensor:
    """Rotates counterclockwise about the center."""
    shape = tf.cast(tf.shape(image), tf.float32)
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    cos, sin = tf.cos(degrees * (math.pi / 180)), tf.sin(degrees * (math.pi / 180))
    return affine_bytes(image, (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))


def affine_bytes(image: tf.Tensor, to_x: tuple[Any, Any, Any], to_y: tuple[Any, Any, Any]) -> tf.Tensor:
    """Moves pixels to the nearest place; what is left empty becomes grey.

    Args:
        image: The image.
        to_x: Factors of x, y and 1, pixels, whose sum is the x in the image that an x and y of the result come from.
        to_y: The same for y.
    """
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack([*to_x, *to_y, 0.0, 0.0])[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        interpolation="NEAREST",
        fill_mode="CONSTANT",
        fill_value=float(_GREY),
    )
    return moved[0]


def cutout(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Fills a box, as `inside` takes it, with grey."""
    return tf.where(inside(box, tf.shape(image)), tf.constant(_GREY, tf.uint8), image)


def inside(box: tf.Tensor, shape: Any) -> tf.Tensor:
    """Which pixels of an image are in a box.

    Args:
        box: int32 (4,): first row, first column, the row and the column after the last; it may lie partly outside.
        shape: (height, width, ...) of the image, pixels.

    Returns:
        bool (height, width, 1).
    """
    top, left, bottom, right = tf.unstack(box)
    rows, columns = tf.range(shape[0]), tf.range(shape[1])
    of_row, of_column = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (of_row[:, tf.newaxis] & of_column)[..., tf.newaxis]
