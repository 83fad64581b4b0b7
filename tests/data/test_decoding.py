"""Encoded images to the pixels that Pillow gives."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.data import (
    corruption,
    decode_image,
    eval_batches,
    load_split,
    naming_corrupt_images,
    preprocess_for_eval,
)
from mixnet_tf.data.decoding import decodes_webp, image_shape
from mixnet_tf.data.rules import rules_of

Image = pytest.importorskip("PIL.Image")
_COLORS = bytes([0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0])  # red, green and blue, as a BMP has them


def _picture():
    y, x = np.mgrid[:7, :10]
    return Image.fromarray(np.stack([x * 25, y * 30, 200 - x * y], -1).astype("uint8"))


def _encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _pillows(encoded):
    return np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _bmp(bits, rows, colors=_COLORS, num_colors=3, height=7, compression=0, width=10):
    start = 54 + len(colors)
    sizes = struct.pack("<IHHI", start + len(rows), 0, 0, start)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 0, 0, num_colors, 0)
    return b"BM" + sizes + header + colors + rows


_INDEXED = {
    "8 bits, 256 colors": lambda: _encoded(_picture().quantize(256), "BMP"),
    "8 bits, 8 colors": lambda: _encoded(_picture().quantize(8), "BMP"),
    "8 bits, grays": lambda: _encoded(_picture().convert("L"), "BMP"),
    "8 bits, 3 colors": lambda: _bmp(8, (bytes([0, 1, 2, 2, 1, 0, 0, 1, 2, 1]) + b"\0\0") * 7),
    "8 bits, the highest row first": lambda: _bmp(
        8, b"".join(bytes([y % 3] * 10) + b"\0\0" for y in range(7)), height=-7
    ),
    "4 bits": lambda: _bmp(4, (b"\x01\x20\x12\x01\x20" + b"\0\0\0") * 7),
    "1 bit": lambda: _encoded(_picture().convert("1"), "BMP"),
}


@pytest.mark.parametrize("kind", _INDEXED)
def test_a_bmp_with_a_palette_has_its_colors(kind):
    encoded = _INDEXED[kind]()
    np.testing.assert_array_equal(decode_image(encoded), _pillows(encoded))
    np.testing.assert_array_equal(image_shape(encoded), (7, 10, 3))
    resized = preprocess_for_eval(encoded, 7, crop=False)
    expected = tf.raw_ops.ResizeBilinear(images=_pillows(encoded)[None].astype("float32"), size=(7, 7))
    np.testing.assert_array_equal(resized, expected[0])


def test_runs_of_0_2_0_see_a_palettes_numbers_as_grays():
    encoded = _INDEXED["8 bits, 3 colors"]()
    assert decode_image(encoded, rules_of(0)).numpy().max() == 2
    np.testing.assert_array_equal(
        decode_image(encoded, rules_of(0)), tf.io.decode_bmp(encoded, 0).numpy().repeat(3, -1)
    )


@pytest.mark.parametrize(
    "kind, options, mode, atol",
    [
        ("BMP", {}, "RGB", 0),
        ("BMP", {}, "RGBA", 0),
        ("PNG", {}, "LA", 0),
        ("PNG", {}, "RGBA", 0),
        ("PNG", {}, "P", 0),
        ("PNG", {}, "1", 0),
        ("GIF", {}, "P", 0),
        ("JPEG", {"quality": 95}, "CMYK", 8),  # rounds otherwise
    ],
)
def test_other_kinds_are_decoded_as_pillow_does(kind, options, mode, atol):
    encoded = _encoded(_picture().convert(mode), kind, **options)
    np.testing.assert_allclose(decode_image(encoded).numpy().astype(int), _pillows(encoded).astype(int), atol=atol)


@pytest.mark.skipif(not decodes_webp(), reason="This TensorFlow does not decode WebP.")
def test_webp_is_decoded():
    encoded = _encoded(_picture(), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode_image(encoded), _pillows(encoded))


def test_a_png_of_16_bits_is_scaled_to_8():
    # Pillow clips it at 255.
    pixels = np.arange(70, dtype="uint16").reshape(7, 10) * 900
    encoded = _encoded(Image.fromarray(pixels), "PNG")
    np.testing.assert_allclose(decode_image(encoded)[..., 0].numpy().astype(int), pixels / 257, atol=1)


_REFUSED = {
    "compressed": _bmp(8, (b"\x0a\x01\0\0" * 7) + b"\0\1", compression=1),  # run-length encoded
    "16 bits": _bmp(16, struct.pack("<H", 0x7C00) * 70, b"", 0),
    "cut short": _bmp(8, bytes(40)),
    # Red is where blue is elsewhere.
    "other masks": _bmp(32, bytes(280), b"\xff\0\0\0\0\xff\0\0\0\0\xff\0", 0, compression=3),
    "no header": b"BM",
    "zeros": b"BM" + bytes(100),
}


@pytest.mark.soak
def test_a_bmp_that_cannot_be_decoded_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(corruption, "decode_image", tf.function(decode_image, autograph=False))  # a trace for all kinds
    path = tmp_path / "test" / "x" / "a.bmp"
    path.parent.mkdir(parents=True)
    path.write_bytes(_INDEXED["4 bits"]())
    split = load_split("folder", tmp_path, False)
    batches = eval_batches(split, 8, 1)
    assert len(list(batches)) == 1
    for kind, encoded in _REFUSED.items():
        path.write_bytes(encoded)
        with pytest.raises(
            ValueError, match="The image .*a.bmp of split 'test' .* not a JPEG, PNG, GIF, WebP or uncompressed"
        ):
            with naming_corrupt_images(split):
                pytest.fail(f"{kind}: {list(batches)}")
