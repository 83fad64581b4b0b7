"""How far an exported file is from Keras, and how far it may be: the gates."""

import math
from typing import Any

import numpy as np

from mixnet_tf.evaluation import top_classes

# Smallest fraction of images whose top-1 is Keras'; None: the accuracy decides.
_MIN_AGREEMENT = {"fp32": 1.0, "fp16": 0.995, "dynamic": 0.97, "int8": None, "int8_full": None, "saved_model": 1.0}
# float32: how far most values may be from Keras', and how far each, as parts of a probability or of the largest value.
# Rounding alone keeps most images within the first, but one between two classes goes further: Keras itself, in batches
# of 1 and of 32, differed by 2.2e-5 on one of 360 digits.
_MAX_TYPICAL_DIFFERENCE, _MAX_DIFFERENCE = 1e-5, 1e-4
_MOST = 0.95  # fraction of the images, or of a detector's values, that the first holds for
# int8: how much of top-1 may be lost for certain, one-sided at 95%; where a few images prove little; and in silence.
_MAX_LOSS, _SIGNIFICANCE = 0.01, 1.64  # fraction of the images, standard errors
_FEW, _MAX_LOSS_OF_FEW = 100, 0.05  # images, fraction of them
_MAX_SILENT_LOSS = 0.005
_MAX_AP_LOST = {"fp32": 0.001, "fp16": 0.005, "dynamic": 0.01, "int8": 0.01}


def compare(expected: np.ndarray, actual: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Compares the outputs of an exported classifier with Keras' on the same images.

    Args:
        expected: (images, classes), Keras' outputs.
        actual: The same of the exported model.
        labels: (images,) ints, or None where the classes are not known.

    Returns:
        A dict: `num_images`, `max_difference`, `typical_difference` (that of 95% of the images), `top_1_agreement`,
        `disagreement` (1 - `top_1_agreement`) and, with labels, `top_1_accuracy_keras`, `top_1_accuracy` and
        `accuracy_drop`, their difference; all fractions. int8 is judged by `accuracy_drop`, or without labels by
        `disagreement`. Both are means over images: of 1 where only Keras is right and -1 where only the file is, or of
        1 where their top-1 differ. `..._standard_error` is that mean's.
    """
    # Outputs with outputs, as a phone sees them.
    top, top_before = (top_classes(outputs, 1)[:, 0].numpy() for outputs in (actual, expected))
    differences = np.abs(actual - expected).max(-1)
    row = {
        "num_images": len(expected),
        **_differences(differences),
        "top_1_agreement": float((top == top_before).mean()),
        **_mean_and_error("disagreement", top != top_before),
    }
    if labels is not None:
        row["top_1_accuracy_keras"] = float((top_before == labels).mean())
        row["top_1_accuracy"] = float((top == labels).mean())
        row |= _mean_and_error("accuracy_drop", (top_before == labels).astype(float) - (top == labels))
    return row


def _differences(values):
    return {"max_difference": float(values.max()), "typical_difference": float(np.quantile(values, _MOST))}


def _mean_and_error(name, values):
    error = np.std(values) / math.sqrt(len(values))
    return {name: float(np.mean(values)), f"{name}_standard_error": float(error)}


def loss(row: dict[str, Any]) -> tuple[Any, Any]:
    """What int8 is judged by, and its standard error, from a row of the report; None for a file not compared."""
    name = "accuracy_drop" if "accuracy_drop" in row else "disagreement"
    return row.get(name), row.get(f"{name}_standard_error")


def judge(format_name: str, row: dict[str, Any], largest: float = 1.0) -> tuple[list[str], list[str]]:
    """Judges a classifier's file by the gates of its format.

    Args:
        format_name: One of the formats.
        row: What `compare` gave, with `flex_ops` where it is a TFLite model. Int8 fails if it loses more than one point
            of top-1 by 1.64 standard errors, of fewer than 100 images if it loses more than 5 points; past half a
            point is a warning.
        largest: Largest absolute output, which the difference of logits is relative to.

    Returns:
        (failures, warnings), two lists of sentences.
    """
    failures, warnings = [], []
    if row.get("flex_ops"):
        failures.append(f"{row['flex_ops']} ops are not TFLite's builtin ones")
    if not math.isfinite(row["max_difference"]):
        failures.append("some outputs are not finite numbers")
    if format_name in ("fp32", "saved_model"):
        for name, limit, images in (
            ("typical_difference", _MAX_TYPICAL_DIFFERENCE, f"{_MOST:.0%} of the images"),
            ("max_difference", _MAX_DIFFERENCE, "any image"),
        ):
            if row[name] > limit * largest:
                failures.append(f"outputs differ from Keras' by {row[name]:.2g}, more than {limit:g} for {images}")
    least = _MIN_AGREEMENT[format_name]
    if least is not None and row["top_1_agreement"] < least:
        failures.append(f"top-1 is Keras' for {row['top_1_agreement']:.2%} of the images, less than {least:.1%}")
    if least is None:
        failure, warning = _judge_loss(row)
        failures += failure
        warnings += warning
    return failures, warnings


def _judge_loss(row):
    lost, error = loss(row)
    what = "top-1 accuracy falls by" if "accuracy_drop" in row else "top-1 differs from Keras' for"
    measured = f"{what} {100 * lost:.2f} +-{100 * error:.2f} points"
    if row["num_images"] < _FEW:
        if lost > _MAX_LOSS_OF_FEW:
            return [f"{measured}, more than {100 * _MAX_LOSS_OF_FEW:g} of fewer than {_FEW} images"], []
    elif lost - _SIGNIFICANCE * error > _MAX_LOSS:
        return [f"{measured}, more than {100 * _MAX_LOSS:g} by {_SIGNIFICANCE} standard errors"], []
    if lost > _MAX_SILENT_LOSS:
        return [], [f"{measured}, more than {100 * _MAX_SILENT_LOSS:g}"]
    return [], []


def compare_values(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compares a detector's encoded boxes and scores with Keras', as parts of the largest value of their output.

    Returns:
        A dict: `compared_images`, `typical_difference` (that of 95% of the values) and `max_difference`.
    """
    differences = [np.abs(actual[name] - expected[name]).ravel() / np.abs(expected[name]).max() for name in expected]
    images = len(next(iter(expected.values())))
    return {"compared_images": images, **_differences(np.concatenate(differences))}


def judge_values(format_name: str, row: dict[str, Any]) -> list[str]:
    """Judges a detector's file by what `compare_values` gave; returns failures, sentences."""
    if format_name != "fp32":
        return []
    limits = {"typical_difference": _MAX_TYPICAL_DIFFERENCE, "max_difference": _MAX_DIFFERENCE}
    return [
        f"outputs differ from Keras' by {row[name]:.2g} of the largest, more than {limit:g}"
        for name, limit in limits.items()
        if not row[name] <= limit
    ]


def judge_precision(before: float, after: float, format_name: str) -> tuple[dict[str, Any], list[str]]:
    """Compares a detector's average precision with Keras', and judges it.

    Args:
        before: Keras' AP; negative or not a number if the images show no objects.
        after: The file's.
        format_name: One of the detectors' formats.

    Returns:
        (a part of the report's row: `AP_keras`, `AP` and `AP_lost`, None where there is none; failures, sentences).
    """
    known_before, known_after = (value if value >= 0 else None for value in (before, after))
    row = {"AP_keras": known_before, "AP": known_after, "AP_lost": None}
    if known_before is None or known_after is None:
        return row, ["AP was not measured: the images that the file is verified on show no objects; verify on others"]
    lost = row["AP_lost"] = before - after
    if lost > _MAX_AP_LOST[format_name]:
        return row, [f"AP falls by {100 * lost:.2f} points, more than {100 * _MAX_AP_LOST[format_name]:g}"]
    return row, []
