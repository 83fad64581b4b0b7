"""Datasets in folders, data_dir/split/class/image: their classes, their images, and the order of reading."""

import array
import collections
import itertools
import os
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.class_names import checked_names
from mixnet_tf.data.decoding import readable
from mixnet_tf.data.rules import NEWEST, Rules
from mixnet_tf.data.split import Split, first_of
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, is_remote, read_json

# Files of macOS, Windows and network drives, beside names that begin with a dot.
_LITTER = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information")


class Listing(NamedTuple):
    """The content of a folder.

    Attributes:
        folders: Names of its folders, sorted.
        files: Names of its files, sorted.
    """

    folders: tuple[str, ...]
    files: tuple[str, ...]


def list_folder(folder: StrPath, rules: Rules) -> Listing:
    """Lists a folder, without litter if the rules leave it out.

    Raises:
        InputError: If a name is not UTF-8.
    """
    names = sorted(_names(os.fspath(folder)), key=lambda each: each[0])
    if rules.leaves_out_litter:
        names = [each for each in names if not (each[0].startswith(".") or each[0].lower() in _LITTER)]
    for name, _ in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:  # a surrogate stands for a byte
            raise InputError(f"{folder} holds {name!r}, a name that is not UTF-8; rename it.") from error
    return Listing(tuple(name for name, is_folder in names if is_folder), tuple(n for n, f in names if not f))


def _names(folder):
    """(name, whether it is a folder) pairs. No file is opened, and on a local disk none is looked up."""
    if not is_remote(folder):
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries]
    found = []
    for name in tf.io.gfile.listdir(folder):  # gs:// lists folders with a trailing slash
        plain = name.rstrip("/")
        found.append((plain, plain != name or tf.io.gfile.isdir(os.path.join(folder, name))))
    return found


def class_folders(folder: StrPath, rules: Rules) -> tuple[str, ...]:
    """The names of a split's classes."""
    names = list_folder(folder, rules).folders
    if rules.leaves_out_litter:
        names = tuple(name for name in names if not _is_run(os.path.join(folder, name)))
    return names


def _is_run(folder):
    path = os.path.join(folder, "config.json")
    if not tf.io.gfile.exists(path):
        return False
    try:
        config = read_json(path)
    except InputError:
        return False
    return isinstance(config, dict) and {"model_name", "recipe"} <= set(config)


class ClassFiles(NamedTuple):
    """The files of a class.

    Attributes:
        images: Paths.
        others: Number of other files by ending; "folder" counts folders.
    """

    images: tuple[str, ...]
    others: collections.Counter[str]


def class_files(folder: StrPath, rules: Rules) -> ClassFiles:
    """The images of a class, sorted by name, and the counts of other files.

    Raises:
        InputError: If an image is a broken symbolic link.
    """
    endings, listing = readable(rules.class_endings), list_folder(folder, rules)
    files = listing.files if rules.leaves_out_litter else sorted((*listing.files, *listing.folders))
    images = _images(folder, endings, files)
    others = collections.Counter(
        os.path.splitext(name)[1].lower() or "without an ending"
        for name in listing.files
        if not name.lower().endswith(endings)
    )
    return ClassFiles(images, others + collections.Counter(folder=len(listing.folders)))


def list_images(folder: StrPath, rules: Rules = NEWEST) -> tuple[str, ...]:
    """The paths of all images in a folder, sorted by name, ignoring classes.

    Raises:
        InputError: If there is no image, or if one is a broken symbolic link.
    """
    endings = readable(rules.endings)
    images = _images(folder, endings, list_folder(folder, rules).files)
    if not images:
        raise InputError(f"{folder} holds no images; expected files that end in one of {', '.join(endings)}.")
    return images


def _images(folder, endings, names):
    """The paths of the names that are images."""
    images = tuple(os.path.join(folder, name) for name in names if name.lower().endswith(endings))
    if not is_remote(folder):
        for path in images:
            if os.path.islink(path) and not os.path.exists(path):
                raise InputError(f"{path} is a symbolic link to {os.readlink(path)}, which is not there; remove it.")
    return images


def folder_split(data_dir: StrPath, wanted: Sequence[str], rules: Rules) -> Split:
    """The first of the wanted splits that a folder has.

    Args:
        data_dir: The folder that contains split/class/image.
        wanted: Names of splits.
        rules: The `Rules`.

    Raises:
        MissingSplitError: If it has none of them.
        InputError: If there is no such folder or no image in it, or if a folder's name cannot be a class name.
    """
    if not tf.io.gfile.isdir(data_dir):
        raise InputError(f"data_dir: there is no folder {data_dir}; expected data_dir/split/class/image files.")
    splits = list_folder(data_dir, rules).folders
    name = first_of(wanted, splits, "folder", data_dir)
    classes = {
        each: class_folders(os.path.join(data_dir, each), rules)
        for each in (splits if rules.every_split_counts else (name,))
    }
    label_names = checked_names(sorted(set().union(*classes.values())), f"data_dir: {data_dir}")
    found = {each: class_files(os.path.join(data_dir, name, each), rules) for each in classes[name]}
    images = [found[each].images if each in found else () for each in label_names]
    if not any(images):
        raise InputError(f"Split {name!r} of dataset 'folder' has no images; expected {data_dir}/{name}/class/*.jpg.")
    _say_left_out(name, [each for each, own in zip(label_names, images, strict=True) if not own], found)
    return split_of_files(name, images, label_names, rules)


def split_of_files(
    name: str, images: Sequence[Sequence[str]], label_names: tuple[str, ...], rules: Rules = NEWEST
) -> Split:
    """The split `name` of a folder dataset, from the paths of each class's images."""
    listed = list(itertools.chain(*images))
    order = array.array("i", range(len(listed)))  # a Python list of ints would take more than half of a split's memory
    random.Random(name).shuffle(order)  # in the order of tfds.ImageFolder
    paths = tf.constant([listed[place] for place in order])
    labels = tf.constant(np.repeat(np.arange(len(images)), list(map(len, images)))[np.frombuffer(order, np.intc)])

    def read(shuffle_seed=None, shard=0, num_shards=1, first=0, places=None):
        places = (tf.range(tf.size(paths)) if places is None else places)[shard::num_shards]
        # Under the old rules a buffer is shuffled, because there are no shards whose order a seed could decide.
        if rules.shuffles_files and shuffle_seed is not None:
            seed = tf.stack([tf.cast(shuffle_seed, tf.int32), 0])
            places = tf.random.experimental.stateless_shuffle(places, seed, alg="philox")
        # The tensors are captured, because constants of the traced function would be copied with it.
        return tf.data.Dataset.from_tensor_slices(places[first:]).map(
            lambda place: {"image": tf.io.read_file(paths[place]), "label": labels[place], "id": paths[place]},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return Split(
        "folder",
        name,
        len(order),
        label_names,
        len(label_names),
        read,
        rules=rules,
        ids=paths if rules.shuffles_files else None,
    )


def _say_left_out(name, empty, found):
    if empty:
        logging.info(f"Split {name!r} has no image of class {', '.join(map(repr, empty))}.")
    others: collections.Counter[str] = sum((files.others for files in found.values()), collections.Counter())
    if others:
        counts = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        logging.info(f"Split {name!r}: left out what is no image: {counts}.")
