"""A training run, from its checks to its final model."""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Sequence

import tensorflow as tf
from absl import logging

from mixnet_tf.data import Split, counting_turned, log_turned
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, check_can_be_made
from mixnet_tf.networks import CPU_FORMS, set_forms, stages_and_params, unroll
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import CLASSIFICATION, DETECTION, DetectionRecipe, Recipe, validate
from mixnet_tf.runs import (
    CHECKPOINTS,
    RunConfig,
    newest_checkpoint,
    noting_training_images,
)
from mixnet_tf.settings import check
from mixnet_tf.training import processor
from mixnet_tf.training.checkpointing import Checkpointer
from mixnet_tf.training.class_weights import check_class_weights, choose_class_weights
from mixnet_tf.training.configuring import configure
from mixnet_tf.training.distribution import check_forms, default_forms, is_chief, make_strategy, on_cpus
from mixnet_tf.training.ending import finish, is_finished, report_end
from mixnet_tf.training.evaluating import Evaluations
from mixnet_tf.training.fitting import fit
from mixnet_tf.training.interruption import INTERRUPTED, RESTART_ME
from mixnet_tf.training.locking import only_run_in
from mixnet_tf.training.metrics import MetricsLog
from mixnet_tf.training.options import RunOptions
from mixnet_tf.training.splits import check_boxes, load_splits
from mixnet_tf.training.starting import start_from
from mixnet_tf.training.tasks import task_of
from mixnet_tf.training.trainer import Trainer, dtype_policy
from mixnet_tf.weights import Arrays, read_weights


def train(
    model_name: StrPath,
    dataset: str,
    recipe: Recipe | Callable[[Split], Recipe],
    options: RunOptions,
    weights: StrPath | None = None,
    progress: Progress = silent,
    kernel_size: int | Sequence[int] | None = None,
    detection: DetectionRecipe | None = None,
) -> int:
    """Trains a network, resumes an interrupted run of the same configuration, and evaluates it.

    Leaves in `options.model_dir`: config.json, metrics.jsonl, tensorboard/, checkpoints/, and at the end final.keras:
    the EMA weights in float32; a classifier ends in softmax. A run that is not in the main thread does not handle
    signals.

    Args:
        model_name: A network's name or the path of a network file, as `mixnet_tf.build_model` takes it.
        dataset: What `mixnet_tf.data.load_split` takes, or for detection `load_objects`.
        recipe: A `Recipe`, or a function that returns it for the `data.Split` to train on.
        options: `RunOptions`.
        weights: What `mixnet_tf.load_weights` takes, to start from. A classifier of other classes is not loaded: a new
            one is trained, and the log says so. None: random weights.
        progress: Shows the phases of the work.
        kernel_size: Replaces every depthwise kernel, as in `mixnet_tf.build_model`; None: the network's own.
        detection: A `DetectionRecipe` to train an `SSDLite` on the network; None: a classifier.

    Returns:
        The exit code: 0; or, if a signal stopped the run and it was saved, 130 for SIGINT on any host, else 75.

    Raises:
        ValueError: For bad arguments, before anything is written; or if another process trains in the folder.
        FloatingPointError: If the loss is not finite.
    """
    # Everything that can be checked before the work starts.
    check(options)
    if detection is not None:
        check(detection)
    task_name = CLASSIFICATION if detection is None else DETECTION
    task = task_of(task_name)
    before = RunConfig.read_if_any(options.model_dir)

    def check_recipe(recipe):
        """Checks the recipe, and returns the network with the parameters that it replaces."""
        validate(recipe)
        task.check(recipe)
        if recipe.freeze != "none" and weights is None:
            raise InputError(f"freeze={recipe.freeze!r} keeps what is loaded; give the weights to start from.")
        check_class_weights(recipe, before)
        return stages_and_params(model_name, override_params=recipe.model_overrides, kernel_size=kernel_size)

    if isinstance(recipe, Recipe):
        network = check_recipe(recipe)
    else:
        stages_and_params(model_name, kernel_size=kernel_size)
    check_can_be_made("model_dir", options.model_dir)

    # The devices, the weights to start from, and the data.
    strategy = make_strategy(options.strategy, options.tpu)  # before anything is computed, as TensorFlow asks
    forms = options.forms(default_forms(strategy, options.jit_compile) if before is None else before.forms)
    check_forms(forms, strategy, options.jit_compile)
    chief = is_chief(strategy)
    # A run that resumes does not need the weights that it started from.
    is_new = newest_checkpoint(os.path.join(options.model_dir, CHECKPOINTS)) is None
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    logging.info(f"Training {model_name} on {dataset} in {options.model_dir}.")

    def open_dataset():
        with progress(f"Opening dataset {dataset}", draws_itself=True):
            return load_splits(task, dataset, options, is_new)

    splits = None
    if not isinstance(recipe, Recipe):
        splits = open_dataset()
        recipe = recipe(splits[0])
        network = check_recipe(recipe)
    # Before the scope: in it, a variable that only some of the hosts make would leave all of them waiting.
    first_weights = read_weights(weights, unroll(*network)) if weights is not None and is_new else None
    train_split, eval_split = splits or open_dataset()
    if detection is not None and is_new:
        check_boxes((train_split, eval_split), progress)
    config = configure(
        model_name,
        dataset,
        recipe,
        options,
        weights,
        kernel_size,
        detection,
        train_split,
        eval_split,
        before,
        is_new,
        forms,
        None if first_weights is None else first_weights.params,
        choose_class_weights(recipe, train_split, before, progress),
    )
    if is_new and forms == CPU_FORMS and on_cpus(strategy) and (hint := processor.hint()):
        logging.info(hint)

    # Only the chief locks the folder: the workers of a run share it.
    with only_run_in(options.model_dir) if chief else contextlib.nullcontext():
        if not options.allow_config_change:
            config.check_resumes(options.model_dir)
            if is_finished(config, options.model_dir):
                report_end(config, options.model_dir)
                return 0
        trainer = trainer_for(config, strategy, options.jit_compile, first_weights)
        eval_split = noting_training_images(eval_split, config)
        evaluate = task.build_evaluator(
            trainer.ema_model,
            eval_split,
            config.resizing,
            options.eval_batch_size,
            strategy,
            options.jit_compile,
            config.weights_classes,
        )
        if chief:
            config.write(options.model_dir)
        folder = options.model_dir if chief else None
        evaluations = Evaluations(config, trainer, eval_split, evaluate, folder)
        checkpointer = Checkpointer(trainer, options.model_dir, evaluations.state)
        restored = checkpointer.restore()
        if restored is not None:
            logging.info(f"Resuming from {restored}.")
            if before is not None and evaluations.begin_anew(before):
                checkpointer.save()  # or a kill before the next one would bring back what was counted
        metrics = MetricsLog(folder, trainer.step, recipe.train_batch_size)
        if chief:
            log_turned(train_split)
        with counting_turned(train_split) as count_turned:
            number = fit(
                trainer,
                checkpointer,
                train_split,
                task.train_batches,
                options,
                metrics,
                progress,
                evaluations,
                count_turned if chief else None,
            )
        total_steps = recipe.total_steps(config.num_train_images)
        if trainer.step < total_steps and not evaluations.end_the_run:
            logging.info(f"Saved at step {trainer.step} of {total_steps}; the same command resumes there.")
            return INTERRUPTED if number == signal.SIGINT else RESTART_ME

        finish(trainer, evaluations, config, train_split, metrics, progress)
        checkpointer.finish()
    return 0


def trainer_for(
    config: RunConfig,
    strategy: tf.distribute.Strategy | None = None,
    jit_compile: bool = False,
    first_weights: Arrays | None = None,
) -> Trainer:
    """Builds the model of a run and its `Trainer`, which is at step 0.

    Args:
        config: What the run trains.
        strategy: A `tf.distribute.Strategy`; None for the current one.
        jit_compile: Whether XLA compiles the step.
        first_weights: The weights to start from; None: random weights.
    """
    recipe = config.recipe
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    random.seed(recipe.seed)  # from which Keras draws the seeds of initializers and dropout
    with strategy.scope(), dtype_policy(recipe.precision):
        model = config.build_model(classifier_activation=None)
        if first_weights is not None:
            start_from(first_weights, config, model)
        set_forms(model, config.forms)
        return Trainer(
            model,
            recipe,
            recipe.steps_per_epoch(config.num_train_images),
            strategy,
            recipe.total_steps(config.num_train_images),
            jit_compile,
            task_of(config.task).objective(model, config),
        )
