"""Finds and reads image files that a user names; a bad file is an error of one line."""

import os
from collections.abc import Callable, Sequence

import tensorflow as tf
from absl import logging

from mixnet_tf.data import FORMATS, images_below
from mixnet_tf.errors import InputError, MissingFileError, first_line
from mixnet_tf.files import StrPath


def find_images(places: Sequence[StrPath]) -> list[str]:
    """The paths of image files, and of all images in folders and their subfolders, each once.

    Logs how many other files a folder has.

    Args:
        places: Paths of files, which may have any ending, and of folders.

    Raises:
        FileNotFoundError: If one of them is not there.
        ValueError: If a folder holds no images.
    """
    found: list[str] = []
    for place in (os.fspath(each) for each in places):
        if not tf.io.gfile.exists(place):
            raise MissingFileError(f"image: there is no file {place}.")
        if not tf.io.gfile.isdir(place):
            found.append(place)
            continue
        images, others = images_below(place)
        if not images:
            raise InputError(f"image: {place} and its subfolders hold no {FORMATS} file.")
        if others:
            logging.info(f"{place}: left out files that are no images: {others:,}.")
        found.extend(images)
    return list(dict.fromkeys(found))


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
