"""The configuration of a run, as its config.json has it, from what was asked for and what its data turned out to be."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath
from mixnet_tf.networks import Forms, is_network_file, network_content, network_name, stages_and_params
from mixnet_tf.recipe import CLASSIFICATION, DETECTION, DetectionRecipe, Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.training.evaluating import evaluation_intervals
from mixnet_tf.training.options import RunOptions


def configure(
    model_name: StrPath,
    dataset: str,
    recipe: Recipe,
    options: RunOptions,
    weights: StrPath | None,
    kernel_size: int | Sequence[int] | None,
    detection: DetectionRecipe | None,
    train_split: Split,
    eval_split: Split,
    before: RunConfig | None,
    is_new: bool,
    forms: Forms,
    weights_params: Mapping[str, Any] | None = None,
    class_weights: tuple[float, ...] | None = None,
) -> RunConfig:
    """The `RunConfig` of a run; warns if its recipe ends within its warm-up.

    Args:
        model_name: As `train` takes it, and so are the next six.
        dataset: The dataset's name.
        recipe: The `Recipe`.
        options: `RunOptions`.
        weights: The weights to start from.
        kernel_size: Size of every depthwise kernel.
        detection: The `DetectionRecipe`.
        train_split: The `data.Split` to train on.
        eval_split: The `data.Split` to evaluate on.
        before: The configuration that the folder has; None: there is none.
        is_new: Whether the folder has no checkpoint.
        forms: The forms in which layers compute in training.
        weights_params: Fields of `GlobalParams` with which the weights were trained; a run that resumes keeps its own.
        class_weights: The weight of each class.

    Raises:
        ValueError: If early stopping does not go with the evaluations, or if the recipe's `model_overrides` contradict
            the weights.
    """
    content = None  # of the network file; a released network with its own kernels needs none
    if is_network_file(model_name) or kernel_size is not None:
        content = network_content(*stages_and_params(model_name, kernel_size=kernel_size))
    eval_every, early_stopping = evaluation_intervals(options, before, train_split, eval_split)
    if before is not None and not is_new and weights is not None and before.weights == os.fspath(weights):
        weights_params = before.weights_params
    for name, value in (weights_params or {}).items():
        if (recipe.model_overrides or {}).get(name, value) != value:
            raise InputError(f"{weights} are of a network with {name}={value!r}; model_overrides has another one.")
    resumes = before is not None and not (is_new or options.allow_config_change)
    config = RunConfig(
        network_name(model_name),
        train_split.num_classes,
        dataset,
        train_split.num_examples,
        recipe,
        train_split.label_names,
        None if weights is None else os.fspath(weights),
        train_split=train_split.name,
        eval_split=eval_split.name,
        train_shards=len(train_split.files),
        missing_shards=train_split.missing_shards + eval_split.missing_shards,
        network=content,
        task=CLASSIFICATION if detection is None else DETECTION,
        detection=detection,
        data_version=train_split.rules.version,
        exif=train_split.rules.exif,
        validation_fraction=train_split.validation_fraction,
        hash_version=train_split.hash_version,
        list=train_split.list_path,
        eval_every=eval_every,
        early_stopping=early_stopping,
        stopped_at=before.stopped_at if before is not None and resumes else None,
        weights_params=None if weights_params is None else dict(weights_params),
        class_weights=class_weights,
        forms=forms,
    )
    _warn_of_a_run_within_its_warmup(config)
    return config


def _warn_of_a_run_within_its_warmup(config):
    """Warns if the run ends before its learning rate has reached the recipe's peak."""
    recipe, total_steps = config.recipe, config.recipe.total_steps(config.num_train_images)
    if total_steps <= recipe.warmup_epochs * recipe.steps_per_epoch(config.num_train_images):
        logging.warning(
            f"The run's {total_steps} steps are within the warm-up of {recipe.warmup_epochs:g} epochs: the learning "
            "rate only rises. To get past it, train longer, or give a smaller --warmup_epochs."
        )
