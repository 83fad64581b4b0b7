"""The work of train.py in one call, for a notebook or a program."""

import os
import sys
from typing import Any, NamedTuple

import keras
import numpy as np

from mixnet_tf.commands.screen import command_screen, shown_log
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath
from mixnet_tf.named_recipes import OWN_IMAGES, RECIPES
from mixnet_tf.recipe import Recipe
from mixnet_tf.saved_models import open_model
from mixnet_tf.settings import fields as settings_of
from mixnet_tf.training import INTERRUPTED, RunOptions, choose_recipe, read_metrics, replaced
from mixnet_tf.training import train as train_run

_RECIPE = [name for name in Recipe._fields if name != "name"]
_OPTIONS = [name for name in settings_of(RunOptions) if name not in ("data_dir", "model_dir")]


class TrainedRun(NamedTuple):
    """What a run ended with.

    Attributes:
        model: The best model, or the final one if none was chosen: from RGB images in [0, 255] to probabilities.
        metrics: The measurements as float arrays, by the names that they have in TensorBoard, such as "train/loss" and
            "eval/top_1_accuracy"; "train/step" and "eval/step" are the steps that they were measured at.
        model_dir: Folder of the run.
    """

    model: keras.Model
    metrics: dict[str, np.ndarray]
    model_dir: str


def train(
    data_dir: StrPath,
    model_dir: StrPath,
    model_name: StrPath = "mixnet-s",
    weights: StrPath | None = None,
    recipe: str | Recipe | None = None,
    *,
    dataset: str = "folder",
    **fields: Any,
) -> TrainedRun:
    """Trains a classifier on images of one's own, as `train.py` does, and resumes an interrupted run.

    Shows progress, and writes to `model_dir` what `train.py` writes. A run that is finished is opened again. To stop,
    interrupt: the state is saved, and the same call resumes it.

    Args:
        data_dir: Folder of the images, data_dir/class/*.jpg or data_dir/split/class/*.jpg.
        model_dir: Folder of the run.
        model_name: A network's name or the path of a network file.
        weights: What `mixnet_tf.load_weights` takes, to start from, such as "imagenet"; None: random weights.
        recipe: Name of a recipe, or a `mixnet_tf.recipe.Recipe`; None: one that fits the number of images.
        dataset: Another dataset than a folder: "list", "digits", "tfrecord" or a name of tensorflow_datasets.
        **fields: Fields of `mixnet_tf.recipe.Recipe` and of `mixnet_tf.training.RunOptions` by name, such as
            `train_epochs=20` or `validation_fraction=0.1`.

    Returns:
        A `TrainedRun`.

    Raises:
        ValueError: For bad arguments or data, before the work.
        FloatingPointError: If the loss is not finite.
        KeyboardInterrupt: If it was interrupted; the run is saved.
        SystemExit: With code 75, if SIGTERM or SIGHUP stopped it; the run is saved.
    """
    unknown = sorted(set(fields) - {*_RECIPE, *_OPTIONS})
    if unknown:
        raise InputError(f"Unknown fields {unknown}; expected those of a recipe, {_RECIPE}, and of a run, {_OPTIONS}.")
    data_dir, model_dir = (os.path.expanduser(os.fspath(path)) for path in (data_dir, model_dir))
    options = RunOptions(model_dir, data_dir, **{name: fields[name] for name in _OPTIONS if name in fields})
    given = {name: fields[name] for name in _RECIPE if name in fields}
    names = [*RECIPES, OWN_IMAGES]
    if isinstance(recipe, Recipe):
        chosen: Any = replaced(recipe, given)
    elif recipe is None or recipe in names:
        chosen = choose_recipe(recipe, given, dataset, model_dir, weights=weights)
    else:
        raise InputError(f"recipe: expected a Recipe or one of {names}; received {recipe!r}.")
    screen = command_screen()
    with shown_log(screen):
        code = train_run(model_name, dataset, chosen, options, weights, screen.phase)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        sys.exit(code)
    return TrainedRun(open_model(model_dir=model_dir).model, _columns(read_metrics(model_dir)), model_dir)


def _columns(rows):
    """The values of each measurement, NaN where a row lacks it."""
    columns = {}
    for kind in ("train", "eval"):
        own = [row for row in rows if row["kind"] == kind]
        names = dict.fromkeys(name for row in own for name in row if name not in ("kind", "notes"))
        for name in names:
            values = [row.get(name) for row in own]
            columns[f"{kind}/{name}"] = np.array([np.nan if value is None else value for value in values], float)
    return columns
