"""Writes the classes of image files to a CSV file, which an interrupted command continues."""

import csv
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from mixnet_tf.class_names import lacking, listed
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation.classifying import Classified
from mixnet_tf.evaluation.ranking import TOP
from mixnet_tf.files import StrPath, check_can_be_made, is_remote
from mixnet_tf.progress import Progress, silent

COLUMNS = (
    "path",
    *itertools.chain(*((f"class_{place}", f"probability_{place}") for place in range(1, TOP + 1))),
    "error",
)
_CLASSES = slice(1, 1 + 2 * TOP, 2)  # of a row
_SHOWN = 3  # names in an error


class Rows(NamedTuple):
    """How many rows were written.

    Attributes:
        before: Images whose rows were there before.
        written: Rows that were written now.
        errors: Those of them that say why an image cannot be read.
    """

    before: int
    written: int
    errors: int


def write_predictions(
    path: StrPath,
    images: Sequence[str],
    names: Sequence[Any],
    classify: Callable[[Sequence[str]], Iterator[Classified]],
    progress: Progress = silent,
) -> Rows:
    """Writes a row for each image that has none yet: its path, its classes with their probabilities, or an error.

    Args:
        path: The CSV file, with the header `COLUMNS`. An incomplete last row is written again.
        images: Paths of images.
        names: Of the model's classes.
        classify: A function like `classify_files`, of the paths alone.
        progress: Shows the phase.

    Raises:
        ValueError: If the file cannot be written here, or if it is another file, or of other classes.
    """
    names = [str(name) for name in names]
    there = _images_in(path, names)
    left = [image for image in images if image not in there]
    before, written, errors, start = len(images) - len(left), 0, 0, time.monotonic()
    with (
        open(path, "a", encoding="utf-8", newline="") as file,
        progress("Classification", len(images), "images", before) as phase,
    ):
        writer = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        phase.describe("compiling the first batch")
        for each in classify(left) if left else ():
            cells = itertools.chain(*((names[number], f"{probability:.6f}") for number, probability in each.found))
            row = [each.path, *cells]
            writer.writerow([*row, *[""] * (len(COLUMNS) - 1 - len(row)), each.error or ""])
            written, errors = written + 1, errors + (each.error is not None)
            phase.update(before + written, f"{written / max(time.monotonic() - start, 1e-3):.0f} images/s")
    return Rows(before, written, errors)


def check_csv(path: StrPath) -> None:
    """Raises a ValueError if a CSV file cannot be written to; before the work."""
    if is_remote(path):
        raise InputError(
            f"output_csv: {path} is not on a local disk, where rows can be added; copy the file afterwards."
        )
    if os.path.isdir(path):
        raise InputError(f"output_csv: {path} is a folder; name a file.")
    check_can_be_made("output_csv", os.path.dirname(path) or ".")


def _images_in(path, names):
    """The images whose rows are in a CSV file; an incomplete last row is removed from it."""
    check_csv(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if not os.path.exists(path):
        return set()
    records, rest = _records(path)
    try:
        rows = list(csv.reader([record.decode() for record in records]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"output_csv: {path} is not a CSV file in UTF-8: {error}. Name a new file.") from error
    header = ",".join(COLUMNS)
    if rows[:1] != [list(COLUMNS)] and (rows or not header.encode().startswith(rest)):
        raise InputError(f"output_csv: {path} is another file; its first line is not {header}. Name a new file.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(COLUMNS):
            raise InputError(
                f"output_csv: row {number} of {path} has {len(row)} columns in place of {len(COLUMNS)}; name a new "
                "file."
            )
    others = lacking(sorted({name for row in rows[1:] for name in row[_CLASSES] if name}), names)
    if others:
        raise InputError(
            f"output_csv: {path} has rows with {listed(others, _SHOWN)}, which the model's classes are not; name a new "
            "file."
        )
    if rest:
        os.truncate(path, sum(map(len, records)))
    return {row[0] for row in rows[1:]}


def _records(path):
    """The complete rows of a CSV file as bytes, and what follows them."""
    records, rest = [], b""
    with open(path, "rb") as file:
        for line in file:
            rest += line  # a row has several lines if a path has
            if rest.endswith(b"\n") and rest.count(b'"') % 2 == 0:
                records.append(rest)
                rest = b""
    return records, rest
