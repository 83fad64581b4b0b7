"""The files of an export take their names together, and their report last."""

import os
from collections.abc import Iterable

import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.files import check_can_be_made

_PARTIAL, _OLD = ".partial", ".old"


def aside(path: str) -> str:
    """Where a file or folder is written before `publish` gives it the name `path`."""
    return path + _PARTIAL


def prepared(path: str, content: bytes) -> None:
    """Writes a file aside; `publish` gives it its name."""
    with tf.io.gfile.GFile(aside(path), "wb") as file:
        file.write(content)


def prepared_folder(path: str) -> str:
    """An empty place for a folder to be written to; `publish` gives it its name."""
    discard(path)
    return aside(path)


def discard(path: str) -> None:
    """Removes what was written aside for a path."""
    _remove(aside(path))


def publish(paths: Iterable[str], outdated: dict[str, str], report: str) -> None:
    """Gives the files that were prepared their names.

    A report is never beside files that it does not tell of: the old one goes first, the new one comes last.

    Args:
        paths: Of files and folders; the older ones there are replaced.
        outdated: Dict from a path to the name that `name_aside` found for it.
        report: Path of the report, prepared as well.
    """
    _remove(report)
    for path, old in outdated.items():
        tf.io.gfile.rename(path, old)
    for path in (*paths, report):
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)  # a folder cannot be renamed over another
        tf.io.gfile.rename(aside(path), path, overwrite=True)


def name_aside(path: str) -> str | None:
    """Where an older file or folder can go so that it does not pass for a new one; None if there is none."""
    if not tf.io.gfile.exists(path):
        return None
    while tf.io.gfile.exists(path):
        path += _OLD
    return path


def size_of(folder: str) -> int:
    """Bytes of the files in a folder and in those inside it."""
    walk = tf.io.gfile.walk(folder)
    return sum(tf.io.gfile.stat(os.path.join(at, name)).length for at, _, names in walk for name in names)


def check_folder(folder: str, formats: Iterable[str]) -> None:
    """Raises a ValueError if a folder cannot be made, or TensorFlow could not load a SavedModel from it."""
    check_can_be_made("output_dir", folder)
    if "saved_model" in formats and "[" in folder:  # it looks for the variables by a pattern
        raise InputError(
            f"output_dir: TensorFlow does not load a SavedModel from {folder}, because of the '['; name another folder "
            "or leave out the format saved_model."
        )


def check_writable(folder: str) -> None:
    """Makes a folder, and fails now and not after long work if nothing can be written there."""
    tf.io.gfile.makedirs(folder)
    probe = os.path.join(folder, "probe")
    prepared(probe, b"")
    discard(probe)


def _remove(path):
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
    elif tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)
