"""Turned JPEGs against Pillow: all orientations, any window, and EXIF data that is broken on purpose."""

import io
import struct
import warnings

import numpy as np
import pytest
import tensorflow as tf
from photographs import exif, jpeg, orientation, segment, tiff, turned, with_segments

from mixnet_tf.data import NEWEST, decode_image, preprocess_for_eval, preprocess_for_train
from mixnet_tf.data.decoding import decode_window, decodes_webp, image_shape
from mixnet_tf.data.orientation import exif_orientation
from mixnet_tf.data.preprocessing import center_window, random_window
from mixnet_tf.data.rules import rules_of

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")
_TURNING = NEWEST._replace(exif=True)
_SHAPES = ((37, 61), (61, 37), (1, 9), (48, 48))


def _pillows(pixels, orientation):
    """TensorFlow's pixels of a stored JPEG, turned by Pillow."""
    image = Image.fromarray(pixels.numpy())
    image.getexif()[0x0112] = orientation
    return np.array(ImageOps.exif_transpose(image))


@pytest.fixture(scope="module")
def decode():
    """Traced functions, as each is called many times."""
    encoded, window = tf.TensorSpec((), tf.string), tf.TensorSpec((4,), tf.int32)
    return {
        "whole": tf.function(lambda encoded: decode_image(encoded, _TURNING), [encoded]),
        "shape": tf.function(lambda encoded: image_shape(encoded, _TURNING), [encoded]),
        "window": tf.function(
            lambda encoded, window: decode_window(encoded, lambda _: window, _TURNING), [encoded, window]
        ),
    }


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("height, width", _SHAPES)
def test_a_jpeg_is_turned_as_pillow_turns_it_and_cropped_then(height, width, orientation, order, decode):
    stored = jpeg(height, width)
    encoded = turned(stored, orientation, order)
    whole = _pillows(tf.io.decode_jpeg(stored), orientation)
    np.testing.assert_array_equal(decode["whole"](encoded), whole)
    np.testing.assert_array_equal(decode["shape"](encoded), whole.shape)
    windows = [random_window(whole.shape, 32, (7, i)) for i in range(10)]
    for y, x, h, w in np.array([*windows, center_window(whole.shape, 32), center_window(whole.shape, 224)]):
        np.testing.assert_array_equal(decode["window"](encoded, (y, x, h, w)), whole[y : y + h, x : x + w])


@pytest.mark.parametrize("orientation", (1, 6))
def test_evaluation_and_training_see_the_turned_image(orientation):
    stored = jpeg(37, 61)
    encoded = turned(stored, orientation)
    upright = tf.io.encode_png(_pillows(tf.io.decode_jpeg(stored), orientation))
    for prepare in (
        lambda image, rules: preprocess_for_eval(image, 24, rules=rules),
        lambda image, rules: preprocess_for_train(image, 24, (1, 2), rules=rules),
    ):
        np.testing.assert_array_equal(prepare(encoded, _TURNING), prepare(upright, NEWEST))
        np.testing.assert_array_equal(prepare(encoded, NEWEST), prepare(stored, NEWEST))


def test_other_formats_are_not_turned():
    image = Image.fromarray(np.arange(105, dtype="uint8").reshape(5, 7, 3))
    exif = image.getexif()
    exif[0x0112] = 6
    for kind in ("PNG", *(["WEBP"] if decodes_webp() else [])):
        file = io.BytesIO()
        image.save(file, kind, exif=exif.tobytes(), lossless=True)
        assert exif_orientation(file.getvalue()) == 1
        np.testing.assert_array_equal(decode_image(file.getvalue(), _TURNING), np.array(image))


def test_rules_of_0_2_0_turn_if_they_are_told_to():
    stored = jpeg(37, 61)
    encoded = turned(stored, 6)
    assert decode_image(encoded, rules_of(0)).shape == (37, 61, 3)
    assert decode_image(encoded, rules_of(0, exif=True)).shape == (61, 37, 3)


_SMALL = jpeg(16, 16)
_JFIF = _SMALL[2:20]
_SIX = orientation(6)
_ODD = {  # (segments in front, the orientation)
    "after a comment and others": ([segment(0xFE, b"x" * 60000), segment(0xE2, b"ICC"), exif(tiff([_SIX]))], 6),
    "after XMP": ([segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), exif(tiff([_SIX]))], 6),
    "after fill bytes": ([b"\xff\xff\xff", exif(tiff([_SIX]))], 6),
    "among many entries": ([exif(tiff([(i, 3, 1, bytes(4)) for i in range(5000)] + [_SIX]))], 6),
    "of two segments the first counts": ([exif(tiff([_SIX])), exif(tiff([orientation(3)]))], 6),
    "of two entries the last counts": ([exif(tiff([_SIX, orientation(3)]))], 3),
    "directory far away": ([exif(tiff([_SIX], directory=60000))], 6),
    "a byte": ([exif(tiff([orientation(6, kind=1)]))], 6),
    "a long": ([exif(tiff([orientation(6, ">", 4)], ">"))], 6),
    "0": ([exif(tiff([orientation(0)]))], 1),
    "9": ([exif(tiff([orientation(9)]))], 1),
    "65535": ([exif(tiff([orientation(65535)]))], 1),
    "2**32 - 1": ([exif(tiff([orientation(2**32 - 1, kind=4)]))], 1),
    "text": ([exif(tiff([(0x0112, 2, 1, b"6\0\0\0")]))], 1),
    "signed": ([exif(tiff([orientation(6, kind=8)]))], 1),
    "no item": ([exif(tiff([(0x0112, 3, 0, b"\6\0\0\0")]))], 1),
    "many items elsewhere": ([exif(tiff([(0x0112, 3, 2**32 - 1, b"\xff\xff\xff\xff")]))], 1),
    "no entries": ([exif(tiff([]))], 1),
    "no EXIF": ([segment(0xE1, b"Exif\0")], 1),
    "another name": ([segment(0xE1, b"Exif\0\1" + tiff([_SIX]))], 1),
    "another segment": ([segment(0xE2, b"Exif\0\0" + tiff([_SIX]))], 1),
    "neither II nor MM": ([exif(b"IM" + tiff([_SIX])[2:])], 1),
    "the other byte order": ([exif(b"MM" + tiff([_SIX])[2:])], 1),
    "directory past the end": ([exif(tiff([_SIX])[:4] + b"\xff\xff\xff\x7f" + tiff([_SIX])[8:])], 1),
    "directory at 2**32 - 1": ([exif(tiff([_SIX])[:4] + b"\xff\xff\xff\xff" + tiff([_SIX])[8:])], 1),
    "directory at itself": ([exif(tiff([_SIX])[:4] + bytes(4) + tiff([_SIX])[8:])], 1),
    "65,535 entries of which one is there": ([exif(tiff([_SIX])[:8] + b"\xff\xff" + tiff([_SIX])[10:])], 6),
    "a segment of length 0": ([b"\xff\xe1\0\0", exif(tiff([_SIX]))], 1),
    "a segment past the end": ([b"\xff\xe0\xff\xff", exif(tiff([_SIX]))], 1),
    "behind a table of the image": ([segment(0xDB, bytes(65)), exif(tiff([_SIX]))], 1),
    "behind too many segments": ([*[segment(0xFE, b"")] * 200, exif(tiff([_SIX]))], 1),
    "behind 90 segments": ([*[segment(0xFE, b"")] * 90, exif(tiff([_SIX]))], 6),
    "behind 99,999 fill bytes": ([b"\xff" * 99_999, exif(tiff([_SIX]))], 1),
}


@pytest.mark.parametrize("name", _ODD)
def test_an_orientation_is_found_where_it_may_stand_and_is_1_otherwise(name):
    segments, expected = _ODD[name]
    assert exif_orientation(with_segments(_SMALL, *segments)) == expected


@pytest.mark.parametrize(
    "encoded", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1", b"II*\0", b"text"]
)
def test_what_is_no_jpeg_has_orientation_1(encoded):
    assert exif_orientation(encoded) == 1


def test_entries_past_the_end_of_the_segment_are_not_read():
    entry = (1, 3, 1, bytes(4))
    cut = tiff([entry])[:8] + b"\2\0" + struct.pack("<HHI4s", *entry)  # two entries, of which one is there
    assert exif_orientation(with_segments(_SMALL, exif(cut), struct.pack("<HHI4s", *_SIX))) == 1


@pytest.mark.parametrize("order", "<>")
def test_a_file_cut_anywhere_has_the_orientation_that_pillow_finds(order):
    encoded = turned(_SMALL, 6, order)
    end = encoded.index(b"xyz") + 12
    seen = [int(exif_orientation(encoded[:size])) for size in range(end)]
    whole = encoded.index(b"xyz") - 8  # the end of the orientation's entry
    assert seen == [1] * whole + [6] * (end - whole)


@pytest.mark.parametrize("order", "<>")
def test_damaged_bytes_are_never_an_error_and_give_what_pillow_finds(order):
    rng, encoded, count = np.random.default_rng(0), turned(_SMALL, 6, order), 400
    begin, agree, seen = encoded.index(b"Exif"), 0, set()
    end = encoded.index(b"xyz") + 4
    for _ in range(count):
        damaged = bytearray(encoded)
        for place in rng.integers(begin, end, 2):
            damaged[place] = rng.choice([0, 1, 0x7F, 0xFF, rng.integers(256)])
        found = int(exif_orientation(bytes(damaged)))
        seen.add(found)
        agree += found == _by_pillow(bytes(damaged))
    # Pillow takes no bytes for an orientation, and gives up if another entry cannot be read.
    assert agree >= 0.98 * count and {1, 6} <= seen <= set(range(1, 9))


def _by_pillow(encoded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = Image.open(io.BytesIO(encoded)).getexif().get(0x0112, 1)
        except Exception:
            return 1
    return value if value in range(1, 9) else 1
