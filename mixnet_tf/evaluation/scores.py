"""The score that compares two models, and a measurement in words."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MEAN_CLASS_ACCURACY = "mean_class_accuracy"
# The score of each task, and its name for a person; the first one that was measured counts.
_SCORES = {MEAN_CLASS_ACCURACY: "mean top-1 over classes", "top_1_accuracy": "top-1", "AP": "AP"}


def mean_over_classes(hits: np.ndarray, images: np.ndarray) -> float:
    """The mean of the accuracies of the classes that have images.

    Args:
        hits: Correct answers by class.
        images: Images by class.
    """
    return float((hits[images > 0] / images[images > 0]).mean())


def score(metrics: dict[str, Any]) -> tuple[str, float]:
    """The name and value of the score that compares two models: top-1 of classifiers, AP of detectors.

    Of a run with class weights it is the mean of the classes' top-1.

    Args:
        metrics: Metrics from an evaluator or from a JSON file, in which null stands for NaN.
    """
    found = next(name for name in _SCORES if name in metrics)
    return _SCORES[found], math.nan if metrics[found] is None else metrics[found]


def beats(metrics: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a score is higher than the best so far; a score that is not finite never is.

    Args:
        metrics: The metrics that have the score.
        best: Those of the best so far. None: there is none; neither is there if they have another score.
    """
    name, value = score(metrics)
    if not math.isfinite(value) or best is None or score(best)[0] != name:
        return math.isfinite(value)
    highest = score(best)[1]
    return not math.isfinite(highest) or value > highest


def with_notes(metrics: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Metrics with a list of notes; without "notes" if the list is empty."""
    return {**metrics, "notes": list(notes)} if notes else metrics


def in_words(metrics: dict[str, Any]) -> str:
    """The main numbers of a measurement and its notes, for the log."""
    if "AP" in metrics:
        numbers = f"AP {metrics['AP']:.2%}, AP50 {metrics['AP50']:.2%}"
    else:
        numbers = f"top-1 {metrics['top_1_accuracy']:.2%}, top-5 {metrics['top_5_accuracy']:.2%}"
        if MEAN_CLASS_ACCURACY in metrics:
            numbers += f", mean over classes {metrics[MEAN_CLASS_ACCURACY]:.2%}"
        if metrics.get("cross_entropy") is not None:  # None in a file: it was not finite; versions to 0.2.0 wrote none
            numbers += f", cross-entropy {metrics['cross_entropy']:.4f}"
    return "; ".join([numbers, *metrics.get("notes", ())])
