"""Datasets in folders: data_dir/split/class/image, or data_dir/class/image without splits."""

import os
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from mixnet_tf.class_names import checked_names, lacking, listed
from mixnet_tf.data.file_splits import ImageFiles, hashed_split, own_split
from mixnet_tf.data.folders import class_images, has_images, list_folder, list_subfolders, others_in_words
from mixnet_tf.data.hashed_splits import TRAIN, VALIDATION
from mixnet_tf.data.rules import Reading
from mixnet_tf.data.split import SPLITS, MissingSplitError, Split, first_of, wanted_splits
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath

_SHOWN = 3  # names in an error
_EXPECTED = "data_dir/CLASS/*.jpg, or data_dir/SPLIT/CLASS/*.jpg with splits such as train and validation"


def folder_split(data_dir: StrPath, wanted: Sequence[str], reading: Reading) -> Split:
    """The first of the wanted splits that a folder has.

    A folder is flat if its subfolders hold images directly: these are the classes, and a hash of the path divides the
    images into the splits "train" and "validation"; "all" is both. Otherwise its subfolders are splits, also if those
    that hold images are all named like splits.

    Args:
        data_dir: The folder.
        wanted: Names of splits.
        reading: The `Reading`.

    Raises:
        MissingSplitError: If it has none of the wanted splits.
        InputError: If there is no such folder or no image in it, if it has both splits and classes, if a folder's name
            cannot be a class name, or if the reading asks for a fraction of the images of a folder with splits.
    """
    if not tf.io.gfile.isdir(data_dir):
        raise InputError(f"data_dir: there is no folder {data_dir}; expected {_EXPECTED}.")
    rules = reading.rules()
    top = list_folder(data_dir, rules)
    folders = list_subfolders(data_dir, top.folders, rules)
    if not folders:
        raise InputError(f"data_dir: {data_dir} holds no folders; expected {_EXPECTED}.")
    flat = [name for name, each in folders.items() if rules.finds_flat_folders and _is_class(name, each, rules)]
    if set(flat) <= set(SPLITS):  # not even one is surely a class
        if flat and len(flat) < len(folders):
            logging.info(f"{data_dir}: left out the folders {listed(flat)}, which hold images but no classes.")
        return _split_with_splits(data_dir, wanted, folders, reading)
    splits = [name for name, each in folders.items() if name not in flat and each.folders]
    if splits:
        raise InputError(
            f"data_dir: {data_dir} holds both classes, folders of images such as {listed(flat, _SHOWN)}, and splits, "
            f"folders of folders such as {listed(splits, _SHOWN)}. Expected one of the two; move the others elsewhere."
        )
    return _split_of_flat(data_dir, wanted, top, {name: folders[name] for name in flat}, reading)


def _is_class(name, listing, rules):
    """Whether a folder is a class of a flat dataset; one that is named like a split is a split if it holds folders."""
    return has_images(listing, rules) and not (name in SPLITS and listing.folders)


def _split_of_flat(data_dir, wanted, top, classes, reading):
    """One of the splits into which the images of class folders, listings by name, are divided."""
    rules, label_names = reading.rules(), checked_names(classes, f"data_dir: {data_dir}")
    paths = [class_images(os.path.join(data_dir, name), each, rules) for name, each in classes.items()]
    relative = [[f"{name}/{os.path.basename(path)}" for path in own] for name, own in zip(classes, paths, strict=True)]
    split = hashed_split(wanted, ImageFiles("folder", data_dir, label_names, paths), relative, reading)
    if split.name != VALIDATION:  # it is about the whole folder; once is enough
        _log_left_out(os.fspath(data_dir), others_in_words(classes, rules))
        _log_outside(data_dir, top, classes)
    return split


def _log_outside(data_dir, top, classes):
    """Logs what a flat dataset holds beside its classes."""
    others = lacking(top.folders, classes)
    if others:
        logging.info(f"{data_dir}: left out the folders {listed(others)}, which hold no images or are of a run.")
    if top.files:
        logging.info(f"{data_dir}: left out files that are in no class's folder: {len(top.files)}.")


def _split_with_splits(data_dir, wanted, folders, reading):
    """One of the folders, listings by name, which are splits."""
    rules, name = reading.rules(), _first_of(wanted, folders, data_dir)
    path = os.path.join(data_dir, name)
    classes = list_subfolders(path, folders[name].folders, rules)
    found = set(classes)
    if rules.every_split_counts:
        found.update(*(each.folders for each in folders.values()))
    label_names = checked_names(sorted(found), f"data_dir: {data_dir}")
    paths = [
        class_images(os.path.join(path, each), classes[each], rules) if each in classes else () for each in label_names
    ]
    split = own_split(name, ImageFiles("folder", data_dir, label_names, paths), reading)
    _log_left_out(f"Split {name!r}", others_in_words(classes, rules))
    return split


def _first_of(wanted, folders, data_dir):
    try:
        return first_of(wanted, list(folders), "folder", data_dir)
    except MissingSplitError as error:
        if TRAIN in folders and set(wanted) == set(wanted_splits(False, None)):
            train = os.path.join(data_dir, TRAIN)
            raise MissingSplitError(f"{error} To hold out some of its images, give {train} as data_dir.") from error
        if not set(folders) & set(SPLITS):
            raise MissingSplitError(f"{error} If these hold the classes, give one of them as data_dir.") from error
        raise


def _log_left_out(title, others):
    if others:
        logging.info(f"{title}: left out what is no image: {others}.")
