"""A training run from start, or from where it was, to its final model."""

import contextlib
import os
import signal
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from mixnet_tf.data import naming_corrupt_images
from mixnet_tf.evaluation import update_best_with_final
from mixnet_tf.files import StrPath
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import DetectionRecipe, Recipe
from mixnet_tf.runs import FINAL, inference_model, save_model
from mixnet_tf.training.distribution import is_chief
from mixnet_tf.training.interruption import INTERRUPTED, RESTART_ME, Interruption
from mixnet_tf.training.locking import only_run_in
from mixnet_tf.training.metrics import MetricsLog
from mixnet_tf.training.preparation import Run, Settings, open_run, prepare
from mixnet_tf.training.recalibration import recalibrate


def train(
    model_name: StrPath,
    dataset: str,
    recipe: Recipe,
    settings: Settings,
    weights: StrPath | None = None,
    progress: Progress = silent,
    kernel_size: int | Sequence[int] | None = None,
    detection: DetectionRecipe | None = None,
) -> int:
    """Trains a network, resumes an interrupted run of the same configuration, and evaluates it.

    Leaves in `settings.model_dir`: config.json, metrics.jsonl, tensorboard/, checkpoints/, and at the
    end final.keras: the averages in float32, a classifier's ending in softmax. Off the main thread it trains without
    handling signals.

    Args:
        model_name: A network's name or the path of a network file, as `mixnet_tf.build_model` takes it.
        dataset: What `mixnet_tf.data.load_split` takes, or for detection `load_objects`.
        recipe: A `Recipe`.
        settings: `Settings`.
        weights: What `mixnet_tf.load_weights` takes, to start from; a classifier of other classes is left out and
            a new one trained, as the log says. None for random ones.
        progress: Shows the phases of the work.
        kernel_size: What `mixnet_tf.build_model` takes, in place of every depthwise kernel; None: the network's own.
        detection: A `DetectionRecipe` to train an `SSDLite` on the network; None: a classifier.

    Returns:
        The exit code: 0; or, where a signal stopped the run after it was saved, 130 for SIGINT on any host, else 75.

    Raises:
        ValueError: For bad arguments, before anything is written, and where another process trains in the folder.
        FloatingPointError: If the loss is not finite.
    """
    prepared = prepare(model_name, dataset, recipe, settings, weights, progress, kernel_size, detection)
    chief = is_chief(prepared.strategy)
    # The chief alone: the workers of one run share its folder.
    with only_run_in(settings.model_dir) if chief else contextlib.nullcontext():
        run = open_run(*prepared)
        metrics = MetricsLog(settings.model_dir if chief else None, run.trainer.step, recipe.train_batch_size)
        signal_number = fit(run, metrics, progress)
        if run.trainer.step < run.total_steps:
            logging.info(f"Saved at step {run.trainer.step} of {run.total_steps}; the same command resumes there.")
            return INTERRUPTED if signal_number == signal.SIGINT else RESTART_ME
        finish(run, metrics, progress)
    return 0


def fit(run: Run, metrics: MetricsLog, progress: Progress = silent) -> int | None:
    """Trains to the last step, or until a signal asks to stop; the state is saved then.

    Args:
        run: A `Run`.
        metrics: The `MetricsLog` for the measurements.
        progress: Shows the phases of the work.

    Returns:
        The signal that stopped the run, SIGINT if some host received that; None if it came to its end.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    trainer, total_steps = run.trainer, run.total_steps
    checkpoint_steps = run.settings.checkpoint_steps or _checkpoint_steps(run.config)
    with (
        Interruption() as interruption,
        naming_corrupt_images(run.train_split, progress),
        progress("Training", total_steps, "steps", trainer.step) as phase,
    ):
        phase.describe("compiling the first step")
        batches = iter(_distributed_train_batches(run))
        while trainer.step < total_steps and not trainer.any_host(interruption.requested is not None):
            to_checkpoint = checkpoint_steps - trainer.step % checkpoint_steps
            steps = min(run.settings.steps_per_loop, to_checkpoint, total_steps - trainer.step)
            measured = {name: float(value) for name, value in trainer.train_steps(batches, tf.constant(steps)).items()}
            _check_finite(int(measured.pop("first_bad_step")), trainer)
            metrics.train(trainer.step, measured, phase)
            if trainer.step % checkpoint_steps == 0:
                run.checkpointer.save()
                metrics.flush()
        if trainer.step != run.checkpointer.saved_step:
            run.checkpointer.save()
        metrics.flush()
        ctrl_c = trainer.any_host(interruption.requested == signal.SIGINT)
    return signal.SIGINT if ctrl_c else interruption.requested


def finish(run: Run, metrics: MetricsLog, progress: Progress = silent) -> None:
    """Evaluates the averages, and writes them as the run's final model.

    The arguments are those of `fit`.
    """
    model = run.trainer.ema_model
    if run.config.recipe.recalibrate_batch_norm:
        with progress("Measuring the statistics of batch normalization"):
            recalibrate(model, run.train_split, run.config.recipe, run.trainer.strategy)
    measured = run.evaluate(progress)
    metrics.evaluation(run.total_steps, measured)
    if run.is_chief:
        model_dir = run.settings.model_dir
        final = inference_model(run.config, model.get_weights())
        save_model(final, os.path.join(model_dir, FINAL))
        logging.info(f"Wrote {os.path.join(model_dir, FINAL)}.")
        best = update_best_with_final(final, {"step": run.total_steps, **measured}, run.eval_split, model_dir)
        if best is not None:
            logging.info(best)
    run.checkpointer.finish()


def _checkpoint_steps(config):
    """Once per epoch, but after 100 to 2,500 steps."""
    return min(2500, max(100, round(config.recipe.steps_per_epoch(config.num_train_images))))


def _distributed_train_batches(run):
    recipe, step = run.config.recipe, run.trainer.step

    def of_host(context):
        hosts = context.num_input_pipelines
        batch_size = context.get_per_replica_batch_size(recipe.train_batch_size)
        first_image = step * recipe.train_batch_size // hosts
        return run.task.train_batches(
            run.train_split,
            recipe,
            batch_size,
            first_image,
            context.input_pipeline_id,
            hosts,
            run.settings.use_cache,
        )

    return run.trainer.strategy.distribute_datasets_from_function(of_host)


def _check_finite(first_bad_step, trainer):
    if first_bad_step >= 0:
        raise FloatingPointError(
            f"The loss is not finite at step {first_bad_step}, learning rate "
            f"{float(trainer.learning_rate(first_bad_step)):.3g}; the last checkpoint is from before. "
            f"A smaller --base_learning_rate may help."
        )
