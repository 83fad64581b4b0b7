"""JPEG files with EXIF data, made in memory."""

import io
import struct

import numpy as np


def jpeg(height, width):
    """A JPEG with as many samples of its colors as pixels: otherwise libjpeg rounds at a window's borders."""
    from PIL import Image

    pixels = np.random.default_rng(height).integers(0, 256, (-(-height // 8), -(-width // 8), 3), "uint8")
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def segment(marker, content):
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def tiff(entries, order="<", directory=8):
    """A TIFF structure with one directory of (tag, kind, count, four bytes)."""
    begin = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, directory)
    rows = b"".join(struct.pack(order + "HHI4s", *entry) for entry in entries)
    return begin + bytes(directory - 8) + struct.pack(order + "H", len(entries)) + rows + bytes(4)


def orientation(value, order="<", kind=3):
    """The entry of an orientation."""
    content = struct.pack(order + {1: "B3x", 4: "I"}.get(kind, "H2x"), value)
    return (0x0112, kind, 1, content)


def exif(content):
    """The segment of a TIFF structure."""
    return segment(0xE1, b"Exif\0\0" + content)


def with_segments(encoded, *segments):
    """A JPEG with more segments at its beginning."""
    return encoded[:2] + b"".join(segments) + encoded[2:]


def turned(encoded, value, order="<"):
    """A JPEG with an orientation between two other entries."""
    entries = [(0x010F, 2, 4, b"abc\0"), orientation(value, order), (0x0132, 2, 4, b"xyz\0")]
    return with_segments(encoded, exif(tiff(entries, order)))
