"""Chooses the calibration images and the graph of int8: those whose int8 model is closest to Keras."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from mixnet_tf.export.activations import Activations
from mixnet_tf.progress import Progress, silent

FRACTIONS = (0.95, 0.9, 0.8)  # fractions of the calibration images that are tried, those with the smallest activations
# Mean distance from Keras below which neither all images nor units are tried, because each is a conversion.
_NEAR = 0.02
# Units cost a fifth of the latency, so their error has to be below this fraction of the plain graph's.
_UNITS_GAIN = 0.5


class Calibration(NamedTuple):
    """A calibration of int8, and its distance from Keras."""

    images: np.ndarray  # images that decide the ranges
    units: dict  # units of the channels, from `Activations.units`; empty: all are 1
    kept: float  # fraction of the calibration images that is used
    left_out: int  # images
    error: float  # distance from Keras on all calibration images
    content: bytes  # bytes of the int8 model

    def summary(self) -> dict[str, Any]:
        """The entry in the report."""
        return {
            "images": len(self.images) + self.left_out,
            "kept": self.kept,
            "left_out": self.left_out,
            "channel_units": bool(self.units),
            "distance_from_keras": self.error,
        }


def calibrate(
    activations: Activations,
    images: np.ndarray,
    convert: Callable[..., bytes],
    measure: Callable[[bytes, Callable[[], None]], float],
    progress: Progress = silent,
) -> Calibration:
    """Finds the calibration whose int8 model is closest to Keras.

    The converter takes each tensor's range from the largest value over all its images, so a few images with large
    activations make all others coarser. The number of images to leave out is chosen by the int8 model's distance from
    Keras on all of them.

    Args:
        activations: `Activations` of the model on the images.
        images: (images, size, size, 3), float32 in [0, 255].
        convert: A function from (units, images, seen) to the bytes of an int8 model with float input and output; it
            calls `seen` for each image.
        measure: A function from (bytes, seen) to an int8 model's distance from Keras on all images; it calls `seen`
            for each image.
        progress: Shows the phases of the work.

    Returns:
        A `Calibration`.
    """
    by_score = np.argsort(activations.scores(), kind="stable")

    def candidate(count, in_units):
        chosen = np.sort(by_score[:count])
        units = activations.units(chosen) if in_units else {}
        name = f"int8: {count} of {len(images)} images, channels {'in their own units' if units else 'as they are'}"
        with progress(name, count + len(images), "images") as phase:
            content = convert(units, images[chosen], phase.advance)
            error = measure(content, phase.advance)
            error = math.inf if math.isnan(error) else error  # so that it is never chosen
            phase.describe(f"distance from Keras {error:.4f}")
        return Calibration(images[chosen], units, count / len(images), len(images) - count, error, content)

    counts = list(dict.fromkeys(max(1, round(fraction * len(images))) for fraction in FRACTIONS))
    found = [candidate(count, False) for count in counts]
    if not min(each.error for each in found) < _NEAR and len(images) not in counts:
        found.append(candidate(len(images), False))
    best = min(found, key=lambda each: each.error)
    if not best.error < _NEAR:
        in_units = candidate(len(best.images), True)
        best = in_units if in_units.error < _UNITS_GAIN * best.error else best
    if best.left_out:
        logging.info(
            f"int8: {best.left_out} of {len(images)} calibration images are left out: their activations are the "
            "largest, and one range for all would leave the others fewer steps."
        )
    return best


def distance(actual: np.ndarray, expected: np.ndarray, logits: bool = False) -> float:
    """The mean total variation distance of a model's probabilities from Keras'.

    It is between 0 and 1 for each image, so an image that no range fits counts as much as one wrong answer. It also
    shows differences that do not change the top-1.

    Args:
        actual: (images, classes).
        expected: (images, classes), Keras' outputs.
        logits: Whether both are logits.
    """
    if logits:
        actual, expected = _softmax(actual), _softmax(expected)
    return float(np.minimum(0.5 * np.abs(actual - expected).sum(-1), 1.0).mean())


def _softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
