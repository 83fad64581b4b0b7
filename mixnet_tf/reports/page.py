"""A report as one HTML page with its images inside, and its figures as files beside it."""

import base64
import importlib.resources
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from mixnet_tf.data import Split
from mixnet_tf.errors import require_package
from mixnet_tf.files import StrPath, write_bytes
from mixnet_tf.networks import SCALED, input_of
from mixnet_tf.provenance import provenance

REPORT = "report.html"
_TEMPLATE = "report.html"
_DPI = 130 / 96  # pixels of a figure per pixel of the page


class Number(NamedTuple):
    """A number at the top of the page: its name, its value, and an explanation."""

    name: str
    value: str
    note: str


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
        file: Name of the PNG file in the folder.
        png: Bytes of the PNG file.
        alt: Description for readers who cannot see it.
    """

    file: str
    png: bytes
    alt: str

    @property
    def width(self) -> int:
        """Width on the page, pixels."""
        return round(struct.unpack(">I", self.png[16:20])[0] / _DPI)


class Table(NamedTuple):
    """A table: its column titles, and its rows of strings. All columns except the first hold numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Tile(NamedTuple):
    """An image with lines of text below: the bytes of its PNG file, and its description."""

    png: bytes
    lines: Sequence[str]
    alt: str


class Section(NamedTuple):
    """A part of the page."""

    title: str
    texts: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    tiles: Sequence[Tile] = ()


class Page(NamedTuple):
    """The content of a report.

    Attributes:
        subtitle: A sentence below the title.
        numbers: The main results.
        window: The part of an image that the model sees, and how it is resized.
        sections: The rest of the page.
        tile: Width of a tile, rem.
        smooth: Whether tiles are enlarged smoothly; small images show their pixels.
    """

    subtitle: str
    numbers: Sequence[Number]
    window: str
    sections: Sequence[Section]
    tile: float = 7.5
    smooth: bool = True


def require_packages() -> None:
    """Raises a `MissingPackageError` if a package for the page is missing; call it before a long evaluation."""
    for package, title in (("matplotlib", "matplotlib"), ("jinja2", "Jinja")):
        require_package(package, title, "A report", "report")


def write_page(page: Page, folder: StrPath, model: keras.Model, split: Split, source: str) -> str:
    """Writes a page and its figures; each file is written beside its place and then renamed.

    Args:
        page: The `Page`.
        folder: Where it is written; the folder is created.
        model: The model that was measured.
        split: The `data.Split` that it was measured on.
        source: Origin of the weights, in words.

    Returns:
        The path of the page.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["data_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    template = importlib.resources.files("mixnet_tf.reports").joinpath(_TEMPLATE).read_text("utf-8")
    made, size = provenance(), model.input_shape[1]
    versions = ", ".join(f"{name} {made[name]}" for name in ("tensorflow", "keras", "python"))
    facts = {
        "model": f"{model.name}, {model.count_params():,} parameters and statistics",
        "weights": source,
        "dataset": f"{split.dataset}, split {split.name!r}",
        "input": f"{size} x {size} pixels, RGB; {page.window}; {SCALED[input_of(model)]}",
        **({"notes": "; ".join(split.notes)} if split.notes else {}),
        "command": made["command"],
        "versions": versions,
        "machine": made["cpu"],
        "date": made["date"],
    }
    title = f"{model.name} on {split.dataset}"
    text = environment.from_string(template).render({**page._asdict(), "title": title, "facts": facts})
    tf.io.gfile.makedirs(folder)
    for section in page.sections:
        for figure in section.figures:
            write_bytes(os.path.join(folder, figure.file), figure.png)
    path = os.path.join(folder, REPORT)
    write_bytes(path, text.encode())
    return path
