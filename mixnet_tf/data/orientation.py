"""The EXIF orientation of a JPEG, and the turn that it stands for; images of other formats are not turned."""

import tensorflow as tf

_MAX_SEGMENTS = 100  # to look at
# Second byte of a marker: the lowest one of the segments that applications add, which come first, and of padding.
_ADDED, _FILL = 0xE0, 0xFF
_EXIF = (0xFF, 0xE1, *b"Exif\0\0")  # begin of the segment, without the length after the marker
_HEADER = 10  # bytes: marker, length and name
_TAG = 0x0112  # of the orientation
_BYTE, _SHORT, _LONG = 1, 3, 4  # kinds of whole numbers, all of which a reader has to accept
_ENTRY = 12  # bytes: tag, kind, count and value
# By orientation (0 does not occur): whether rows and columns are exchanged, and which of them are reversed after that.
_EXCHANGED = (False, False, False, False, False, True, True, True, True)
_ROWS_REVERSED = (False, False, False, True, True, False, False, True, True)
_COLUMNS_REVERSED = (False, False, True, True, False, False, True, True, False)
_REVERSED = tuple(zip(_ROWS_REVERSED, _COLUMNS_REVERSED, strict=True))


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)  # traced once, not for each pipeline
def exif_orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of an encoded image, which is not decoded.

    Args:
        image_bytes: Scalar string tensor: an encoded image, or its first bytes.

    Returns:
        Scalar int32 from 1 to 8. 1, an image that is not turned, also stands for an image that is no JPEG, for one
        without an orientation, and for EXIF data that is not well-formed. XMP is not read.

    Source: the APP1 segment and the tag Orientation of CIPA DC-008 (EXIF); TIFF 6.0, section 2.
    """

    def segment(at):
        return at, _bytes(image_bytes, at, _HEADER)

    def following(at, header):  # a marker may be padded
        return segment(at + tf.where(header[1] == _FILL, tf.constant(1, tf.int64), 2 + _number(header[2:4])))

    def is_another(_, header):
        return (header[0] == 0xFF) & (header[1] >= _ADDED) & ~_is_exif(header)

    def orientation():
        at, header = tf.while_loop(
            is_another, following, segment(tf.constant(2, tf.int64)), maximum_iterations=_MAX_SEGMENTS
        )
        size = tf.maximum(_number(header[2:4]) - (_HEADER - 2), 0)
        return tf.cond(
            _is_exif(header),
            lambda: _of_tiff(_part(image_bytes, at + _HEADER, size)),
            lambda: tf.constant(1),
        )

    return tf.cond(tf.io.is_jpeg(image_bytes), orientation, lambda: tf.constant(1))


def _is_exif(header):
    return tf.reduce_all(tf.concat([header[:2], header[4:]], 0) == _EXIF)


def _of_tiff(tiff):
    """The orientation in the first directory of a TIFF structure; of several ones the last."""
    order = _bytes(tiff, 0, 4)
    is_little, is_big = tf.reduce_all(order == (*b"II", 42, 0)), tf.reduce_all(order == (*b"MM", 0, 42))

    def number(digits):
        return _number(tf.where(is_little, digits[..., ::-1], digits))

    directory = number(_bytes(tiff, 4, 4))
    room = (_length(tiff) - directory - 2) // _ENTRY
    count = tf.maximum(tf.minimum(number(_bytes(tiff, directory, 2)), room), 1)  # 1: of zeros
    entries = tf.reshape(_bytes(tiff, directory + 2, count * _ENTRY), (-1, _ENTRY))
    kinds, value = number(entries[:, 2:4]), entries[:, 8:]
    values = tf.where(kinds == _BYTE, value[:, 0], tf.where(kinds == _SHORT, number(value[:, :2]), number(value)))
    is_whole = (kinds == _BYTE) | (kinds == _SHORT) | (kinds == _LONG)
    is_ours = (number(entries[:, :2]) == _TAG) & (number(entries[:, 4:8]) == 1) & is_whole
    found = tf.concat([tf.constant([1], tf.int64), values[is_ours]], 0)[-1]
    return tf.where((is_little | is_big) & (found <= 8), tf.maximum(tf.cast(found, tf.int32), 1), 1)


def _part(string, at, count):
    """A part of a string; empty past its end, where the op itself would fail."""
    return tf.strings.substr(string, tf.minimum(tf.cast(at, tf.int64), _length(string)), tf.cast(count, tf.int64))


def _bytes(string, at, count):
    """int64 (count,): bytes of a string from an offset on, 0 past its end."""
    found = tf.io.decode_raw(_part(string, at, count), tf.uint8, fixed_length=tf.cast(count, tf.int32))
    return tf.cast(found, tf.int64)


def _number(digits):
    """The int64 numbers of bytes (..., count), the most significant byte first."""
    weights = [256**place for place in reversed(range(digits.shape[-1]))]
    return tf.reduce_sum(digits * tf.constant(weights, tf.int64), -1)


def _length(string):
    return tf.cast(tf.strings.length(string), tf.int64)


def turned_shape(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The shape of a turned image.

    Args:
        shape: int32 (height, width, channels) of the stored image, pixels.
        orientation: Scalar int32, its `exif_orientation`.
    """
    # Not a slice with a negative step, of which TensorFlow's optimizer complains.
    return tf.gather(shape, tf.where(_exchanges(orientation), (1, 0, 2), (0, 1, 2)))


def stored_window(window: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The window of the stored image that becomes a window of the turned one.

    Args:
        window: int32 (4,) in the turned image: offset y, offset x, height and width, pixels.
        shape: int32 (height, width, channels) of the turned image, pixels.
        orientation: Scalar int32, the `exif_orientation`.

    Returns:
        int32 (4,) in the stored image.
    """
    offset, size = window[:2], window[2:]
    offset = tf.where(_reverses(orientation), shape[:2] - offset - size, offset)
    order = tf.where(_exchanges(orientation), (1, 0, 3, 2), (0, 1, 2, 3))
    return tf.gather(tf.concat([offset, size], 0), order)


def turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns an image, or a window of it.

    Args:
        image: uint8 (height, width, 3), as stored.
        orientation: Scalar int32, its `exif_orientation`.

    Returns:
        uint8 (height, width, 3), or (width, height, 3) for the orientations 5 to 8.
    """

    def turn():
        upright = tf.cond(_exchanges(orientation), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        # Twelve times as fast as a slice whose steps are tensors.
        return tf.reverse(upright, tf.where(_reverses(orientation))[:, 0])

    return tf.ensure_shape(tf.cond(orientation == 1, lambda: image, turn), (None, None, 3))


def _exchanges(orientation):
    return tf.gather(_EXCHANGED, orientation)


def _reverses(orientation):
    """Whether rows and whether columns are reversed: bool (2,)."""
    return tf.gather(_REVERSED, orientation)
