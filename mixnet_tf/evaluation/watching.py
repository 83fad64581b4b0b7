"""Evaluates the checkpoints of a run as they are written, and keeps the best model."""

import os
import time
from collections.abc import Callable
from typing import Any

import keras
from absl import logging

from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation.accuracy import build_evaluator
from mixnet_tf.evaluation.scores import beats, score
from mixnet_tf.files import StrPath, exists, read_json, write_json
from mixnet_tf.runs import (
    BEST,
    CHECKPOINTS,
    RunConfig,
    newest_checkpoint,
    noting_training_images,
    restore_averages,
    save_model,
)

BEST_METRICS = "best.json"


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

    Saves the best model as `model_dir`/best.keras, with its metrics in best.json. If the best model was measured on
    another split, it stays unchanged, and the log says so.

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
    evaluate = build(model, split, config.recipe.crop if crop is None else crop, batch_size)
    total_steps = config.recipe.total_steps(config.num_train_images)
    folder = os.path.join(model_dir, CHECKPOINTS)
    seen, said, last_news = None, None, time.monotonic()
    while True:
        checkpoint = newest_checkpoint(folder)
        if checkpoint in (None, seen):
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
        metrics = {"step": int(checkpoint.rsplit("-", 1)[1]), **evaluate()}
        report(metrics)
        news = update_best(model, {**metrics, **_where(split)}, model_dir)
        if news != said:
            logging.info(news)
            said = news
        if metrics["step"] >= total_steps:
            return metrics


def update_best(model: keras.Model, metrics: dict[str, Any], model_dir: StrPath) -> str:
    """Keeps the model as `model_dir`/best.keras if it has the highest score so far, else leaves what is there.

    Args:
        model: A model of the run.
        metrics: What best.json is to have: "step", what `build_evaluator` measures, "dataset" and "split".
        model_dir: The run's folder. A best model that was measured on other images stays, and a score that is not a
            finite number never wins.

    Returns:
        A sentence that says what happened.
    """
    path, best_path = (os.path.join(model_dir, name) for name in (BEST_METRICS, BEST))
    best = read_json(path) if exists(path) and exists(best_path) else None
    name, value = score(metrics)
    if best is not None and _differs(best, metrics):
        return (
            f"{best_path} stays: it was measured on another split than {metrics['split']!r} of {metrics['dataset']!r}, "
            f"{best.get('num_images')} images of split {best.get('split')!r} of {best.get('dataset')!r}."
        )
    if beats(metrics, best):
        save_model(model, best_path)
        write_json(path, metrics)
        before = "" if best is None else f": its {name} was {score(best)[1]:.2%}"
        return f"{best_path} is the model of step {metrics['step']} now{before}."
    if best is None:
        return f"The model of step {metrics['step']} is not kept as {best_path}: its {name}, {value}, is not a number."
    return f"{best_path} stays the best: its {name} is {score(best)[1]:.2%}."


def update_best_with_final(model: keras.Model, metrics: dict[str, Any], split: Split, model_dir: StrPath) -> str | None:
    """Puts a run's final model in the place of its best one where that is worse, measured on the same split.

    Args:
        model: The final model.
        metrics: Its dict of "step" and what `build_evaluator` measures.
        split: The `data.Split` that was measured.
        model_dir: The run's folder. Without a best model nothing happens.

    Returns:
        A sentence that says which model is the best now; None without a best model.
    """
    if not all(exists(os.path.join(model_dir, name)) for name in (BEST_METRICS, BEST)):
        return None
    return update_best(model, {**metrics, **_where(split)}, model_dir)


def _where(split):
    return {"dataset": split.dataset, "split": split.name}


def _differs(best, metrics):
    """Whether two measurements are of other images, as far as both say it: version 0.1.0 wrote less."""
    common = [name for name in ("dataset", "split", "num_images") if name in best and name in metrics]
    return any(best[name] != metrics[name] for name in common)
