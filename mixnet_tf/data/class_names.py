"""Class names for people: ImageNet's, and those in a file."""

import json
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.class_names import checked_names
from mixnet_tf.downloads import silence_ends
from mixnet_tf.errors import InputError, MissingFileError, is_count
from mixnet_tf.files import StrPath, keras_cache, read_text
from mixnet_tf.imagenet import CLASSES, wordnet_ids


def read_labels(path: StrPath, num_classes: int) -> tuple[str, ...]:
    """Reads the names of classes 0, 1, ... from a text file, one per line, or a JSON file {"0": name, ...}.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the number of names is not `num_classes`, or if there are none.
    """
    if not tf.io.gfile.exists(path):
        raise MissingFileError(f"labels: there is no file {path}.")
    text = read_text(path)
    if os.fspath(path).endswith(".json") or text.lstrip().startswith("{"):
        try:
            by_class = json.loads(text)
            names = [str(by_class[str(number)]) for number in range(len(by_class))]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'labels: {path} is not JSON of the form {{"0": "name", "1": ...}}.') from error
    else:
        names = text.splitlines()
    if len(names) != num_classes:
        raise InputError(f"labels: {path} names {len(names)} classes, but the model has {num_classes}.")
    return checked_names(names, f"labels: {path}")


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Decodes predictions into the most probable ImageNet classes, with the names of Keras' class index.

    Keras downloads the index, imagenet_class_index.json, into its cache at the first call.

    Args:
        preds: (batch, 1000) probabilities or logits.
        top: Number of classes per image.

    Returns:
        For each image a list of (WordNet id, name, value), the largest value first.

    Raises:
        ConnectionError: If the index is not cached and cannot be downloaded.
        ValueError: If the shape is another one, or if `top` is not from 1 to 1000.
    """
    preds = np.asarray(keras.ops.convert_to_numpy(preds), "float32")
    if preds.ndim != 2 or preds.shape[1] != CLASSES:
        raise InputError(f"decode_predictions: expected (batch, {CLASSES}) predictions, received shape {preds.shape}.")
    if not is_count(top) or top > CLASSES:
        raise InputError(f"decode_predictions: expected top from 1 to {CLASSES}, received {top!r}.")
    try:
        with silence_ends():
            return keras.applications.imagenet_utils.decode_predictions(preds, top=top)
    except Exception as error:  # get_file raises plain Exceptions
        raise ConnectionError(
            f"Keras' index of ImageNet's class names could not be downloaded: {error}\n"
            f"Place imagenet_class_index.json in {keras_cache()}, or give a script the names with --labels=FILE."
        ) from error


def label_names(classes: int, path: StrPath | None, *known: Sequence[str] | None) -> tuple[str, ...] | None:
    """The class names of a model for people: ImageNet's names replace its WordNet ids; others stay unchanged.

    Args:
        classes: The model's number of classes.
        path: A file with the names, see `read_labels`; None: the first of `known` that is not None.
        *known: Names of the classes; None if they are not known.

    Returns:
        The names; None if there is no file and none are known.

    Raises:
        FileNotFoundError, ValueError: As `read_labels`.
    """
    if path is not None:
        return read_labels(path, classes)
    return next((_in_words(names) for names in known if names), None)


def _in_words(names):
    if tuple(names) != wordnet_ids():
        return tuple(names)
    try:
        return tuple(name for [(_, name, _)] in decode_predictions(np.eye(CLASSES), top=1))
    except ConnectionError:
        logging.info("ImageNet's class names could not be downloaded; its classes are shown by their WordNet ids.")
        return tuple(names)
