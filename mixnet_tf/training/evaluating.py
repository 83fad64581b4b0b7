"""Evaluates the averages of a run while it trains and at its end, keeps the best model, and ends the run early."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import CHOSEN_ON, has_best, has_test_images, score, update_best, with_notes
from mixnet_tf.files import StrPath
from mixnet_tf.progress import Phase, Progress
from mixnet_tf.runs import FINAL, RunConfig, inference_model, save_model
from mixnet_tf.training.distribution import has_evaluator
from mixnet_tf.training.metrics import MetricsLog
from mixnet_tf.training.options import RunOptions
from mixnet_tf.training.trainer import Trainer


def evaluation_intervals(
    options: RunOptions, before: RunConfig | None, train_split: Split, eval_split: Split
) -> tuple[float | None, int | None]:
    """How often a run evaluates itself, and when that ends it.

    Args:
        options: `RunOptions`.
        before: The `RunConfig` of the run that resumes, which keeps what is not given; None: a new run, whose
            evaluations see at most a tenth as many images as its training, but not more often than each epoch.
        train_split: The `data.Split` to train on.
        eval_split: The `data.Split` to evaluate on.

    Returns:
        (`eval_every`, `early_stopping`) of the `RunConfig`.

    Raises:
        ValueError: If the run is to be ended by evaluations that it does not have, or by test images.
    """
    every, patience = options.eval_every, options.early_stopping
    if before is not None:
        every = before.eval_every if every is None else every
        patience = before.early_stopping if patience is None else patience
    elif every is None:
        ratio = 10 * eval_split.num_examples / train_split.num_examples
        every = 0.0 if has_evaluator() else float(max(1, math.ceil(ratio)))
    if patience is not None and every in (None, 0):
        raise InputError(
            f"early_stopping={patience} counts evaluations while the run trains, and it has none; give "
            "--eval_every=EPOCHS."
        )
    if patience is not None and has_test_images(eval_split):
        raise InputError(
            f"early_stopping={patience} would choose the last step by test images, split {eval_split.name!r}; name "
            "other images with --eval_split, such as part of the training images: --train_split='train[:90%]' "
            "--eval_split='train[90%:]'."
        )
    return every, patience


class Evaluations:
    """Evaluates the EMA weights of a run.

    Args:
        config: The `RunConfig`.
        trainer: The `Trainer`.
        split: The `data.Split` to evaluate on.
        evaluate: What `evaluation.build_evaluator` returns for the trainer's EMA model and this split.
        model_dir: The run's folder; None: no file is written, as on workers other than the chief.

    Attributes:
        model_dir: The argument.
        state: Variables to be saved in the run's checkpoints: the best score, the number of evaluations since then and
            the step of the last evaluation. Empty if the run is evaluated only at its end.
    """

    def __init__(
        self,
        config: RunConfig,
        trainer: Trainer,
        split: Split,
        evaluate: Callable[..., dict[str, Any]],
        model_dir: StrPath | None,
    ) -> None:
        self._config, self._trainer, self._split, self._evaluate = config, trainer, split, evaluate
        self.model_dir = model_dir
        self._model: keras.Model | None = None  # for inference; built when it is first saved
        self._last: tuple[int, dict[str, Any]] | None = None  # the last evaluation by this process
        self._said: str | None = None
        self._interval: float | None = None  # steps
        self.state: dict[str, tf.Variable] = {}
        if config.eval_every is not None and config.eval_every > 0:
            self._interval = max(1.0, config.eval_every * config.recipe.steps_per_epoch(config.num_train_images))
            self.state = {
                "best": tf.Variable(math.nan, dtype=tf.float64, trainable=False),
                "since": tf.Variable(0, dtype=tf.int64, trainable=False),
                "step": tf.Variable(0, dtype=tf.int64, trainable=False),
            }

    def is_due(self, step: int) -> bool:
        """Whether an evaluation is due at a step and has not taken place."""
        if self._interval is None or step <= int(self.state["step"]):
            return False
        return round(round(step / self._interval) * self._interval) == step

    def steps_to_next(self, step: int) -> float:
        """The number of steps from `step` to the next evaluation after it; infinite if there is none."""
        if self._interval is None:
            return math.inf
        number = int(step / self._interval)
        while round(number * self._interval) <= step:
            number += 1
        return round(number * self._interval) - step

    @property
    def end_the_run(self) -> bool:
        """Whether so many evaluations were not better that the run ends early."""
        patience = self._config.early_stopping
        return patience is not None and bool(self.state) and int(self.state["since"]) >= patience

    def begin_anew(self, before: RunConfig) -> bool:
        """Forgets what was counted, if the run trains on after an early end, or is evaluated otherwise.

        Args:
            before: The `RunConfig` before this run resumed.

        Returns:
            Whether anything was forgotten.
        """
        config = self._config
        is_elsewhere = any(
            getattr(before, name) != getattr(config, name) for name in ("dataset", "eval_split", "weights_classes")
        )
        if not self.state or not (is_elsewhere or before.stopped_at != config.stopped_at):
            return False
        self.state["since"].assign(0)
        if is_elsewhere:
            self.state["best"].assign(math.nan)
        elif before.stopped_at == self._trainer.step:  # where the checkpoint may be older than the evaluation
            self.state["step"].assign(self._trainer.step)
        return True

    def run(self, metrics: MetricsLog, phase: Phase, stopped: Callable[[], bool]) -> None:
        """Evaluates at the trainer's step; does nothing if it is stopped.

        Args:
            metrics: The `MetricsLog`.
            phase: The `Phase` of training, which shows the evaluation, too.
            stopped: A function that every host calls after each batch; true ends the evaluation.
        """
        try:
            measured = self._evaluate(_Inside(phase, stopped))
        except _Stopped:
            return
        self._record(measured)
        if self.end_the_run:
            measured = _chosen(measured)
        self._last = (self._trainer.step, measured)
        metrics.evaluation(self._trainer.step, measured)
        self._keep_best(measured)

    def finish(self, metrics: MetricsLog, progress: Progress, is_changed: bool) -> None:
        """Evaluates at the end of the run, and writes final.keras.

        Args:
            metrics: The `MetricsLog`.
            progress: Shows the phase.
            is_changed: Whether the EMA model has changed since the last step, so that it has to be evaluated again.
        """
        step = self._trainer.step
        is_known = not is_changed and self._last is not None and self._last[0] == step
        measured = self._last[1] if is_known and self._last is not None else self._evaluate(progress)
        if self.end_the_run and not is_known:
            measured = _chosen(measured)
        if self.model_dir is not None:
            path = os.path.join(self.model_dir, FINAL)
            save_model(self._inference_model(), path)
        if not is_known:  # not before: a row of the last step says that the final model is written
            metrics.evaluation(step, measured)
        if self.model_dir is not None:
            logging.info(f"Wrote {path}.")
            if self._config.evaluates_itself or has_best(self.model_dir):
                self._keep_best(measured)

    def _record(self, measured):
        value, best = score(measured)[1], float(self.state["best"])
        if math.isfinite(value) and not value <= best:
            self.state["best"].assign(value)
            self.state["since"].assign(0)
        else:
            self.state["since"].assign_add(1)
        self.state["step"].assign(self._trainer.step)
        if (
            self._trainer.any_host(self.end_the_run) and not self.end_the_run
        ):  # another host's score may round otherwise
            self.state["since"].assign(self._config.early_stopping)

    def _keep_best(self, measured):
        """Keeps the EMA model as the run's best one if it is, and logs news."""
        if self.model_dir is None:
            return
        metrics = {"step": self._trainer.step, **measured}
        news = update_best(self._inference_model(), metrics, self._split, self._config, self.model_dir)
        if news not in (None, self._said):
            logging.info(news)
            self._said = news

    def _inference_model(self):
        weights = self._trainer.ema_model.get_weights()
        if self._model is None:
            self._model = inference_model(self._config, weights)
        else:
            self._model.set_weights(weights)
        return self._model


def _chosen(measured):
    """Metrics with the note that the images have chosen the step at which the run ended."""
    return with_notes(measured, [*measured.get("notes", ()), CHOSEN_ON])


class _Stopped(Exception):
    pass


class _Inside:
    """A `Progress` that shows an evaluation in the words of another phase, and ends it if it is stopped."""

    def __init__(self, phase: Phase, stopped: Callable[[], bool]) -> None:
        self._phase, self._stopped, self._total = phase, stopped, 0

    @contextlib.contextmanager
    def __call__(
        self, name: str, total: int | None = None, unit: str = "", first: int = 0, draws_itself: bool = False
    ) -> Iterator[Phase]:
        self._total = total or 0
        self._phase.describe(name)
        yield self

    def update(self, done: int, words: str = "") -> None:
        self._phase.describe(f"evaluating {done:,}/{self._total:,} images")
        if self._stopped():
            raise _Stopped

    def advance(self) -> None:
        pass

    def describe(self, words: str) -> None:
        self._phase.describe(words)
