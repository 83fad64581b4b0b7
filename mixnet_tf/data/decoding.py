"""Decodes images with TensorFlow, and with our own decoder where TensorFlow misreads a BMP."""

import functools
from collections.abc import Callable

import tensorflow as tf

from mixnet_tf.data.orientation import exif_orientation, stored_window, turned, turned_shape
from mixnet_tf.data.rules import NEWEST, Rules

FORMATS = "JPEG, PNG, GIF, WebP or uncompressed BMP"
_WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0/\0\0\0\0\x07\x10\x11\xfd\x0fDD\xff\x03"  # one black pixel
_HEADER = 70  # bytes of a BMP up to the masks after its header
_STANDARD_RED = 0xFF0000  # red's mask in a BMP of 32 bits with the byte order that TensorFlow assumes


@functools.cache
def decodes_webp() -> bool:
    """Whether the installed TensorFlow decodes WebP."""
    with tf.init_scope():
        try:
            tf.io.decode_image(_WEBP, channels=3, expand_animations=False)
        except tf.errors.InvalidArgumentError:
            return False
    return True


def readable(endings: tuple[str, ...]) -> tuple[str, ...]:
    """The file endings whose images the installed TensorFlow can decode."""
    return tuple(ending for ending in endings if ending != ".webp" or decodes_webp())


def decode_image(image_bytes: tf.Tensor, rules: Rules = NEWEST) -> tf.Tensor:
    """Decodes a whole image.

    Args:
        image_bytes: Scalar string tensor: JPEG, PNG, GIF (its first frame), WebP or BMP.
        rules: The `Rules`; if they say so, a JPEG is turned by its EXIF orientation.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    if rules.applies_palettes:
        is_bmp = tf.strings.regex_full_match(tf.strings.substr(image_bytes, 0, 2), "BM")
        image = tf.cond(is_bmp, lambda: _decode_bmp(image_bytes), lambda: _decode_by_tensorflow(image_bytes))
    else:
        image = _decode_by_tensorflow(image_bytes)
    return turned(image, exif_orientation(image_bytes)) if rules.exif else image


def decode_window(image_bytes: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], rules: Rules = NEWEST) -> tf.Tensor:
    """Decodes a window of an image, of a JPEG nothing else.

    Args:
        image_bytes: Scalar string tensor: JPEG, PNG, GIF (its first frame), WebP or BMP.
        window: A function from the image's shape, int32 (3,), to int32 (4,): offset y, offset x, height and width,
            pixels.
        rules: The `Rules`; if they say so, a JPEG is turned, and shape and window are those of the turned image.

    Returns:
        uint8 (height, width, 3), RGB.
    """

    def from_jpeg():
        shape = tf.io.extract_jpeg_shape(image_bytes)
        if not rules.exif:
            return tf.io.decode_and_crop_jpeg(image_bytes, window(shape), channels=3)
        orientation = exif_orientation(image_bytes)
        shape = turned_shape(shape, orientation)
        stored = stored_window(window(shape), shape, orientation)
        return turned(tf.io.decode_and_crop_jpeg(image_bytes, stored, channels=3), orientation)

    def from_other():
        image = decode_image(image_bytes, rules)
        y, x, height, width = tf.unstack(window(tf.shape(image)))
        return image[y : y + height, x : x + width]

    return tf.cond(tf.io.is_jpeg(image_bytes), from_jpeg, from_other)


def image_shape(image_bytes: tf.Tensor, rules: Rules = NEWEST) -> tf.Tensor:
    """int32 (height, width, channels) of an encoded image, as it is turned; a JPEG is not decoded."""

    def of_jpeg():
        shape = tf.io.extract_jpeg_shape(image_bytes)
        return turned_shape(shape, exif_orientation(image_bytes)) if rules.exif else shape

    return tf.cond(tf.io.is_jpeg(image_bytes), of_jpeg, lambda: tf.shape(decode_image(image_bytes, rules)))


def _decode_by_tensorflow(image_bytes):
    return tf.io.decode_image(image_bytes, channels=3, expand_animations=False)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])  # traced once, not for each pipeline
def _decode_bmp(image_bytes):
    """Decodes a BMP with its palette, which TensorFlow ignores; refuses files that TensorFlow would misread."""
    with tf.name_scope("DecodeBmp"):  # a name by which `corruption` recognizes the error
        header = tf.cast(tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=_HEADER), tf.int32)
        bits, compression = header[28] + 256 * header[29], _number(header, 30)
        indexed = (compression == 0) & ((bits == 1) | (bits == 4) | (bits == 8))
        masked = (compression == 3) & (bits == 32) & (_number(header, 54) == _STANDARD_RED)
        direct = ((compression == 0) & ((bits == 24) | (bits == 32))) | masked
        message = "a BMP that is compressed, or not of 1, 4, 8, 24 or 32 bits a pixel"
        known = tf.debugging.Assert((_number(header, 14) >= 40) & (indexed | direct), [message])
        with tf.control_dependencies([known]):
            return tf.cond(
                indexed,
                lambda: _decode_indexed(image_bytes, header, bits),
                lambda: _decode_by_tensorflow(image_bytes),
            )


def _decode_indexed(image_bytes, header, bits):
    """The pixels of a BMP with palette indices: uint8 (height, width, 3)."""
    content = tf.io.decode_raw(image_bytes, tf.uint8)
    start, width, height = (_number(header, place) for place in (10, 18, 22))
    row, rows = (width * bits + 31) // 32 * 4, tf.abs(height)
    fits = (width > 0) & (rows > 0) & (start <= tf.size(content)) & (row <= (tf.size(content) - start) // rows)
    with tf.control_dependencies([tf.debugging.Assert(fits, ["a BMP cut short"])]):
        packed = tf.cast(tf.reshape(content[start : start + row * rows], (rows, row)), tf.int32)
    shifts = tf.range(8 - bits, -1, -bits)
    unpacked = tf.bitwise.right_shift(packed[..., tf.newaxis], shifts) % tf.bitwise.left_shift(1, bits)
    numbers = tf.reshape(unpacked, (rows, -1))[:, :width]
    palette = _palette(content, 14 + _number(header, 14), start, _number(header, 46))
    return tf.gather(palette, tf.where(height > 0, numbers[::-1], numbers))  # most files have the lowest row first


def _palette(content, first, start, colors):
    """uint8 (256, 3), RGB: the palette between a BMP's header and its pixels, padded with black."""
    room = tf.maximum(start - first, 0) // 4
    colors = tf.where((colors > 0) & (colors < room), colors, tf.minimum(room, 256))
    found = tf.reshape(content[first : first + 4 * colors], (-1, 4))[:, 2::-1]  # blue, green, red and an unused byte
    return tf.pad(found, [[0, 256 - tf.shape(found)[0]], [0, 0]])


def _number(header, place):
    """The little-endian int32 at an offset in a BMP's header."""
    return tf.reduce_sum(header[place : place + 4] * (1, 1 << 8, 1 << 16, 1 << 24))
