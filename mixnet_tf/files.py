"""Files that are never half-written, on a local disk or wherever `tf.io.gfile` reaches."""

import contextlib
import json
import os
import tempfile
import uuid

import tensorflow as tf

from mixnet_tf.errors import InputError, MissingFileError

_POINTER = ".current"  # names the file that stands for a path where a rename is not atomic


@contextlib.contextmanager
def publishing(path):
    """A local path to write to; its contents become the file `path` when the block ends without an error.

    On a local disk the new file is written beside the old one and renamed over it. Elsewhere (gs://,
    ram://) a rename is not atomic: the new file gets a name of its own, its size is verified, and
    then a small pointer file is written that `published` follows.
    """
    remote = is_remote(path)
    folder = None if remote else os.path.dirname(os.path.abspath(path))
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as aside:
        local = os.path.join(aside, os.path.basename(path))
        yield local
        if remote:
            _publish_remotely(local, path)
        else:
            os.replace(local, path)


def _publish_remotely(local, path):
    stem, extension = os.path.splitext(path)
    target = f"{stem}-{uuid.uuid4().hex[:12]}{extension}"
    tf.io.gfile.copy(local, target)
    if tf.io.gfile.stat(target).length != os.path.getsize(local):
        raise OSError(f"{target} was not written whole; {path} is as it was.")
    old = published(path)
    with tf.io.gfile.GFile(path + _POINTER, "w") as pointer:
        pointer.write(os.path.basename(target) + "\n")
    if old is not None and old != target:
        tf.io.gfile.remove(old)


def published(path):
    """Where the file `path` is: there, or where its pointer says; None if nowhere."""
    if tf.io.gfile.exists(path + _POINTER):
        with tf.io.gfile.GFile(path + _POINTER) as pointer:
            name = pointer.read().split()[-1]  # ram:// does not truncate the file that it opens to write
        path = os.path.join(os.path.dirname(path), name)
    return path if tf.io.gfile.exists(path) else None


def is_remote(path):
    """Whether `path` is on one of the file systems that only `tf.io.gfile` reaches."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def local_copy(path):
    """A local file with the contents of `path`: HDF5 and zip need to seek."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(path))
        tf.io.gfile.copy(path, local)
        yield local


def write_json(path, value):
    """Writes a value as the JSON file `path`."""
    with publishing(path) as local, open(local, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def read_json(path):
    """The value in the JSON file `path`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not JSON.
    """
    found = published(path)
    if found is None:
        raise MissingFileError(f"There is no file {path}.")
    with tf.io.gfile.GFile(found) as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not valid JSON: {error}") from error
