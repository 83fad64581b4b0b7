"""Publishes the files of an export together, and their report last."""

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
    """Renames the prepared files to their final names.

    A report never lies beside files that it does not describe: the old one is removed first, the new one comes last.

    Args:
        paths: Paths of the files and folders; older ones are replaced.
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
    """A free name for an older file or folder, so that it is not taken for a new one; None if there is none."""
    if not tf.io.gfile.exists(path):
        return None
    while tf.io.gfile.exists(path):
        path += _OLD
    return path


def size_of(folder: str) -> int:
    """Total size of the files in a folder, bytes."""
    walk = tf.io.gfile.walk(folder)
    return sum(tf.io.gfile.stat(os.path.join(at, name)).length for at, _, names in walk for name in names)


def check_loadable(folder: str, formats: Iterable[str]) -> None:
    """Raises a ValueError if a format is a SavedModel and TensorFlow could not load it from the folder."""
    if "saved_model" in formats and "[" in folder:  # it looks for the variables by a pattern
        raise InputError(
            f"output_dir: TensorFlow does not load a SavedModel from {folder}, because of the '['; name another folder "
            "or leave out the format saved_model."
        )


def check_writable(folder: str) -> None:
    """Makes a folder, and raises an error before any long work if nothing can be written there."""
    check_can_be_made("output_dir", folder)
    tf.io.gfile.makedirs(folder)
    probe = os.path.join(folder, "probe")
    prepared(probe, b"")
    discard(probe)


def _remove(path):
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
    elif tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)
