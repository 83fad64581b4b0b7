"""What predictions say about a classifier: intervals, accuracy by class, confusions, calibration."""

import math
from typing import NamedTuple

import numpy as np

from mixnet_tf.reports.predictions import Predictions

_BINS = 15  # of equal width, as Guo et al. take them


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95% interval of a fraction.

    Args:
        hits: How often it was so.
        count: Of how many, at least one.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    z = 1.96
    fraction, square = hits / count, z * z / count
    center = (fraction + square / 2) / (1 + square)
    width = z * math.sqrt(fraction * (1 - fraction) / count + square / (4 * count)) / (1 + square)
    return (center - width if hits else 0.0), (center + width if hits < count else 1.0)  # exact, rounding is not


class ClassAccuracy(NamedTuple):
    """Top-1 of the images of one class.

    Attributes:
        label: The class.
        accuracy: Fraction of its images.
        images: How many it has.
        low: Lower end of the 95% interval.
        high: Its upper end.
    """

    label: int
    accuracy: float
    images: int
    low: float
    high: float


def accuracy_by_class(predictions: Predictions) -> list[ClassAccuracy]:
    """The accuracy of each class that has images, the worst first."""
    found = []
    for label in np.unique(predictions.labels):
        hits = predictions.predicted[predictions.labels == label] == label
        accuracy, interval = float(hits.mean()), wilson_interval(int(hits.sum()), len(hits))
        found.append(ClassAccuracy(int(label), accuracy, len(hits), *interval))
    return sorted(found, key=lambda row: (row.accuracy, row.label))


def confusion_matrix(predictions: Predictions, classes: int) -> np.ndarray:
    """int64 (classes, classes): how many images of the class of a row were given the class of a column."""
    counts = np.bincount(predictions.labels.astype(np.int64) * classes + predictions.predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def most_confused(predictions: Predictions, count: int) -> list[tuple[int, int, int]]:
    """(class, given class, images) of the most frequent mistakes, at most `count`, the most frequent first."""
    wrong = predictions.labels != predictions.predicted
    pairs = np.stack([predictions.labels[wrong], predictions.predicted[wrong]])
    mistakes, images = np.unique(pairs, axis=1, return_counts=True)
    first = np.argsort(-images, kind="stable")[:count]
    return [
        (int(label), int(given), int(found))
        for (label, given), found in zip(mistakes.T[first], images[first], strict=True)
    ]


class Calibration(NamedTuple):
    """How often predictions of a confidence are right.

    Attributes:
        edges: (16,) edges of the bins of confidence, from 0 to 1.
        images: int (15,), of each.
        confidence: (15,), their mean confidence; NaN where there is none.
        accuracy: (15,), their top-1 accuracy.
        error: The expected calibration error, a fraction.
    """

    edges: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def calibration(predictions: Predictions) -> Calibration:
    """The reliability of a classifier's probabilities, in fifteen bins of equal width.

    Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, section 2.
    """
    probability = predictions.probability.astype(np.float64)
    hits = (predictions.predicted == predictions.labels).astype(np.float64)
    bins = np.clip(np.ceil(probability * _BINS).astype(int) - 1, 0, _BINS - 1)  # each is open below, closed above
    count = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, probability, _BINS) / count
        accuracy = np.bincount(bins, hits, _BINS) / count
    filled = count > 0
    error = np.sum(count[filled] * np.abs(accuracy - confidence)[filled]) / len(hits)
    return Calibration(np.linspace(0, 1, _BINS + 1), count, confidence, accuracy, float(error))
