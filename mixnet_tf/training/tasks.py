"""What differs between classification and detection in a run: data, loss and evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from mixnet_tf.data import Split, load_objects, load_split, train_batches, train_object_batches
from mixnet_tf.detection import anchors_of
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_detection_evaluator, build_evaluator
from mixnet_tf.networks import BILINEAR
from mixnet_tf.recipe import DETECTION, DetectionRecipe, Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.training.objectives import Objective, classification, detection


class Task(NamedTuple):
    """The functions of a task.

    Attributes:
        check: A function of the `Recipe` that raises a ValueError for a field that the task does not support.
        load_split: A function with the arguments of `data.load_split` that returns a `data.Split`.
        train_batches: A function with the arguments of `data.train_batches` that returns a dataset.
        objective: A function (model to train, `RunConfig`) -> `Objective`.
        build_evaluator: A function with the arguments of `evaluation.build_evaluator` that returns an evaluator.
    """

    check: Callable[[Recipe], None]
    load_split: Callable[..., Split]
    train_batches: Callable
    objective: Callable[[keras.Model, RunConfig], Objective]
    build_evaluator: Callable[..., Callable[..., dict[str, Any]]]


def task_of(name: str) -> Task:
    """Returns the `Task` named "classification" or "detection"."""
    if name == DETECTION:
        return Task(
            _check_detection,
            load_objects,
            train_object_batches,
            lambda model, config: detection(config.detection or DetectionRecipe(), anchors_of(model)),
            _build_detection_evaluator,
        )
    return Task(
        lambda recipe: None,
        load_split,
        train_batches,
        lambda model, config: classification(config.recipe, config.class_weights),
        build_evaluator,
    )


_CLASSIFICATION_ONLY = (
    "shift",
    "zoom",
    "rotation",
    "randaugment_layers",
    "color_jitter",
    "erasing",
    "mixup",
    "cutmix",
    "recalibrate_batch_norm",
    "class_weights",
)


def _check_detection(recipe):
    for field in _CLASSIFICATION_ONLY:
        if getattr(recipe, field) != Recipe._field_defaults[field]:
            raise InputError(f"{field}: {getattr(recipe, field)!r} is for classification; leave it out for detection.")
    if recipe.interpolation != BILINEAR:
        raise InputError(f"interpolation: {recipe.interpolation!r} is for classification; detectors take {BILINEAR}.")


def _build_detection_evaluator(model, split, crop=True, batch_size=64, *_):
    del crop  # always the whole image, on the first device; XLA does not compile suppression
    return build_detection_evaluator(model, split, batch_size)
