"""A report as one HTML page, with its pictures inside, and its figures as files beside it."""

import base64
import importlib.resources
import os
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.errors import require_package
from mixnet_tf.files import StrPath, publishing
from mixnet_tf.provenance import provenance

REPORT = "report.html"
_TEMPLATE = "report.html"
_DPI = 130 / 96  # of the figures' pixels to those of a page


class Number(NamedTuple):
    """A number at the top of the page: its name, value and what is to be known about it, in words."""

    name: str
    value: str
    note: str


class Figure(NamedTuple):
    """A figure.

    Attributes:
        file: Name of its file in the folder.
        png: Its bytes.
        alt: What it shows, for those who do not see it.
    """

    file: str
    png: bytes
    alt: str

    @property
    def width(self) -> int:
        """Pixels of the page."""
        return round(struct.unpack(">I", self.png[16:20])[0] / _DPI)


class Table(NamedTuple):
    """A table: the words over its columns, and its rows of words. All columns but the first hold numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Tile(NamedTuple):
    """An image with lines of words below; the bytes of its PNG file, and what it shows."""

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
    """What a report shows.

    Attributes:
        title: Of the page.
        subtitle: A sentence below it.
        numbers: Its main results.
        facts: What was measured and how, in words by name; where it comes from is added.
        sections: The rest.
        tile: Width of a tile, rem.
        smooth: Whether tiles are enlarged smoothly; small images show their pixels.
    """

    title: str
    subtitle: str
    numbers: Sequence[Number]
    facts: Mapping[str, str]
    sections: Sequence[Section]
    tile: float = 7.5
    smooth: bool = True


def require_packages() -> None:
    """Raises a `MissingPackageError` without what a page is made with, which is to come before a long evaluation."""
    for package, title in (("matplotlib", "matplotlib"), ("jinja2", "Jinja")):
        require_package(package, title, "A report", "report")


def write_page(page: Page, folder: StrPath) -> str:
    """Writes a page and its figures, each aside and then renamed.

    Args:
        page: The `Page`.
        folder: Where; it is made.

    Returns:
        The path of the page.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["data_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    template = importlib.resources.files("mixnet_tf.reports").joinpath(_TEMPLATE).read_text("utf-8")
    made = provenance()
    versions = ", ".join(f"{name} {made[name]}" for name in ("tensorflow", "keras", "python"))
    facts = {
        **page.facts,
        "command": made["command"],
        "versions": versions,
        "machine": made["cpu"],
        "date": made["date"],
    }
    text = environment.from_string(template).render({**page._asdict(), "facts": facts})
    tf.io.gfile.makedirs(folder)
    for section in page.sections:
        for figure in section.figures:
            _write(os.path.join(folder, figure.file), figure.png)
    path = os.path.join(folder, REPORT)
    _write(path, text.encode())
    return path


def _write(path, content):
    with publishing(path) as local, open(local, "wb") as file:
        file.write(content)
