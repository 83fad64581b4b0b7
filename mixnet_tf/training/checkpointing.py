"""Saves the whole state of a training run in checkpoints; the last good one always stays."""

import os
from collections.abc import Mapping

import tensorflow as tf
from absl import logging

from mixnet_tf.errors import InputError, first_line
from mixnet_tf.files import UNREADABLE, StrPath, publishing, readable_checkpoint
from mixnet_tf.runs import CHECKPOINTS, newest_checkpoint
from mixnet_tf.training.distribution import is_chief
from mixnet_tf.training.trainer import Trainer

_KEEP = 3


class Checkpointer:
    """Saves and restores a `Trainer`: raw weights, EMA, optimizer with its step, dropout seeds.

    Args:
        trainer: A `Trainer`.
        model_dir: The run's folder; the checkpoints are in its subfolder `checkpoints`.
        evaluations: The `state` of the run's `Evaluations`. A checkpoint that lacks it leaves it unchanged.
    """

    def __init__(
        self, trainer: Trainer, model_dir: StrPath, evaluations: Mapping[str, tf.Variable] | None = None
    ) -> None:
        self._trainer = trainer
        own = {
            "raw": [variable.value for variable in trainer.model.variables],
            "averages": [variable.value for variable in trainer.ema_model.weights],
            # Named, so that the slots of one optimizer are never read as another's.
            "optimizer": {trainer.recipe.optimizer: [variable.value for variable in trainer.optimizer.variables]},
        }
        extra = {"evaluations": dict(evaluations)} if evaluations else {}
        self._checkpoint, self._evaluations = tf.train.Checkpoint(**own), tf.train.Checkpoint(**extra)
        self._both = tf.train.Checkpoint(**own, **extra)
        self._folder = self._own_folder = os.path.join(model_dir, CHECKPOINTS)
        if not is_chief(trainer.strategy):  # every worker has to save, but only the chief's checkpoint is used
            self._own_folder = os.path.join(model_dir, f".worker-{trainer.strategy.cluster_resolver.task_id}")
        self.saved_step: int | None = None  # step of the newest checkpoint saved or restored here

    def save(self) -> None:
        """Saves a checkpoint of the current step.

        Raises:
            FloatingPointError: If a weight is not finite; then nothing is written.
            OSError: If the disk is full; the earlier checkpoints stay.
        """
        if not self._trainer.is_finite():
            raise FloatingPointError(f"A weight is not finite at step {self._trainer.step}; no checkpoint was written.")
        try:
            self._both.write(os.path.join(self._own_folder, f"ckpt-{self._trainer.step}"))
        except tf.errors.ResourceExhaustedError as error:
            raise self._full_disk(error) from error
        self.saved_step = self._trainer.step
        self._keep_newest()

    def _keep_newest(self):
        """Lists the newest checkpoints in the file "checkpoint", and removes older ones that it listed.

        tf.train.CheckpointManager does this, too, but takes brackets in the folder's name for a pattern.
        """
        name = f"ckpt-{self._trainer.step}"
        names = [os.path.basename(path) for path in _listed(self._own_folder)]
        names = [*(each for each in names if each != name), name]
        kept = names[-_KEEP:]
        # Names without the folder, because it may be moved.
        state = tf.compat.v1.train.generate_checkpoint_state_proto(os.sep, name, kept)
        with publishing(os.path.join(self._own_folder, "checkpoint")) as local, open(local, "w") as file:
            file.write(str(state))
        for file_name in tf.io.gfile.listdir(self._own_folder):
            if file_name.rpartition(".")[0] in names[:-_KEEP]:
                tf.io.gfile.remove(os.path.join(self._own_folder, file_name))

    def _full_disk(self, error):
        """Removes an incomplete checkpoint, and returns the error to raise."""
        kept = newest_checkpoint(self._own_folder)
        unfinished = f"ckpt-{self._trainer.step}"
        for name in tf.io.gfile.listdir(self._own_folder):
            if name.startswith((f"{unfinished}.", f"{unfinished}_temp", "checkpoint.tmp")):
                path = os.path.join(self._own_folder, name)
                tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)
        after = (
            f"{kept} is kept; the same command resumes from it" if kept else "the same command starts again from step 0"
        )
        reason = error.message.strip().splitlines()[-1].rpartition("; ")[2].partition(" [Op:")[0]
        return OSError(
            f"The checkpoint of step {self._trainer.step} could not be written to {self._own_folder}: {reason}. "
            f"Free some space: {after}."
        )

    def finish(self) -> None:
        """Removes the files that a worker other than the chief had to save, at the end of a run."""
        if self._own_folder != self._folder and tf.io.gfile.exists(self._own_folder):
            tf.io.gfile.rmtree(self._own_folder)

    def restore(self) -> str | None:
        """Restores the newest checkpoint that can be read, and logs which ones cannot.

        Returns:
            The path of the checkpoint, or None if there is none.

        Raises:
            ValueError: If there are checkpoints, but none of them can be read.
        """
        broken = []
        for path in reversed(_listed(self._folder)):
            try:
                with readable_checkpoint(path) as prefix:
                    self._checkpoint.read(prefix).expect_partial().assert_existing_objects_matched()
                    self._evaluations.read(prefix).expect_partial()
            except (*UNREADABLE, AssertionError) as error:
                broken.append(path)
                logging.warning(f"Checkpoint {path} cannot be read ({first_line(error)}).")
            else:
                self.saved_step = self._trainer.step
                return path
        if broken:
            raise InputError(f"None of the checkpoints {broken} can be read; start in another model_dir.")
        return None


def _listed(folder):
    """Paths of the checkpoints that the file "checkpoint" lists, from the oldest to the newest."""
    state = tf.train.get_checkpoint_state(folder)
    return list(state.all_model_checkpoint_paths) if state else []
