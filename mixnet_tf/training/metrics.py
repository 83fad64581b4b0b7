"""Writes the measurements of a run to the log, to metrics.jsonl and to TensorBoard."""

import contextlib
import json
import os
import time
from typing import Any

import tensorflow as tf
from absl import logging

from mixnet_tf.evaluation import in_words
from mixnet_tf.files import StrPath, is_remote, json_text
from mixnet_tf.progress import Phase

METRICS = "metrics.jsonl"
_SHOWN = {
    "top_1_accuracy": "accuracy",
    "classification_loss": "classes",
    "box_loss": "boxes",
}  # in the progress line of training
_EVALUATED = {
    "top_1_accuracy": "accuracy",
    "mean_class_accuracy": "by class",
    "cross_entropy": "loss",
    "AP": "AP",
}  # in the same line
_REMOTE_INTERVAL = 300.0  # seconds; an append to a file on remote storage uploads the whole file again


class MetricsLog:
    """Writes the measurements of a run.

    Args:
        model_dir: The run's folder; None: no file is written, as on workers other than the chief.
        first_step: The step that the run starts at or resumes from.
        batch_size: Images per step.
    """

    def __init__(self, model_dir: StrPath | None, first_step: int, batch_size: int) -> None:
        self._batch_size = batch_size
        self._last = (first_step, time.monotonic())
        self._evaluated = ""  # the last evaluation, in the progress line
        self._writer = None
        if model_dir is not None:
            self._path = os.path.join(model_dir, METRICS)
            tf.io.gfile.makedirs(model_dir)
            self._rows = [""] if _ends_in_half_a_row(self._path) else []
            self._interval = _REMOTE_INTERVAL if is_remote(model_dir) else 0.0
            self._flushed = time.monotonic()
            self._writer = tf.summary.create_file_writer(os.path.join(model_dir, "tensorboard"))

    def train(self, step: int, metrics: dict[str, float], phase: Phase) -> None:
        """Reports the metrics of a loop of training steps to the files and to a `Phase` of progress.

        Args:
            step: The number of steps taken so far.
            metrics: Floats by name, averaged over the loop.
            phase: The phase, which counts steps.
        """
        last_step, last_time = self._last
        self._last = (step, time.monotonic())
        seconds = self._last[1] - last_time
        images_per_second = (step - last_step) * self._batch_size / max(seconds, 1e-9)
        measured = "".join(f", {word} {metrics[name]:.3f}" for name, word in _SHOWN.items() if name in metrics)
        phase.update(
            step,
            f"loss {metrics['loss']:.4f}{measured}{self._evaluated}, rate {metrics['learning_rate']:.3g}, "
            f"{images_per_second:.0f} images/s",
        )
        self._write(step, "train", {**metrics, "images_per_second": images_per_second})

    def evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        """Reports an evaluation of the EMA weights at `step`."""
        logging.info(f"Evaluation at step {step} on {metrics['num_images']} images: {in_words(metrics)}")
        self._write(step, "eval", metrics)
        shown = ", ".join(f"{word} {metrics[name]:.3f}" for name, word in _EVALUATED.items() if name in metrics)
        self._evaluated = f" (evaluated: {shown})"
        self.flush()
        self._last = (self._last[0], time.monotonic())  # so that the next images/s leaves the evaluation out

    def _write(self, step, kind, metrics):
        if self._writer is None:
            return
        self._rows.append(json_text({"step": step, "kind": kind, **metrics}, indent=None))
        with self._writer.as_default(step=step):
            for name, value in metrics.items():
                if name != "notes":
                    tf.summary.scalar(f"{kind}/{name}", value)
        if time.monotonic() - self._flushed >= self._interval:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that are not written yet; on remote storage they are collected for up to five minutes."""
        if self._writer is None or not self._rows:
            return
        with tf.io.gfile.GFile(self._path, "a") as file:
            file.write("".join(row + "\n" for row in self._rows))
        self._writer.flush()
        self._rows = []
        self._flushed = time.monotonic()


def _ends_in_half_a_row(path):
    """Whether a killed run left an incomplete last row, after which a new line has to begin."""
    if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length == 0:
        return False
    with tf.io.gfile.GFile(path, "rb") as file:
        file.seek(tf.io.gfile.stat(path).length - 1)
        return file.read(1) != b"\n"


def read_metrics(model_dir: StrPath) -> list[dict[str, Any]]:
    """Reads the rows of a run's metrics.jsonl, sorted by step; of each step and kind, the last row that was written.

    A run that resumes from a checkpoint writes some rows again. A run that was killed may leave an incomplete row,
    which is left out.
    """
    path = os.path.join(model_dir, METRICS)
    if not tf.io.gfile.exists(path):
        return []
    rows = {}
    with tf.io.gfile.GFile(path) as file:
        for line in file.read().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # an incomplete row
                row = json.loads(line)
                rows[row["step"], row["kind"]] = row
    return [rows[key] for key in sorted(rows)]
