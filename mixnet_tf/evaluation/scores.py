"""The score that compares two models, and a measurement in words."""

import math
from collections.abc import Sequence
from typing import Any

_SCORES = {"top_1_accuracy": "top-1", "AP": "AP"}  # the score of each task, and its name for a person


def score(metrics: dict[str, Any]) -> tuple[str, float]:
    """The name and value of the score that compares two models: top-1 of classifiers, AP of detectors.

    Args:
        metrics: Metrics from an evaluator or from a JSON file, in which null stands for NaN.
    """
    found = next(name for name in _SCORES if name in metrics)
    return _SCORES[found], math.nan if metrics[found] is None else metrics[found]


def beats(metrics: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a score is higher than the best so far (None: there is none); a score that is not finite never is."""
    value = score(metrics)[1]
    if not math.isfinite(value) or best is None:
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
        if metrics.get("cross_entropy") is not None:  # None in a file: it was not finite; versions to 0.2.0 wrote none
            numbers += f", cross-entropy {metrics['cross_entropy']:.4f}"
    return "; ".join([numbers, *metrics.get("notes", ())])
