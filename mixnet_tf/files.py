"""Reads and writes files on a local disk or on remote storage; a file is never half-written."""

import contextlib
import errno
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mixnet_tf.errors import InputError, MissingFileError

StrPath = str | os.PathLike[str]
# The errors that TensorFlow raises if a checkpoint is damaged or missing.
UNREADABLE = (tf.errors.OpError, RuntimeError, ValueError, IndexError)


@contextlib.contextmanager
def publishing(path: StrPath) -> Iterator[str]:
    """Gives a local path to write to; it becomes the file `path` if the block ends without an error.

    On a local disk, the new file is written beside the old one and renamed over it. On remote storage (gs://), it is
    written to the local disk and uploaded, which happens as a whole or not at all; then its size is verified.
    """
    remote = is_remote(path)
    folder = None if remote else os.path.dirname(os.path.abspath(path))
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as aside:
        local = os.path.join(aside, os.path.basename(path))
        try:
            yield local
        except OSError as error:
            if error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
                raise OSError(
                    f"{path} could not be written: {os.strerror(errno.ENOSPC)}. What was there is unchanged; free some "
                    "space and give the same command again."
                ) from error
            raise
        if remote:
            _publish_remotely(local, path)
        else:
            os.replace(local, path)


def _publish_remotely(local, path):
    size = os.path.getsize(local)
    tf.io.gfile.copy(local, path, overwrite=True)
    if tf.io.gfile.stat(path).length != size:  # ram://, for example, appends to an existing file
        tf.io.gfile.remove(path)
        tf.io.gfile.copy(local, path, overwrite=True)
    if tf.io.gfile.stat(path).length != size:
        raise OSError(f"{path} was not written whole: {tf.io.gfile.stat(path).length} of {size} bytes. Write it again.")


def exists(path: StrPath) -> bool:
    """Whether there is a file or folder at `path`, on a local disk or on remote storage."""
    return tf.io.gfile.exists(os.fspath(path))


def is_remote(path: StrPath) -> bool:
    """Whether `path` is on remote storage, which only `tf.io.gfile` reaches."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def local_copy(path: StrPath) -> Iterator[str]:
    """Gives a local copy of `path`, because HDF5 and zip need to seek."""
    if not is_remote(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(path))
        tf.io.gfile.copy(path, local)
        yield local


def finite(value: Any) -> Any:
    """Replaces numbers that are not finite by None, because JSON does not have them.

    Numpy numbers become Python numbers.
    """
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int | None = 1) -> str:
    """A value as JSON, with null for numbers that are not finite; `indent=None` writes it in one line."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


@contextlib.contextmanager
def readable_checkpoint(prefix: str) -> Iterator[str]:
    """A prefix by which TensorFlow can read the checkpoint, even if its path contains pattern characters."""
    folder, name = os.path.split(prefix)
    if "[" not in folder or is_remote(prefix):
        yield prefix
        return
    with tempfile.TemporaryDirectory() as aside:
        link = os.path.join(aside, "checkpoints")
        os.symlink(os.path.abspath(folder), link)
        yield os.path.join(link, name)


def write_bytes(path: StrPath, content: bytes) -> None:
    """Writes the file `path`."""
    with publishing(path) as local, open(local, "wb") as file:
        file.write(content)


def write_json(path: StrPath, value: Any) -> None:
    """Writes a value to the JSON file `path`, in the form of `json_text`."""
    with publishing(path) as local, open(local, "w") as file:
        file.write(json_text(value) + "\n")


def read_json(path: StrPath) -> Any:
    """The value in the JSON file `path`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not JSON.
    """
    if not exists(path):
        raise MissingFileError(f"There is no file {path}.")
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def read_text(path: StrPath) -> str:
    """The text of a UTF-8 file, without the byte order mark that some editors write.

    Raises:
        ValueError: If it has another encoding.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}. Save it in UTF-8.") from error


def check_can_be_made(what: str, folder: StrPath) -> None:
    """Raises a ValueError if a local folder cannot be created or written to; `what` is its flag."""
    if is_remote(folder):
        return
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise InputError(
            f"{what}: the folder {folder} cannot be created, because {there} is not a folder; name another one."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"{what}: {folder} cannot be written to, because {there} does not permit it; name another folder."
        )


def keras_cache() -> pathlib.Path:
    """The folder in which Keras caches downloaded models."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
