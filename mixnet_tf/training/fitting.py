"""The loop of a run: trains to its last step, saves checkpoints, and stops when a signal asks for it."""

import math
import signal
from collections.abc import Callable

import tensorflow as tf

from mixnet_tf.data import Split, naming_corrupt_images
from mixnet_tf.progress import Progress, silent
from mixnet_tf.training.checkpointing import Checkpointer
from mixnet_tf.training.evaluating import Evaluations
from mixnet_tf.training.interruption import Interruption
from mixnet_tf.training.metrics import MetricsLog
from mixnet_tf.training.options import RunOptions
from mixnet_tf.training.trainer import Trainer


def fit(
    trainer: Trainer,
    checkpointer: Checkpointer,
    split: Split,
    train_batches: Callable[..., tf.data.Dataset],
    options: RunOptions,
    metrics: MetricsLog,
    progress: Progress = silent,
    evaluations: Evaluations | None = None,
    after_first_epoch: Callable[[], None] | None = None,
) -> int | None:
    """Trains to the last step, until the evaluations end the run, or until a signal asks to stop; the state is saved.

    A checkpoint that is due at the step of an evaluation is saved before it. A run that resumes at a step whose
    evaluation it does not have begins with that. The evaluation at the last step is not made here.

    Args:
        trainer: A `Trainer`, at the step where the run starts or resumes.
        checkpointer: Its `Checkpointer`.
        split: The `data.Split` to train on.
        train_batches: A function like `data.train_batches`.
        options: `RunOptions`.
        metrics: The `MetricsLog` for the measurements.
        progress: Shows the phases of the work.
        evaluations: The `Evaluations` of the run; None: it is not evaluated while it trains.
        after_first_epoch: Called when each image has been seen once; not if that was before the run resumed.

    Returns:
        The number of the signal that stopped the run, SIGINT if any host received that; None if no signal came.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    recipe, strategy = trainer.recipe, trainer.strategy
    total_steps = recipe.total_steps(split.num_examples)
    checkpoint_steps = options.checkpoint_steps or _default_checkpoint_steps(recipe, split)

    def batches_of_host(context):
        hosts = context.num_input_pipelines
        batch_size = context.get_per_replica_batch_size(recipe.train_batch_size)
        first_image = trainer.step * recipe.train_batch_size // hosts
        return train_batches(
            split, recipe, batch_size, first_image, context.input_pipeline_id, hosts, options.use_cache
        )

    with (
        Interruption() as interruption,
        naming_corrupt_images(split, progress),
        progress("Training", total_steps, "steps", trainer.step) as phase,
    ):
        phase.describe("compiling the first step")
        batches = iter(strategy.distribute_datasets_from_function(batches_of_host))

        def stopped():
            return trainer.any_host(interruption.requested is not None)

        while trainer.step < total_steps and not stopped():
            to_evaluation = math.inf
            if evaluations is not None:
                if evaluations.is_due(trainer.step):
                    evaluations.run(metrics, phase, stopped)
                    continue
                if evaluations.end_the_run:
                    break
                to_evaluation = evaluations.steps_to_next(trainer.step)
            to_checkpoint = checkpoint_steps - trainer.step % checkpoint_steps
            to_end = total_steps - trainer.step
            steps = int(min(options.steps_per_loop, to_checkpoint, to_evaluation, to_end))
            measured = {name: float(value) for name, value in trainer.train_steps(batches, tf.constant(steps)).items()}
            _check_finite(int(measured.pop("first_bad_step")), trainer)
            metrics.train(trainer.step, measured, phase)
            seen = trainer.step * recipe.train_batch_size
            if after_first_epoch and seen - steps * recipe.train_batch_size < split.num_examples <= seen:
                after_first_epoch()
            if trainer.step % checkpoint_steps == 0:
                checkpointer.save()
                metrics.flush()
        if trainer.step != checkpointer.saved_step:
            checkpointer.save()
        metrics.flush()
        ctrl_c = trainer.any_host(interruption.requested == signal.SIGINT)
    return signal.SIGINT if ctrl_c else interruption.requested


def _default_checkpoint_steps(recipe, split):
    """The steps of one epoch, clamped to 100 to 2,500."""
    return min(2500, max(100, round(recipe.steps_per_epoch(split.num_examples))))


def _check_finite(first_bad_step, trainer):
    if first_bad_step >= 0:
        raise FloatingPointError(
            f"The loss is not finite at step {first_bad_step}, learning rate "
            f"{float(trainer.learning_rate(first_bad_step)):.3g}; the last checkpoint was written before it. A smaller "
            "--base_learning_rate may help."
        )
