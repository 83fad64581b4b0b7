"""The figures of a report, as PNG."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixnet_tf.figures import new_figure, plain_text, png
from mixnet_tf.reports.measures import Calibration, ClassAccuracy

_BLUE, _RED, _GREY, _GRID = "#1d4ed8", "#b91c1c", "#6b7280", "#e5e7eb"
MAX_NAMED = 60  # largest number of classes with a bar each, and a row of the confusion matrix
_WRITTEN = 20  # largest number of classes whose confusions are written as numbers
_LONGEST = 28  # characters of a name that are shown


def _figure(width, height):
    figure = new_figure(figsize=(width, height), dpi=130, layout="constrained")
    return figure, figure.add_subplot()


def _short(name):
    text = str(name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


@plain_text()
def draw_class_accuracy(rows: Sequence[ClassAccuracy], names: Sequence[Any], mean: float) -> bytes:
    """Draws the accuracy of each class with its 95% interval, the worst at the top; many classes as one curve."""
    many = len(rows) > MAX_NAMED
    figure, axes = _figure(7, 3.6 if many else 0.9 + 0.24 * len(rows))
    accuracy = np.array([row.accuracy for row in rows])
    if many:
        axes.plot(np.arange(1, len(rows) + 1), accuracy, color=_BLUE)
        axes.axhline(mean, color=_RED, linewidth=1, label=f"all images, {mean:.1%}")
        axes.set(xlabel="classes, the worst first", ylabel="top-1 accuracy", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter("{x:.0%}")
    else:
        places = np.arange(len(rows))
        axes.barh(places, accuracy, color=_BLUE, height=0.7)
        reach = [[row.accuracy - row.low for row in rows], [row.high - row.accuracy for row in rows]]
        axes.errorbar(accuracy, places, xerr=reach, fmt="none", ecolor=_GREY, elinewidth=1, capsize=2)
        axes.axvline(mean, color=_RED, linewidth=1, label=f"all images, {mean:.1%}")
        axes.set_yticks(places, [_short(names[row.label]) for row in rows])
        axes.set(xlabel="top-1 accuracy", xlim=(0, 1.02), ylim=(len(rows) - 0.4, -0.6))
        axes.xaxis.set_major_formatter("{x:.0%}")
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(fontsize=8, loc="outside upper right", frameon=False)
    return png(figure)


@plain_text()
def draw_confusions(matrix: np.ndarray, names: Sequence[Any]) -> bytes:
    """Draws the confusion matrix of a few classes; a row has fractions of the images of a class."""
    classes = len(matrix)
    size = max(3.6, min(8.0, 1.8 + 0.36 * classes))
    figure, axes = _figure(size, size)
    fractions = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    labels = [_short(names[label]) for label in range(classes)]
    small = 8 if classes <= _WRITTEN else 5
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=small)
    axes.set_yticks(range(classes), labels, fontsize=small)
    axes.set(xlabel="predicted", ylabel="true class")
    if classes <= _WRITTEN:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            color = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=color, fontsize=7)
    return png(figure)


def draw_calibration(found: Calibration) -> bytes:
    """Draws the reliability diagram: accuracy against confidence, and the number of images by confidence."""
    figure = new_figure(figsize=(4.6, 5.2), dpi=130, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    width = np.diff(found.edges)
    filled = found.images > 0
    top.bar(found.edges[:-1][filled], found.accuracy[filled], width[filled], align="edge", color=_BLUE, alpha=0.85)
    top.plot((0, 1), (0, 1), color=_GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    top.plot(found.confidence[filled], found.accuracy[filled], color=_RED, marker="o", markersize=3, linewidth=1)
    top.set(ylabel="top-1 accuracy", xlim=(0, 1), ylim=(0, 1))
    top.legend(fontsize=8, loc="upper left")
    bottom.bar(found.edges[:-1], found.images, width, align="edge", color=_GREY)
    bottom.set(xlabel="probability of the predicted class", ylabel="images")
    for axes in (top, bottom):
        axes.grid(color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    return png(figure)


@plain_text()
def draw_precision_recall(curves: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """Draws the precision-recall curve of each class at an IoU of 0.5.

    Args:
        curves: For each class its name, and its precision (101,) at recalls of 0, 0.01, ..., 1.
    """
    figure, axes = _figure(7, 4.4)
    recall = np.linspace(0, 1, 101)
    many = len(curves) > 10
    style = {"linewidth": 0.6, "color": _GREY} if many else {"linewidth": 1.2}
    lines = [axes.plot(recall, precision, **style)[0] for _, precision in curves]
    names = [_short(name) for name, _ in curves]
    if many:
        mean = np.mean([precision for _, precision in curves], 0)
        lines += axes.plot(recall, mean, color=_RED, linewidth=2)
        names.append("mean of all classes")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color=_GRID, linewidth=0.6)
    axes.legend(lines[-10:], names[-10:], fontsize=8, loc="lower left")
    return png(figure)
