"""The gates of an export: measures the difference between a file and Keras, and judges it."""

import math
from typing import Any

import numpy as np

from mixnet_tf.evaluation import top_classes

HALF_PRECISION = "half precision"  # the arithmetic of fp16 on a phone, beside the formats
# Smallest fraction of images with Keras' top-1; None: the accuracy decides.
_MIN_AGREEMENT = {
    "fp32": 1.0, "fp16": 0.995, "fp16_weights": 0.995, "dynamic": 0.97, "int8": None, "int8_full": None,
    "saved_model": 1.0, HALF_PRECISION: None,
}  # fmt: skip
# float32: largest difference of most values, and of every value, as a probability or a fraction of the largest value.
# Rounding keeps most images within the first bound, but exceeds it on an image between two classes: Keras itself, in
# batches of 1 and of 32, differed by 2.2e-5 on one of 360 digits.
_MAX_TYPICAL_DIFFERENCE, _MAX_DIFFERENCE = 1e-5, 1e-4
_MAX_OF_KERAS = (
    2  # float32: largest ratio to how far Keras differs from itself, for networks that rounding changes more
)
_MOST = 0.95  # fraction of the images, or of a detector's values, for which the first bound has to hold
# int8: loss of top-1 that may be certain (one-sided, 95%); that is allowed with few images; and that gives no warning.
_MAX_LOSS, _SIGNIFICANCE = 0.01, 1.64  # fraction of the images; standard errors
_FEW, _MAX_LOSS_OF_FEW = 100, 0.05  # number of images; fraction of them
_MAX_SILENT_LOSS = 0.005
_MAX_AP_LOST = {
    "fp32": 0.001, "fp16": 0.005, "fp16_weights": 0.005, "dynamic": 0.01, "int8": 0.01, "int8_full": 0.01,
    HALF_PRECISION: 0.01,
}  # fmt: skip
_MAX_SILENT_COST = 0.001  # AP that the thresholds of a suppression may cost without a warning


def compare(expected: np.ndarray, actual: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Compares the outputs of an exported classifier with Keras' on the same images.

    Args:
        expected: (images, classes), Keras' outputs.
        actual: (images, classes), the file's outputs.
        labels: (images,) ints, or None if the classes are not known.

    Returns:
        A dict of fractions: `num_images`, `max_difference`, `typical_difference` (that of 95% of the images),
        `top_1_agreement`, `disagreement` (1 - `top_1_agreement`) and, with labels, `top_1_accuracy_keras`,
        `top_1_accuracy` and `accuracy_drop` (their difference). int8 is judged by `accuracy_drop`, the mean of 1 for
        images on which only Keras is right and -1 for those on which only the file is, or without labels by
        `disagreement`. `..._standard_error` is the standard error of this mean.
    """
    # Compares final outputs, as a phone sees them.
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


def rounding(expected: np.ndarray, again: np.ndarray) -> dict[str, float]:
    """How far Keras' outputs differ from its own with batches of another size: `keras_typical_difference` and so on.

    The order of additions differs, so this is what rounding does to the network.
    """
    return {f"keras_{name}": value for name, value in _differences(np.abs(again - expected).max(-1)).items()}


def _differences(values):
    return {"max_difference": float(values.max()), "typical_difference": float(np.quantile(values, _MOST))}


def _mean_and_error(name, values):
    error = np.std(values) / math.sqrt(len(values))
    return {name: float(np.mean(values)), f"{name}_standard_error": float(error)}


def loss(row: dict[str, Any]) -> tuple[Any, Any]:
    """The loss by which int8 is judged and its standard error, from a row of the report; None: not compared."""
    name = "accuracy_drop" if "accuracy_drop" in row else "disagreement"
    return row.get(name), row.get(f"{name}_standard_error")


def judge(format_name: str, row: dict[str, Any], largest: float = 1.0) -> tuple[list[str], list[str]]:
    """Judges a classifier's file by the gates of its format.

    Args:
        format_name: One of the formats.
        row: The result of `compare`, with `flex_ops` for a TFLite model and perhaps the result of `rounding`. int8
            fails if it loses more than one point of top-1 after subtracting 1.64 standard errors or, with fewer than
            100 images, more than 5 points. A loss of more than half a point is a warning.
        largest: Largest absolute output, to which the difference of logits is relative.

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
            rounding = row.get(f"keras_{name}", 0.0)
            if row[name] > max(limit * largest, _MAX_OF_KERAS * rounding):
                of_itself = f" (Keras with other batches by {rounding:.2g})" if rounding else ""
                failures.append(
                    f"outputs differ from Keras' by {row[name]:.2g}, more than {limit:g} for {images}{of_itself}"
                )
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
    """Compares a detector's encoded boxes and scores with Keras', as fractions of the output's largest value.

    Returns:
        A dict: `compared_images`, `typical_difference` (that of 95% of the values) and `max_difference`.
    """
    differences = [np.abs(actual[name] - expected[name]).ravel() / np.abs(expected[name]).max() for name in expected]
    images = len(next(iter(expected.values())))
    return {"compared_images": images, **_differences(np.concatenate(differences))}


def judge_values(format_name: str, row: dict[str, Any]) -> list[str]:
    """Judges a detector's file by the result of `compare_values`; returns failures as sentences."""
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
        before: Keras' AP; negative or NaN if the images show no objects.
        after: The file's AP.
        format_name: One of the detectors' formats.

    Returns:
        (`AP_keras`, `AP` and `AP_lost` for the report's row, None if not measured; failures as sentences).
    """
    known_before, known_after = (value if value >= 0 else None for value in (before, after))
    row = {"AP_keras": known_before, "AP": known_after, "AP_lost": None}
    if known_before is None or known_after is None:
        return row, ["AP was not measured: the images that the file is verified on show no objects; verify on others"]
    lost = row["AP_lost"] = before - after
    if lost > _MAX_AP_LOST[format_name]:
        return row, [f"AP falls by {100 * lost:.2f} points, more than {100 * _MAX_AP_LOST[format_name]:g}"]
    return row, []


def judge_thresholds(every: float, kept: float) -> tuple[dict[str, Any], list[str]]:
    """Tells what the thresholds of a detector's suppression cost.

    Args:
        every: Keras' AP with the thresholds of COCO's metrics; negative or NaN if the images show no objects.
        kept: Keras' AP with those of the file.

    Returns:
        (`AP_keras_coco` for the report's row, None if not measured; warnings as sentences).
    """
    row = {"AP_keras_coco": every if every >= 0 else None}
    cost = every - kept
    if not cost > _MAX_SILENT_COST:
        return row, []
    return row, [
        f"the thresholds of score and IoU cost {100 * cost:.2f} points of AP, more than {100 * _MAX_SILENT_COST:g}; a "
        "lower score_threshold keeps more"
    ]
