"""Measures of a classifier's predictions: intervals, accuracy by class, confusions, calibration."""

import math
from typing import NamedTuple

import numpy as np

from mixnet_tf.reports.predictions import Predictions

_BINS = 15  # number of bins of equal width, as in Guo et al.


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95% confidence interval of a fraction (Wilson's score interval).

    Args:
        hits: Number of successes.
        count: Number of trials, at least one.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    z = 1.96
    fraction, square = hits / count, z * z / count
    center = (fraction + square / 2) / (1 + square)
    width = z * math.sqrt(fraction * (1 - fraction) / count + square / (4 * count)) / (1 + square)
    return (center - width if hits else 0.0), (center + width if hits < count else 1.0)  # exact, rounding is not


class ClassAccuracy(NamedTuple):
    """The top-1 accuracy of the images of one class.

    Attributes:
        label: The class.
        accuracy: Fraction of its images.
        images: Number of its images.
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
    """int64 (classes, classes): the images of each true class (row) by their predicted class (column)."""
    counts = np.bincount(predictions.labels.astype(np.int64) * classes + predictions.predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def most_confused(predictions: Predictions, count: int) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of the `count` most frequent mistakes, the most frequent first."""
    wrong = predictions.labels != predictions.predicted
    pairs = np.stack([predictions.labels[wrong], predictions.predicted[wrong]])
    mistakes, images = np.unique(pairs, axis=1, return_counts=True)
    first = np.argsort(-images, kind="stable")[:count]
    return [
        (int(label), int(given), int(found))
        for (label, given), found in zip(mistakes.T[first], images[first], strict=True)
    ]


class Calibration(NamedTuple):
    """The accuracy of predictions by their confidence.

    Attributes:
        edges: (16,) edges of the bins of confidence, from 0 to 1.
        images: int (15,), number of images in each bin.
        confidence: (15,), mean confidence of each bin; NaN if it is empty.
        accuracy: (15,), top-1 accuracy of each bin.
        error: The expected calibration error, a fraction.
    """

    edges: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def calibration(predictions: Predictions) -> Calibration:
    """The calibration of a classifier's probabilities, in fifteen bins of equal width.

    Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, section 2.
    """
    probability = predictions.probability.astype(np.float64)
    hits = (predictions.predicted == predictions.labels).astype(np.float64)
    bins = np.clip(np.ceil(probability * _BINS).astype(int) - 1, 0, _BINS - 1)  # each is open below and closed above
    count = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, probability, _BINS) / count
        accuracy = np.bincount(bins, hits, _BINS) / count
    filled = count > 0
    error = np.sum(count[filled] * np.abs(accuracy - confidence)[filled]) / len(hits)
    return Calibration(np.linspace(0, 1, _BINS + 1), count, confidence, accuracy, float(error))
