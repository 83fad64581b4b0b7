"""Names of classes from a file."""

import json

import tensorflow as tf

from mixnet_tf.errors import InputError, MissingFileError


def read_labels(path, num_classes):
    """The names of classes 0, 1, ... in a text file, one a line, or a JSON file {"0": name, ...}.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds another number of names than `num_classes`, or none.
    """
    if not tf.io.gfile.exists(path):
        raise MissingFileError(f"labels: there is no file {path}.")
    with tf.io.gfile.GFile(path) as file:
        text = file.read()
    if path.endswith(".json") or text.lstrip().startswith("{"):
        try:
            by_class = json.loads(text)
            names = [str(by_class[str(number)]) for number in range(len(by_class))]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'labels: {path} is not JSON of the form {{"0": "name", "1": ...}}.') from error
    else:
        names = text.splitlines()
    if len(names) != num_classes:
        raise InputError(f"labels: {path} names {len(names)} classes, but the model has {num_classes}.")
    return tuple(names)
