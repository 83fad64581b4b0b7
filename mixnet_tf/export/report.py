"""The report on exported files: each compared with Keras, judged by its gate, shown in a table."""

import math
from typing import Any

import numpy as np

from mixnet_tf.evaluation import top_classes
from mixnet_tf.export import runtime

# Least fraction of images whose top-1 is Keras'; None: the accuracy decides.
_LEAST_AGREEMENT = {"fp32": 1.0, "fp16": 0.995, "dynamic": 0.97, "int8": None, "int8_full": None, "saved_model": 1.0}
# Of a float32 probability, or of the largest logit. Rounding alone keeps most images within the first, but one between
# two classes goes further: Keras itself, in batches of 1 and of 32, differed by 2.2e-5 on one of 360 digits.
_MOST_DIFFERENCE, _MOST_OF_ONE_IMAGE = 1e-5, 1e-4
_MOST_IMAGES = 0.95  # fraction of the images that the first holds for
# int8: how much of top-1 may be lost for certain, one-sided at 95%; where a few images prove little; and in silence.
_MOST_LOSS, _SIGNIFICANCE = 0.01, 1.64  # fraction of the images, standard errors
_FEW, _MOST_LOSS_OF_FEW = 100, 0.05  # images, fraction of them
_SILENT_LOSS = 0.005


def compare(expected: np.ndarray, actual: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Outputs of an exported model beside Keras' on the same images.

    Args:
        expected: (images, classes), Keras' outputs.
        actual: The same of the exported model.
        labels: (images,) ints, or None where the classes are not known.

    Returns:
        A dict: `num_images`, `max_difference`, `typical_difference` (that of 95% of the images), `top_1_agreement`,
        `disagreement` (1 - `top_1_agreement`) and, with labels, `top_1_accuracy_keras`, `top_1_accuracy` and
        `accuracy_drop`, their difference; all fractions. What int8 is judged by, `accuracy_drop` or without labels
        `disagreement`, is a mean over images: of 1 where only Keras is right and -1 where only the model is, or of 1
        where their top-1 differ. `..._standard_error` is that mean's.
    """
    # Outputs with outputs, as a phone sees them.
    top, top_before = (top_classes(outputs, 1)[:, 0].numpy() for outputs in (actual, expected))
    differences = np.abs(actual - expected).max(-1)
    row = {
        "num_images": len(expected),
        "max_difference": float(differences.max()),
        "typical_difference": float(np.quantile(differences, _MOST_IMAGES)),
        "top_1_agreement": float((top == top_before).mean()),
        **_mean_and_error("disagreement", top != top_before),
    }
    if labels is not None:
        row["top_1_accuracy_keras"] = float((top_before == labels).mean())
        row["top_1_accuracy"] = float((top == labels).mean())
        row |= _mean_and_error("accuracy_drop", (top_before == labels).astype(float) - (top == labels))
    return row


def _mean_and_error(name, values):
    error = np.std(values) / math.sqrt(len(values))
    return {name: float(np.mean(values)), f"{name}_standard_error": float(error)}


def _loss(row):
    """What int8 is judged by, and its standard error; None for a model that was not compared."""
    name = "accuracy_drop" if "accuracy_drop" in row else "disagreement"
    return row.get(name), row.get(f"{name}_standard_error")


def judge(format_name: str, row: dict[str, Any], largest: float = 1.0) -> tuple[list[str], list[str]]:
    """What is wrong with a model by the gates of its format.

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
            ("typical_difference", _MOST_DIFFERENCE, f"{_MOST_IMAGES:.0%} of the images"),
            ("max_difference", _MOST_OF_ONE_IMAGE, "any image"),
        ):
            if row[name] > limit * largest:
                failures.append(f"outputs differ from Keras' by {row[name]:.2g}, more than {limit:g} for {images}")
    least = _LEAST_AGREEMENT[format_name]
    if least is not None and row["top_1_agreement"] < least:
        failures.append(f"top-1 is Keras' for {row['top_1_agreement']:.2%} of the images, less than {least:.1%}")
    if least is None:
        failure, warning = _judge_loss(row)
        failures += failure
        warnings += warning
    return failures, warnings


def _judge_loss(row):
    loss, error = _loss(row)
    what = "top-1 accuracy falls by" if "accuracy_drop" in row else "top-1 differs from Keras' for"
    measured = f"{what} {100 * loss:.2f} +-{100 * error:.2f} points"
    if row["num_images"] < _FEW:
        if loss > _MOST_LOSS_OF_FEW:
            return [f"{measured}, more than {100 * _MOST_LOSS_OF_FEW:g} of fewer than {_FEW} images"], []
    elif loss - _SIGNIFICANCE * error > _MOST_LOSS:
        return [f"{measured}, more than {100 * _MOST_LOSS:g} by {_SIGNIFICANCE} standard errors"], []
    if loss > _SILENT_LOSS:
        return [], [f"{measured}, more than {100 * _SILENT_LOSS:g}"]
    return [], []


def structure(content: bytes) -> dict[str, Any]:
    """Size, op histogram, delegate partitions and Flex ops of a TFLite model."""
    ops, partitions, flex = runtime.operations(content)
    delegated = runtime.is_fully_delegated(content)
    return {
        "bytes": len(content),
        "ops": ops,
        "delegate_partitions": partitions,
        "fully_delegated": delegated,
        "flex_ops": flex,
    }


def text(result: dict[str, Any]) -> str:
    """A report in words: the table, what it was measured with, what to mind, and what was not written."""
    rows = result["files"]
    known = any("accuracy_drop" in row for row in rows)
    lines = [
        table(rows),
        f"{result['runtime']}, large kernels: {result['large_kernels']}, {result['num_images']} images; "
        f"{result['machine']}",
        "lost: points of top-1 accuracy" if known else "lost: images, in 100, whose top-1 is not Keras'",
    ]
    lines += [f"Note: {note}." for note in result.get("notes", ())]
    lines += [f"Warning: {row['format']}: {sentence}." for row in rows for sentence in row.get("warnings", ())]
    for row in rows:
        if row["failures"]:
            lines.append(f"{'Written anyway' if row['written'] else 'Not written'}: {_failed(row)}")
    return "\n".join(lines)


def _failed(row):
    sentence = f"{row['format']}: {'; '.join(row['failures'])}."
    if row.get("older_file") is not None:
        sentence += f" The older file is now {row['older_file']}."
    if row["written"]:
        return sentence
    if _LEAST_AGREEMENT[row["format"]] is None:
        repairs = ["more --calibration_images, like those that the model will see"]
        repairs += ["--int8_float_parts=4"] if row["format"] == "int8" else ["--formats=int8 --int8_float_parts=4"]
    else:
        repairs = []
    return f"{sentence} To try: {', '.join([*repairs, 'another format, --allow_accuracy_drop'])}."


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of a report as text, a line each."""
    header = (
        "file",
        "MB",
        "partitions",
        "Flex",
        "largest diff",
        "same top-1",
        "top-1 before",
        "after",
        "lost",
        "ms 1 thread",
        "2",
    )
    lines = [header]
    for row in rows:
        latency = row.get("latency_ms", {})
        megabytes = None if "bytes" not in row else row["bytes"] / 1e6
        loss, error = _loss(row)
        lost = "-" if loss is None else f"{100 * loss:.2f} +-{100 * error:.2f}"
        lines.append(
            (
                row["file"],
                _shown(megabytes, ".2f"),
                _shown(row.get("delegate_partitions"), "d"),
                _shown(row.get("flex_ops"), "d"),
                _shown(row.get("max_difference"), ".1e"),
                _shown(row.get("top_1_agreement"), ".2%"),
                _shown(row.get("top_1_accuracy_keras"), ".2%"),
                _shown(row.get("top_1_accuracy"), ".2%"),
                lost,
                _shown(latency.get("1"), ".2f"),
                _shown(latency.get("2"), ".2f"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells) for cells in padded)


def _shown(value, form):
    return "-" if value is None else format(value, form)
