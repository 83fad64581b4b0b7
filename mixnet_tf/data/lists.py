"""Datasets in a list: a CSV or JSON Lines file that names images, their classes and, if wanted, their splits."""

import collections
import csv
import io
import json
import os
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.class_names import checked_names
from mixnet_tf.data.decoding import readable
from mixnet_tf.data.file_splits import ImageFiles, hashed_split, own_split
from mixnet_tf.data.folders import file_names
from mixnet_tf.data.rules import NEWEST, Reading
from mixnet_tf.data.split import SPLITS, Split, first_of
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import StrPath, exists, is_remote, read_text

_REQUIRED, _COLUMNS = ("path", "label"), ("path", "label", "split")
_EXPECTED = "expected the columns path, label and, if wanted, split"
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")


class _WrongRow(Exception):
    """What is wrong with a row."""


class _Image(NamedTuple):
    """A row of a list."""

    path: str  # as written, with forward slashes
    label: str
    split: str | None  # None: the list has no splits
    file: str  # the path by which it is read


def list_split(data_dir: StrPath, wanted: Sequence[str], reading: Reading) -> Split:
    """The first of the wanted splits of a list of images.

    If the list has no column of splits, a hash of the path as written divides the images into "train" and "validation";
    "all" is both.

    Args:
        data_dir: The folder that the paths in the list start from; what is not there is looked for in the list's
            folder.
        wanted: Names of splits.
        reading: The `Reading`; its `list` is the list's path, from here or from `data_dir`.

    Raises:
        MissingSplitError: If the list has none of the wanted splits.
        InputError: If there is no such list, or if a row is wrong; the message has the first one's number and how many
            more there are.
    """
    path = _path_of_list(reading.list, os.fspath(data_dir))
    images = _read(path, os.fspath(data_dir))
    splits = {image.split for image in images}
    if splits == {None}:
        files, relative_paths = _by_class(images, path)
        return hashed_split(wanted, files, relative_paths, reading)._replace(list_path=reading.list)
    name = first_of(wanted, [each for each in SPLITS if each in splits], "list", path)
    files, _ = _by_class([image for image in images if image.split == name], path)
    return own_split(name, files, reading)._replace(list_path=reading.list)


def _path_of_list(path, data_dir):
    if path is None:
        raise InputError("list: dataset 'list' needs the file that names the images, --list=FILE.")
    path = os.path.expanduser(path)
    for each in (path, os.path.join(data_dir, path)):
        if exists(each) and not tf.io.gfile.isdir(each):
            return each
    raise MissingFileError(f"list: there is no file {path}, neither from here nor in data_dir, {data_dir}.")


def _by_class(images, path):
    """(the images by class, their paths as written by class); classes are in order of number, or else of name."""
    by_label = collections.defaultdict(list)
    for image in sorted(images):
        by_label[image.label].append(image)
    numbers = all(_WHOLE_NUMBER.fullmatch(label) for label in by_label)
    labels = sorted(by_label, key=lambda label: (int(label), label) if numbers else label)
    files = [[image.file for image in by_label[label]] for label in labels]
    relative_paths = [[image.path for image in by_label[label]] for label in labels]
    return ImageFiles("list", path, checked_names(labels, f"list: {path}"), files), relative_paths


def _read(path: str, data_dir: str) -> list[_Image]:
    """The rows of a list; each has a file of its own, which is there.

    Raises:
        InputError: If a row is wrong.
    """
    text = read_text(path)
    rows, fields_of = _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text, path)
    files, images, wrong = _Files((data_dir, os.path.dirname(path))), [], []
    for number, row in rows:
        try:
            images.append(_image(fields_of(row), number, files))
            if (images[-1].split is None) != (images[0].split is None):
                raise _WrongRow("either all rows have a split, or none")
        except _WrongRow as error:
            wrong.append((number, error))
    if wrong:
        number, first = wrong[0]
        more = f" More wrong rows: {len(wrong) - 1}." if len(wrong) > 1 else ""
        raise InputError(f"list: {path}, row {number}: {first}.{more}")
    if not images:
        raise InputError(f"list: {path} names no images; {_EXPECTED}, and a row for each image.")
    return images


def _csv_rows(text, path):
    """(numbered rows, a function from a row to its fields by column); the header is row 1."""

    def rows():
        number = 1
        try:
            for number, row in enumerate(reader, 2):
                if row:
                    yield number, row
        except csv.Error as error:
            raise InputError(f"list: {path}, row {number + 1}: {error}.") from error

    def fields_of(row):
        if len(row) != len(columns):
            raise _WrongRow(f"it has {len(row)} values for {len(columns)} columns: {row}")
        return dict(zip(columns, row, strict=True))

    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(columns)
    except (csv.Error, _WrongRow) as error:
        raise InputError(f"list: {path}, row 1: {error}.") from error
    return rows(), fields_of


def _json_rows(text):
    """The same of JSON Lines; the first line is row 1."""

    def fields_of(line):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise _WrongRow(f"it is not valid JSON: {error}") from error
        if not isinstance(fields, dict):
            raise _WrongRow(f"it is no JSON object: {line.strip()}")
        _check_columns(fields)
        return {**fields, "label": _text_of_label(fields["label"])}

    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()), fields_of


def _check_columns(columns):
    if set(columns) - set(_COLUMNS) or set(_REQUIRED) - set(columns) or len(set(columns)) < len(columns):
        raise _WrongRow(f"{_EXPECTED}; received {', '.join(map(repr, columns)) or 'none'}")


def _text_of_label(label):
    return str(label) if isinstance(label, int) and not isinstance(label, bool) else label


def _image(fields, number, files):
    """The image of a row.

    Raises:
        _WrongRow: If a value or its file is wrong.
    """
    for name, value in fields.items():
        if not isinstance(value, str) or not value.strip():
            raise _WrongRow(f"{name}: expected a text that is not empty, received {value!r}")
    path, split = fields["path"], fields.get("split")
    if split is not None and split.strip() not in SPLITS:
        raise _WrongRow(f"split: expected one of {', '.join(SPLITS)}, received {split!r}")
    if not is_remote(path):
        path = posixpath.normpath(path.replace("\\", "/"))  # Windows writes the other slash
    return _Image(path, fields["label"].strip(), split and split.strip(), files.take(path, number))


class _Files:
    """The files that the rows of a list name; each folder is listed once, and each file is taken by one row.

    Args:
        folders: Folders that paths start from; the first one that has a file decides.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
        self._listed: dict[str, frozenset[str]] = {}
        self._rows: dict[str, int] = {}  # number of the row that names a file
        self._endings = readable(NEWEST.class_endings)

    def take(self, path: str, number: int) -> str:
        """The path by which the file of a row is read.

        Raises:
            _WrongRow: If there is no such file, if it is no image, or if another row names it.
        """
        ending = os.path.splitext(path)[1].lower()
        if ending and ending not in self._endings:
            raise _WrongRow(f"{path} is no image; expected a file that ends in one of {', '.join(self._endings)}")
        places = [path if is_remote(path) else os.path.join(folder, path) for folder in self._folders]
        found = next((place for place in places if self._is_there(place)), None)
        if found is None:
            raise _WrongRow(f"there is no file {' or '.join(dict.fromkeys(places))}")
        first = self._rows.setdefault(found if is_remote(found) else os.path.abspath(found), number)
        if first != number:
            raise _WrongRow(f"{path} is the file of row {first}, too")
        return found

    def _is_there(self, path):
        folder, name = os.path.split(path)
        if folder not in self._listed:
            self._listed[folder] = frozenset(file_names(folder))
        return name in self._listed[folder]
