"""What a run says while it works: a line on the screen, metrics.jsonl and TensorBoard's scalars."""

import contextlib
import json
import os
import time

import tensorflow as tf

METRICS = "metrics.jsonl"


class Progress:
    """Reports the measurements of a run.

    Args:
        model_dir: The run's folder; None to write no file, as on workers other than the chief.
        first_step: The step that the run starts or goes on from.
        total_steps: Steps of the whole run.
        batch_size: Images per step.
    """

    def __init__(self, model_dir, first_step, total_steps, batch_size):
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._last = (first_step, time.monotonic())
        self._writer = None
        if model_dir is not None:
            self._path = os.path.join(model_dir, METRICS)
            tf.io.gfile.makedirs(model_dir)
            with tf.io.gfile.GFile(self._path, "a") as file:
                file.write("\n")  # ends a row that a killed run left half-written
            self._writer = tf.summary.create_file_writer(os.path.join(model_dir, "tensorboard"))

    def train(self, step, metrics):
        """Reports a loop of training that ended at `step`; `metrics` are floats by name."""
        last_step, last_time = self._last
        self._last = (step, time.monotonic())
        seconds = self._last[1] - last_time
        images_per_second = (step - last_step) * self._batch_size / max(seconds, 1e-9)
        eta = (self._total_steps - step) * self._batch_size / images_per_second
        print(
            f"step {step}/{self._total_steps}  loss {metrics['loss']:.4f}  accuracy {metrics['top_1_accuracy']:.3f}  "
            f"rate {metrics['learning_rate']:.3g}  {images_per_second:.0f} images/s  ETA {_duration(eta)}",
            flush=True,
        )
        self._write(step, "train", {**metrics, "images_per_second": images_per_second})

    def evaluation(self, step, metrics):
        """Reports an evaluation of the averages at `step`."""
        print(
            f"step {step}/{self._total_steps}  evaluation of {metrics['num_images']} images: "
            f"top-1 {metrics['top_1_accuracy']:.2%}, top-5 {metrics['top_5_accuracy']:.2%}",
            flush=True,
        )
        self._write(step, "eval", metrics)
        self._last = (self._last[0], time.monotonic())  # the next images/s counts training alone

    def _write(self, step, kind, metrics):
        if self._writer is None:
            return
        with tf.io.gfile.GFile(self._path, "a") as file:
            file.write(json.dumps({"step": step, "kind": kind, **metrics}) + "\n")
        with self._writer.as_default(step=step):
            for name, value in metrics.items():
                tf.summary.scalar(f"{kind}/{name}", value)
        self._writer.flush()


def read_metrics(model_dir):
    """The rows of a run's metrics.jsonl by step, for each step and kind the last that was written.

    A run that goes on from a checkpoint writes rows anew, and one that was killed may leave half a row.
    """
    path = os.path.join(model_dir, METRICS)
    if not tf.io.gfile.exists(path):
        return []
    rows = {}
    with tf.io.gfile.GFile(path) as file:
        for line in file.read().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # half a row
                row = json.loads(line)
                rows[row["step"], row["kind"]] = row
    return [rows[key] for key in sorted(rows)]


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
