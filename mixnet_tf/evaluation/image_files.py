"""Reads an image file that a user names; a bad file is an error of one line."""

import os
from collections.abc import Callable

import tensorflow as tf

from mixnet_tf.data import FORMATS
from mixnet_tf.errors import InputError, MissingFileError, first_line
from mixnet_tf.files import StrPath


def read_image_file(path: StrPath, decode: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Reads and decodes an image file.

    Args:
        path: The file.
        decode: A function from the file's bytes, a scalar string tensor, to the image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, or not an image.
    """
    path = os.fspath(path)
    if not tf.io.gfile.exists(path):
        raise MissingFileError(f"image: there is no file {path}.")
    if tf.io.gfile.isdir(path):
        raise InputError(f"image: {path} is a folder; give the path of an image file.")
    try:
        return decode(tf.io.read_file(path))
    except tf.errors.InvalidArgumentError as error:
        raise InputError(f"image: {path} is not a readable {FORMATS} file.") from error
    except tf.errors.OpError as error:
        raise InputError(f"image: {path} cannot be read: {first_line(error.message)}") from error
