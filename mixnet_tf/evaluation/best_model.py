"""A run's best model: which images may choose it, and what is said of numbers measured on images that chose it."""

import os
import re
from typing import Any

import keras

from mixnet_tf.data import Split
from mixnet_tf.evaluation.scores import beats, score, with_notes
from mixnet_tf.files import StrPath, exists, read_json, write_json
from mixnet_tf.runs import BEST, BEST_METRICS, RunConfig, noting_training_images, save_model
from mixnet_tf.saved_models import Opened

CHOSEN_ON = "chosen on these images"  # a note of a `data.Split`
_TEST = re.compile(r"(^|\+)\s*test", re.IGNORECASE)  # a part of a split's name


def has_test_images(split: Split) -> bool:
    """Whether a split is "test", a part of it such as "test[:50%]", or has images in common with it."""
    return _TEST.search(split.name) is not None or split.shares_images("test")


def may_choose(config: RunConfig, split: Split) -> bool:
    """Whether a run's best model may be chosen on a split: not on test images, except by a run of version 0.2.0."""
    return config.eval_every is None or not has_test_images(split)


def update_best(
    model: keras.Model, metrics: dict[str, Any], split: Split, config: RunConfig, model_dir: StrPath
) -> str | None:
    """Keeps the model as `model_dir`/best.keras if it has the highest score so far, else leaves what is there.

    Args:
        model: A model of the run.
        metrics: Its dict of "step" and what `build_evaluator` measures. A score that is not a finite number never wins.
        split: The `data.Split` that was measured. A best model that was measured on other images stays.
        config: The `RunConfig`.
        model_dir: The run's folder.

    Returns:
        A sentence that says what happened; None if the split may not choose a model.
    """
    if not may_choose(config, split):
        return None
    metrics = {**metrics, "dataset": split.dataset, "split": split.name}
    if config.eval_every is not None:
        metrics = with_notes(metrics, [*(note for note in split.notes if note != CHOSEN_ON), CHOSEN_ON])
    path, best_path = (os.path.join(model_dir, name) for name in (BEST_METRICS, BEST))
    best = read_json(path) if has_best(model_dir) else None
    name, value = score(metrics)
    if best is not None and _differs(best, metrics):
        return (
            f"{best_path} stays: it was measured on another split than {metrics['split']!r} of {metrics['dataset']!r}, "
            f"{best.get('num_images')} images of split {best.get('split')!r} of {best.get('dataset')!r}."
        )
    if beats(metrics, best):
        save_model(model, best_path)
        write_json(path, metrics)
        before = "" if best is None else ": its {} was {:.2%}".format(*score(best))
        return f"{best_path} is the model of step {metrics['step']} now{before}."
    if best is None:
        return f"The model of step {metrics['step']} is not kept as {best_path}: its {name}, {value}, is not a number."
    return f"{best_path} stays the best: its {name} is {score(best)[1]:.2%}."


def has_best(model_dir: StrPath) -> bool:
    """Whether a run has a best model and its metrics."""
    return all(exists(os.path.join(model_dir, name)) for name in (BEST_METRICS, BEST))


def _differs(best, metrics):
    """Whether two measurements are of other images, as far as both say it: version 0.1.0 wrote less."""
    common = [name for name in ("dataset", "split", "num_images") if name in best and name in metrics]
    return any(best[name] != metrics[name] for name in common)


def noting_origin(split: Split, opened: Opened) -> Split:
    """Adds notes to a split whose images a model was trained on, or chosen by.

    Args:
        split: A `data.Split` to evaluate on.
        opened: The `Opened` model.
    """
    split, config = noting_training_images(split, opened.config), opened.config
    if config is None or config.eval_every is None:
        return split
    folder, name = os.path.split(opened.source)
    if name != BEST and config.stopped_at is None:
        return split
    best = read_json(os.path.join(folder, BEST_METRICS)) if name == BEST and has_best(folder) else {}
    dataset, chosen = best.get("dataset", config.dataset), best.get("split") or config.eval_split or ""
    return split.noted(CHOSEN_ON) if split.dataset == dataset and split.shares_images(chosen) else split
