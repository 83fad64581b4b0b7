"""The files of an export take their names together, and their report last."""

import os

import tensorflow as tf

_PARTIAL, _OLD = ".partial", ".old"


def prepared(path, content):
    """Writes a file aside; `publish` gives it its name."""
    with tf.io.gfile.GFile(path + _PARTIAL, "wb") as file:
        file.write(content)


def prepared_folder(path):
    """An empty place for a folder to be written to; `publish` gives it its name."""
    discard(path)
    return path + _PARTIAL


def discard(path):
    """Removes what was written aside for a path."""
    _remove(path + _PARTIAL)


def publish(paths, outdated, report):
    """Gives the files that were prepared their names.

    A report never stands beside files that it does not tell of: the old one goes first, the new one comes last.

    Args:
        paths: Of files and folders; the older ones there are replaced.
        outdated: Dict from a path to the name that `name_aside` found for it.
        report: Path of the report, prepared as well.
    """
    _remove(report)
    for path, aside in outdated.items():
        tf.io.gfile.rename(path, aside)
    for path in (*paths, report):
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)  # a folder cannot be renamed over another
        tf.io.gfile.rename(path + _PARTIAL, path, overwrite=True)


def name_aside(path):
    """Where an older file or folder can go so that it does not pass for a new one; None if there is none."""
    if not tf.io.gfile.exists(path):
        return None
    while tf.io.gfile.exists(path):
        path += _OLD
    return path


def check_writable(folder):
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
