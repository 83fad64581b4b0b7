"""The recipe that a run takes: the one of its folder, the one that is named, or one that fits its images."""

import functools
import os
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from mixnet_tf.data import Split, naming_corrupt_images, shorter_sides
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, exists
from mixnet_tf.imagenet import is_imagenet
from mixnet_tf.named_recipes import OWN_IMAGES, RECIPES, own_images, recipe_for
from mixnet_tf.recipe import CLASSIFICATION, Recipe
from mixnet_tf.runs import CONFIG, RunConfig

_FILES = ("folder", "list")  # datasets of one's own images
_MEASURED = 100  # images whose size is looked at


def choose_recipe(
    name: str | None,
    fields: Mapping[str, Any],
    dataset: str,
    model_dir: StrPath,
    task: str = CLASSIFICATION,
    weights: StrPath | None = None,
) -> Recipe | Callable[[Split], Recipe]:
    """Chooses the recipe of a run.

    A run that has begun in `model_dir` keeps the recipe of its config.json, even if a newer version has changed that
    recipe. A new run has the recipe that is named. If none is, it has the dataset's own; for a folder or a list of
    images "own_images", which depends on the images.

    Args:
        name: One of `RECIPES`, or "own_images"; None: none is named.
        fields: Values of fields of `Recipe`, which replace the recipe's; those of `model_overrides` are added to it.
        dataset: Name of the dataset.
        model_dir: Folder of the run.
        task: "classification" or "detection".
        weights: The weights that the run starts from; None: random ones.

    Returns:
        The `Recipe`, or a function that returns it for the `data.Split` to train on.

    Raises:
        ValueError: As `replaced`.
    """
    if exists(os.path.join(model_dir, CONFIG)):
        recipe = RunConfig.read(model_dir).recipe
        # Only the name: `train` refuses to resume a run of another recipe.
        return replaced(recipe._replace(name=name or recipe.name), fields)
    if name == OWN_IMAGES or (name is None and dataset in _FILES and task == CLASSIFICATION):
        return functools.partial(_fitting, fields, weights is not None, name is not None)
    return replaced(recipe_for(dataset, task) if name is None else RECIPES[name], fields)


def replaced(recipe: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """A recipe with other values for some fields; those of `model_overrides` are added to the recipe's.

    Raises:
        ValueError: If both `train_epochs` and `train_steps` are given.
    """
    given = dict(fields)
    if {"train_epochs", "train_steps"} <= set(given):
        raise InputError("Give either --train_epochs or --train_steps, not both.")
    if "train_epochs" in given:
        given["train_steps"] = None
    if given.get("model_overrides") is not None:
        given["model_overrides"] = {**(recipe.model_overrides or {}), **given["model_overrides"]}
    return recipe._replace(**given)


def _fitting(fields, pretrained, named, split):
    """The recipe for a split: `own_images`, or ImageNet's, if its classes are ImageNet's and none was named."""
    if not named and is_imagenet(split.label_names):
        return replaced(RECIPES["imagenet"], fields)
    with naming_corrupt_images(split):
        side = round(statistics.median(shorter_sides(split, _MEASURED)))
    recipe = replaced(own_images(split.num_examples, pretrained, side), fields)
    logging.info(
        f"Recipe own_images: batches of {recipe.train_batch_size} images, "
        f"{recipe.total_steps(split.num_examples):,} steps, {recipe.image_size} pixels."
    )
    if not pretrained:
        logging.info(
            "The run starts from random weights. Pretrained ones need fewer images and steps: weights=imagenet are "
            "Google's of MixNet-S, M and L, and timm's of XL."
        )
    return recipe
