"""The weights of the classes in a run's loss: none, by their numbers of images, or from a file."""

import math
from collections.abc import Sequence

import numpy as np
from absl import logging

from mixnet_tf.class_names import lacking, listed, shown_names
from mixnet_tf.data import Split, naming_corrupt_images
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import exists, read_json
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import BALANCED, UNWEIGHTED, Recipe
from mixnet_tf.runs import RunConfig

_BATCH = 1024  # labels counted at once


def choose_class_weights(
    recipe: Recipe, split: Split, before: RunConfig | None, progress: Progress = silent
) -> tuple[float, ...] | None:
    """The weight of each class in a run's loss.

    Args:
        recipe: The `Recipe`. "balanced" weights a class by the mean number of images of the classes that have any,
            divided by its own, so that the mean over all images is 1; a class without images has the weight 1.
        split: The `data.Split` to train on. If it has no class names, a file has the numbers of the classes.
        before: The configuration that the run's folder has, whose weights stay; None: there is none.
        progress: Shows that images are counted, where the split has to be read for it.

    Returns:
        A number for each class; None if the recipe has no class weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not give each class a number above 0.
    """
    if recipe.class_weights == UNWEIGHTED:
        return None
    if before is not None and _keeps(recipe, before):
        if (split.label_names, split.num_classes) == (before.class_names, before.num_label_classes):
            return before.class_weights
    names = shown_names(split.label_names or range(split.num_classes))
    if recipe.class_weights == BALANCED:
        weights = _balanced(_count(split, progress) if split.class_counts is None else split.class_counts)
    else:
        weights = _in_order(_read(recipe.class_weights), names, recipe.class_weights)
    (low, first), (high, last) = (choose(zip(weights, names, strict=True)) for choose in (min, max))
    logging.info(f"Class weights, {recipe.class_weights}: from {low:.4g} ({first!r}) to {high:.4g} ({last!r}).")
    return weights


def check_class_weights(recipe: Recipe, before: RunConfig | None) -> None:
    """Reads a recipe's file of class weights, if the run needs it, so that a bad one is found before the data is read.

    Args:
        recipe: The `Recipe`.
        before: The configuration that the run's folder has; None: there is none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has anything else than numbers above 0 by name.
    """
    if recipe.class_weights not in (UNWEIGHTED, BALANCED) and not _keeps(recipe, before):
        _read(recipe.class_weights)


def _keeps(recipe, before):
    """Whether the folder's configuration has the recipe's class weights."""
    return before is not None and before.recipe.class_weights == recipe.class_weights and before.weights_classes


def _read(path):
    if not exists(path):
        raise MissingFileError(f"class_weights: there is no file {path}.")
    given = read_json(path)
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"class_weights: {path} has no weights by class name; expected an object such as "
            '{"cat": 1.0, "dog": 2.5}.'
        )
    for name, weight in given.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not math.isfinite(weight) or weight <= 0:
            raise InputError(f"class_weights: {path}: {name!r}: expected a number above 0, received {weight!r}.")
    return given


def _in_order(given, names, path):
    unknown, missing = lacking(given, names), lacking(names, given)
    if unknown or missing:
        raise InputError(
            f"class_weights: {path} has to name each class of the training images once. Not named: "
            f"{listed(missing) or 'none'}; not a class: {listed(unknown) or 'none'}."
        )
    return tuple(float(given[name]) for name in names)


def _count(split, progress):
    """The number of images of each class, from one pass over the labels."""
    counts = np.zeros(split.num_classes, np.int64)
    with naming_corrupt_images(split, progress), progress("Counting the images of each class"):
        for labels in split.read().map(lambda example: example["label"]).batch(_BATCH).as_numpy_iterator():
            counts += np.bincount(labels, minlength=split.num_classes)
    return counts.tolist()


def _balanced(counts: Sequence[int]) -> tuple[float, ...]:
    mean = sum(counts) / sum(count > 0 for count in counts)
    return tuple(mean / count if count > 0 else 1.0 for count in counts)
