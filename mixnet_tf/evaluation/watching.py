"""Evaluates the checkpoints of a run as they are written."""

import os
import time
from collections.abc import Callable
from typing import Any

from absl import logging

from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation.accuracy import build_evaluator
from mixnet_tf.evaluation.best_model import may_choose, update_best
from mixnet_tf.files import StrPath
from mixnet_tf.runs import (
    CHECKPOINTS,
    RunConfig,
    newest_checkpoint,
    noting_training_images,
    restore_averages,
    step_of,
)


def watch(
    model_dir: StrPath,
    split: Split,
    batch_size: int = 64,
    seconds: float = 10.0,
    timeout: float | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    crop: bool | None = None,
    build: Callable[..., Callable[..., dict[str, Any]]] = build_evaluator,
) -> dict[str, Any]:
    """Evaluates each new checkpoint of a run until its last step.

    Saves the best model as `model_dir`/best.keras, with its metrics in best.json, unless the run evaluates itself or
    the split is of test images; the log says so. If the best model was measured on another split, it stays unchanged.

    Args:
        model_dir: The run's folder; training may just have begun.
        split: The `data.Split` to evaluate on.
        batch_size: Images per step.
        seconds: Poll interval.
        timeout: Seconds without a new checkpoint after which to give up; None: never.
        report: Called with the metrics of each evaluation and its "step"; None: not called.
        crop: Whether to take the center crop; None: as the run's recipe says.
        build: A function like `build_evaluator`, for other metrics.

    Returns:
        The metrics of the last evaluation.

    Raises:
        TimeoutError: If no new checkpoint was written in time.
    """
    report = report or (lambda metrics: None)
    config = RunConfig.wait_for(model_dir, seconds, timeout)
    model = config.build_model()
    split = noting_training_images(split, config)
    evaluate = build(model, split, config.resizing.given(crop), batch_size, None, False, config.weights_classes)
    chooses = not config.evaluates_itself and may_choose(config, split)
    if config.evaluates_itself:
        logging.info(f"The run in {model_dir} evaluates itself and keeps its best model; these numbers choose none.")
    elif not chooses:
        logging.info(f"Split {split.name!r} has test images, which choose no best model; --split names another one.")
    folder = os.path.join(model_dir, CHECKPOINTS)
    seen, said, metrics, last_news = None, None, None, time.monotonic()
    while True:
        checkpoint = newest_checkpoint(folder)
        if checkpoint in (None, seen):
            if metrics is not None and metrics["step"] >= RunConfig.read(model_dir).last_step:
                return metrics  # early stopping has ended the run
            if timeout is not None and time.monotonic() - last_news > timeout:
                raise TimeoutError(f"No new checkpoint in {folder} for {timeout:.0f} s; the last one was {seen}.")
            time.sleep(seconds)
            continue
        seen, last_news = checkpoint, time.monotonic()
        try:
            restore_averages(model, checkpoint)
        except InputError as error:  # training keeps only the newest few, so this one may be deleted by now
            report({"skipped": checkpoint, "reason": str(error)})
            continue
        metrics = {"step": step_of(checkpoint), **evaluate()}
        report(metrics)
        news = update_best(model, metrics, split, config, model_dir) if chooses else None
        if news != said:
            logging.info(news)
            said = news
        if metrics["step"] >= RunConfig.read(model_dir).last_step:
            return metrics
