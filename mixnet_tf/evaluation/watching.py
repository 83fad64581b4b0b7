"""Evaluates the checkpoints of a run as they come, and keeps the best model."""

import os
import time
from collections.abc import Callable
from typing import Any

import keras

from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation.accuracy import build_evaluator
from mixnet_tf.evaluation.scores import score
from mixnet_tf.files import StrPath, published, read_json, write_json
from mixnet_tf.runs import BEST, CHECKPOINTS, RunConfig, newest_checkpoint, restore_averages, save_model

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

    Leaves the best model as `model_dir`/best.keras, with its measurements in best.json.

    Args:
        model_dir: The run's folder; training may just have begun.
        split: The `data.Split` to evaluate on.
        batch_size: Images per step.
        seconds: Poll interval.
        timeout: Seconds without a new checkpoint after which to give up; None: never.
        report: Called with the dict of each evaluation: "step" and what `build_evaluator` measures; None: nothing.
        crop: Whether to take the center crop; None: as the run's recipe says.
        build: Takes the arguments of `build_evaluator`, for another measurement.

    Returns:
        The dict of the last evaluation.

    Raises:
        TimeoutError: If no new checkpoint came in time.
    """
    report = report or (lambda metrics: None)
    config = RunConfig.wait_for(model_dir, seconds, timeout)
    model = config.build_model()
    evaluate = build(model, split, config.recipe.crop if crop is None else crop, batch_size)
    total_steps = config.recipe.total_steps(config.num_train_images)
    folder = os.path.join(model_dir, CHECKPOINTS)
    seen, last_news = None, time.monotonic()
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
        except InputError as error:  # training keeps the newest few: this one may be gone by now
            report({"skipped": checkpoint, "reason": str(error)})
            continue
        metrics = {"step": int(checkpoint.rsplit("-", 1)[1]), **evaluate()}
        report(metrics)
        archive_best(model, {**metrics, **_where(split)}, model_dir)
        if metrics["step"] >= total_steps:
            return metrics


def archive_best(model: keras.Model, metrics: dict[str, Any], model_dir: StrPath) -> None:
    """Keeps the model as `model_dir`/best.keras if it has the highest score so far, else leaves what is there."""
    path = os.path.join(model_dir, BEST_METRICS)
    if published(path) is None or score(metrics)[1] > score(read_json(path))[1]:
        save_model(model, os.path.join(model_dir, BEST))
        write_json(path, metrics)


def archive_final(model: keras.Model, metrics: dict[str, Any], split: Split, model_dir: StrPath) -> str | None:
    """Puts a run's final model in the place of its best one where that is worse, measured on the same split.

    Args:
        model: The final model.
        metrics: Its dict of "step" and what `build_evaluator` measures.
        split: The `data.Split` that was measured.
        model_dir: The run's folder. Without a best model nothing happens.

    Returns:
        A sentence that says which model is the best now; None without a best model.
    """
    path, best_path = (os.path.join(model_dir, name) for name in (BEST_METRICS, BEST))
    if published(path) is None or published(best_path) is None:
        return None
    measured = {**metrics, **_where(split)}
    best = read_json(path)
    if any(best.get(name, measured[name]) != measured[name] for name in ("dataset", "split", "num_images")):
        return f"{best_path} stays: it was measured on another split than {split.name!r} of {split.dataset!r}."
    archive_best(model, measured, model_dir)
    name, value = score(best)
    if score(metrics)[1] > value:
        return f"{best_path} is the final model now: its {name} was {value:.2%}."
    return f"{best_path} stays the best: its {name} is {value:.2%}."


def _where(split):
    return {"dataset": split.dataset, "split": split.name}
