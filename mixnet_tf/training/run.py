"""A training run from start, or from where it was, to its final model."""

import contextlib
import os
import random
import signal
from typing import NamedTuple

import keras
import tensorflow as tf

from mixnet_tf.data import load_split, naming_corrupt_images, train_batches
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import archive_final, build_evaluator
from mixnet_tf.networks import stages_and_params, unroll
from mixnet_tf.recipe import validate
from mixnet_tf.runs import CHECKPOINTS, CONFIG, FINAL, RunConfig, inference_model, save_model
from mixnet_tf.screen import SILENT
from mixnet_tf.training.checkpointing import Checkpointer
from mixnet_tf.training.distribution import is_chief, make_strategy
from mixnet_tf.training.interruption import INTERRUPTED, RESTART_ME, Interruption
from mixnet_tf.training.metrics import Progress
from mixnet_tf.training.recalibration import recalibrate
from mixnet_tf.training.trainer import Trainer
from mixnet_tf.weights import assign, read_weights


class Settings(NamedTuple):
    """How a run is carried out, and on which data.

    The recipe decides the computation but for three things. `strategy`, `jit_compile` and `deterministic` change
    rounding. The number of replicas decides which dropout masks are drawn and, unless the recipe has
    `sync_batch_norm`, how many images batch normalization takes its moments over: `train_batch_size` over replicas.
    The number of hosts decides the order of the images.
    """

    model_dir: str
    data_dir: str
    train_split: str | None = None
    eval_split: str | None = None
    num_train_images: int | None = None
    num_eval_images: int | None = None
    allow_missing_shards: bool = False
    eval_batch_size: int = 64
    strategy: str = "auto"
    tpu: str | None = None
    steps_per_loop: int = 10
    checkpoint_steps: int | None = None  # None: once per epoch, but after 100 to 2,500 steps
    use_cache: bool = False
    jit_compile: bool = False
    deterministic: bool = False
    allow_config_change: bool = False


def train(model_name, dataset, recipe, settings, weights=None, screen=SILENT):
    """Trains a network, goes on where an interrupted run of the same configuration was, and evaluates it.

    Leaves in `settings.model_dir`: config.json, metrics.jsonl, tensorboard/, checkpoints/, and at the
    end final.keras: the averages in float32, ending in softmax.

    Args:
        model_name: "mixnet-s", "mixnet-m" or "mixnet-l".
        dataset: What `data.load_split` takes.
        recipe: A `Recipe`.
        settings: `Settings`.
        weights: What `weights.load_weights` takes, to start from; a classifier of other classes is left out and
            a new one trained, as a line says. None for random ones.
        screen: A `screen.Screen`.

    Returns:
        The exit code: 0; or, where a signal stopped the run after it was saved, 130 for SIGINT on any host, else 75.

    Raises:
        ValueError: For bad arguments, before anything is written.
        FloatingPointError: If the loss is not finite.
    """
    validate(recipe)
    network = stages_and_params(model_name, override_params=recipe.model_overrides)
    if recipe.freeze != "none" and weights is None:
        raise InputError(f"freeze={recipe.freeze!r} keeps what is loaded; give the weights to start from.")
    strategy = make_strategy(settings.strategy, settings.tpu)  # before anything is computed, as TensorFlow asks
    # A run that goes on needs the weights that it started from no more.
    starts = tf.train.latest_checkpoint(os.path.join(settings.model_dir, CHECKPOINTS)) is None
    # Before the scope: in it a variable that one host makes and another does not would leave both waiting.
    first_weights = read_weights(weights, unroll(*network)) if weights is not None and starts else None
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    screen.say(f"Training {model_name} on {dataset} in {settings.model_dir}.")
    with screen.phase(f"Opening dataset {dataset}", draws_itself=True):
        train_split, eval_split = _load_splits(dataset, settings)
    if eval_split.num_classes != train_split.num_classes:
        raise InputError(
            f"Split {eval_split.name!r} has {eval_split.num_classes} classes, {train_split.name!r} has "
            f"{train_split.num_classes}."
        )
    config = RunConfig(
        model_name,
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
    )
    _check_config(config, settings)

    total_steps = recipe.train_steps(train_split.num_examples)
    steps_per_epoch = recipe.steps_per_epoch(train_split.num_examples)
    random.seed(recipe.seed)  # where Keras draws the seeds of initializers and dropout from
    with strategy.scope(), _dtype_policy(recipe.precision):
        model = config.build_model(classifier_activation=None)
        if first_weights is not None:
            _start_from(weights, first_weights, model, train_split.num_classes, screen)
        trainer = Trainer(model, recipe, steps_per_epoch, strategy, total_steps, settings.jit_compile)
    evaluate = build_evaluator(
        trainer.ema_model, eval_split, recipe.crop, settings.eval_batch_size, strategy, settings.jit_compile
    )
    chief = is_chief(strategy)
    if chief:
        config.write(settings.model_dir)
    checkpointer = Checkpointer(trainer, settings.model_dir)
    restored = checkpointer.restore(screen)
    if restored is not None:
        screen.say(f"Going on from {restored}.")

    progress = Progress(settings.model_dir if chief else None, trainer.step, recipe.train_batch_size, screen)
    checkpoint_steps = settings.checkpoint_steps or min(2500, max(100, round(steps_per_epoch)))
    with (
        Interruption(screen) as interruption,
        naming_corrupt_images(train_split, screen),
        screen.phase("Training", total_steps, "steps", trainer.step) as phase,
    ):
        phase.describe("compiling the first step")
        batches = iter(_distributed_train_batches(strategy, train_split, recipe, trainer.step, settings.use_cache))
        while trainer.step < total_steps and not trainer.any_host(interruption.requested is not None):
            to_checkpoint = checkpoint_steps - trainer.step % checkpoint_steps
            steps = min(settings.steps_per_loop, to_checkpoint, total_steps - trainer.step)
            metrics = {name: float(value) for name, value in trainer.train_steps(batches, tf.constant(steps)).items()}
            _check_finite(int(metrics.pop("first_bad_step")), trainer)
            progress.train(trainer.step, metrics, phase)
            if trainer.step % checkpoint_steps == 0:
                checkpointer.save()
                progress.flush()
        if trainer.step != checkpointer.saved_step:
            checkpointer.save()
        progress.flush()
        ctrl_c = trainer.any_host(interruption.requested == signal.SIGINT)
    if trainer.step < total_steps:
        screen.say(f"Saved at step {trainer.step} of {total_steps}; the same command goes on from there.")
        return INTERRUPTED if ctrl_c else RESTART_ME

    if recipe.recalibrate_batch_norm:
        with screen.phase("Measuring the statistics of batch normalization"):
            recalibrate(trainer.ema_model, train_split, recipe, strategy)
    metrics = evaluate(screen)
    progress.evaluation(total_steps, metrics)
    if chief:
        final = inference_model(config, trainer.ema_model.get_weights())
        save_model(final, os.path.join(settings.model_dir, FINAL))
        screen.say(f"Wrote {os.path.join(settings.model_dir, FINAL)}.")
        best = archive_final(final, {"step": total_steps, **metrics}, eval_split, settings.model_dir)
        if best is not None:
            screen.say(best)
    checkpointer.finish()
    return 0


def _load_splits(dataset, settings):
    incomplete = settings.allow_missing_shards
    return (
        load_split(dataset, settings.data_dir, True, settings.train_split, settings.num_train_images, incomplete),
        load_split(dataset, settings.data_dir, False, settings.eval_split, settings.num_eval_images, incomplete),
    )


def _distributed_train_batches(strategy, split, recipe, step, use_cache):
    def of_host(context):
        hosts = context.num_input_pipelines
        batch_size = context.get_per_replica_batch_size(recipe.train_batch_size)
        first_image = step * recipe.train_batch_size // hosts
        return train_batches(split, recipe, batch_size, first_image, context.input_pipeline_id, hosts, use_cache)

    return strategy.distribute_datasets_from_function(of_host)


def _start_from(weights, read, model, here, screen):
    """Assigns all that fits a model with `here` classes, and says what that was."""
    there = read.classes
    assign(model, read, skip_head=there != here)
    if there == here:
        screen.say(f"Loaded all weights of {weights}, the classifier of {here} classes included.")
    else:
        theirs = "it has none" if there is None else f"there it is of {there} classes"
        screen.say(
            f"Loaded all weights of {weights} but the classifier, head_dense ({theirs}): "
            f"the new one, of {here} classes, starts from random weights."
        )


def _check_config(config, settings):
    path = os.path.join(settings.model_dir, CONFIG)
    if settings.allow_config_change or not tf.io.gfile.exists(settings.model_dir):
        return
    try:
        there = RunConfig.read(settings.model_dir)
    except FileNotFoundError:
        return
    differences = there.differences(config)
    if differences:
        listing = "\n".join(f"  {line}" for line in differences)
        raise InputError(
            f"{path} is of another configuration; name another model_dir, or go on with --allow_config_change.\n"
            f"{listing}"
        )


def _check_finite(first_bad_step, trainer):
    if first_bad_step >= 0:
        raise FloatingPointError(
            f"The loss is not finite at step {first_bad_step}, learning rate "
            f"{float(trainer.learning_rate(first_bad_step)):.3g}; the last checkpoint is from before. "
            f"A smaller --base_learning_rate may help."
        )


@contextlib.contextmanager
def _dtype_policy(precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
