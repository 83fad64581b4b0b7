"""What an exported model is worth: measured against Keras, judged by gates, shown in a table."""

import math

import numpy as np

from mixnet_tf.export import runtime

# Least share of images whose top-1 is Keras'; None: the accuracy decides.
_LEAST_AGREEMENT = {"fp32": 1.0, "fp16": 0.995, "dynamic": 0.97, "int8": None, "int8_full": None, "saved_model": 1.0}
_MOST_DIFFERENCE = 1e-5  # of a float32 probability; of the largest logit
_WARN_DROP, _MOST_DROP = 0.01, 0.03  # of top-1, int8


def compare(expected, actual, labels):
    """Outputs of an exported model beside Keras' on the same images.

    Args:
        expected: (images, classes), Keras' outputs.
        actual: The same of the exported model.
        labels: (images,) ints, or None where the classes are not known.

    Returns:
        A dict: `num_images`, `max_difference`, `top_1_agreement` and, with labels, `top_1_accuracy_keras`,
        `top_1_accuracy`, `accuracy_drop` and `accuracy_drop_standard_error`, all shares of 1. The error is that of a
        mean of paired differences.
    """
    top, top_before = actual.argmax(-1), expected.argmax(-1)
    row = {
        "num_images": len(expected),
        "max_difference": float(np.abs(actual - expected).max()),
        "top_1_agreement": float((top == top_before).mean()),
    }
    if labels is not None:
        drops = (top_before == labels).astype(float) - (top == labels)
        row["top_1_accuracy_keras"] = float((top_before == labels).mean())
        row["top_1_accuracy"] = float((top == labels).mean())
        row["accuracy_drop"] = float(drops.mean())
        row["accuracy_drop_standard_error"] = float(drops.std() / math.sqrt(len(drops)))
    return row


def judge(format_name, row, largest=1.0):
    """What is wrong with a model by the gates of its format.

    Args:
        format_name: One of the formats.
        row: What `compare` gave, with `flex_ops` where it is a TFLite model.
        largest: Largest absolute output, which the difference of logits is relative to.

    Returns:
        (failures, warnings), two lists of sentences.
    """
    failures, warnings = [], []
    if row.get("flex_ops"):
        failures.append(f"{row['flex_ops']} ops are not TFLite's builtin ones")
    if not math.isfinite(row["max_difference"]):
        failures.append("some outputs are not finite numbers")
    if format_name in ("fp32", "saved_model") and row["max_difference"] > _MOST_DIFFERENCE * largest:
        failures.append(
            f"outputs differ from Keras' by up to {row['max_difference']:.2g}, more than {_MOST_DIFFERENCE:g}"
        )
    least = _LEAST_AGREEMENT[format_name]
    if least is not None and row["top_1_agreement"] < least:
        failures.append(f"top-1 is Keras' for {row['top_1_agreement']:.2%} of the images, less than {least:.1%}")
    if least is None:
        known = "accuracy_drop" in row
        drop = row["accuracy_drop"] if known else 1 - row["top_1_agreement"]
        what = "top-1 accuracy falls by" if known else "top-1 differs from Keras' for"
        (failures if drop > _MOST_DROP else warnings if drop > _WARN_DROP else []).append(
            f"{what} {drop:.2%}, more than {_MOST_DROP if drop > _MOST_DROP else _WARN_DROP:.0%}"
        )
    return failures, warnings


def structure(content):
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


def table(rows):
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
        "ms 1 thread",
        "2",
    )
    lines = [header]
    for row in rows:
        latency = row.get("latency_ms", {})
        accuracy = "-"
        if "top_1_accuracy" in row:
            accuracy = f"{row['top_1_accuracy']:.2%} +-{row['accuracy_drop_standard_error']:.2%}"
        lines.append(
            (
                row["file"],
                f"{row['bytes'] / 1e6:.2f}",
                _shown(row.get("delegate_partitions"), "d"),
                _shown(row.get("flex_ops"), "d"),
                _shown(row.get("max_difference"), ".1e"),
                _shown(row.get("top_1_agreement"), ".2%"),
                _shown(row.get("top_1_accuracy_keras"), ".2%"),
                accuracy,
                _shown(latency.get("1"), ".2f"),
                _shown(latency.get("2"), ".2f"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells) for cells in padded)


def _shown(value, form):
    return "-" if value is None else format(value, form)
