"""The number by which one model is better than another, and a measurement in words."""

import math
from collections.abc import Sequence
from typing import Any

_SCORES = {"top_1_accuracy": "top-1", "AP": "AP"}  # of each task, and what a person reads


def score(metrics: dict[str, Any]) -> tuple[str, float]:
    """The name and value of what decides between two models: top-1 of classifiers, AP of detectors.

    Args:
        metrics: What an evaluator measured, or a file has of it: None there is NaN.
    """
    found = next(name for name in _SCORES if name in metrics)
    return _SCORES[found], math.nan if metrics[found] is None else metrics[found]


def beats(metrics: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a measurement is better than the best one so far, None if there is none; what is not finite never is."""
    value = score(metrics)[1]
    if not math.isfinite(value) or best is None:
        return math.isfinite(value)
    highest = score(best)[1]
    return not math.isfinite(highest) or value > highest


def with_notes(metrics: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """A measurement with what belongs beside its numbers, a list of sentences; without "notes" where there are none."""
    return {**metrics, "notes": list(notes)} if notes else metrics


def in_words(metrics: dict[str, Any]) -> str:
    """The measurement's main numbers, and its notes, as the log shows them."""
    if "AP" in metrics:
        numbers = f"AP {metrics['AP']:.2%}, AP50 {metrics['AP50']:.2%}"
    else:
        numbers = f"top-1 {metrics['top_1_accuracy']:.2%}, top-5 {metrics['top_5_accuracy']:.2%}"
    return "; ".join([numbers, *metrics.get("notes", ())])
