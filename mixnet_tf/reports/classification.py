"""The report on a classifier."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.class_names import shown_names
from mixnet_tf.data import Split
from mixnet_tf.evaluation import MEAN_CLASS_ACCURACY, matched
from mixnet_tf.files import StrPath
from mixnet_tf.networks import Resizing, resizing_of
from mixnet_tf.progress import Progress, silent
from mixnet_tf.reports.charts import (
    MAX_NAMED,
    draw_calibration,
    draw_class_accuracy,
    draw_confusions,
)
from mixnet_tf.reports.measures import (
    accuracy_by_class,
    calibration,
    confusion_matrix,
    most_confused,
    wilson_interval,
)
from mixnet_tf.reports.page import Figure, Number, Page, Section, Table, Tile, require_packages, write_page
from mixnet_tf.reports.predictions import Predictions, predict

_PAIRS = 15  # number of confused pairs in the table
_WORST = 20  # number of classes in the table
_SMALL = 96  # image size in pixels below which images are enlarged by whole pixels


def write_report(
    model: keras.Model,
    split: Split,
    folder: StrPath,
    names: Sequence[Any] | None = None,
    source: str = "not recorded",
    crop: bool | Resizing | None = None,
    batch_size: int = 64,
    progress: Progress = silent,
    by_class: bool = False,
) -> tuple[dict[str, Any], str]:
    """Evaluates a classifier on every image of a split, and writes a report.

    Args:
        model: A Keras model from images of a fixed size to probabilities.
        split: A `data.Split`.
        folder: Where report.html, which opens without a network, and its figures as PNG are written.
        names: Names of the model's classes; None: the model's own names, else the split's, else numbers.
        source: Origin of the weights, in words.
        crop: How images are cropped and resized, as for `networks.resizing_of`; None: as the model says.
        batch_size: Images per step.
        progress: Shows the phases.
        by_class: Whether the numbers include the accuracy as the mean over classes.

    Returns:
        (metrics like those of `mixnet_tf.evaluation.build_evaluator`, the path of the page).

    Raises:
        MissingPackageError: If matplotlib or Jinja is not installed.
        ValueError: If the model's classes are not the split's, or if an image cannot be decoded.

    """
    require_packages()
    split, resizing = matched(model, split, model.output_shape[-1]), resizing_of(model, crop)
    predictions = predict(model, split, resizing, batch_size, progress)
    names = shown_names(split.label_names or range(split.num_classes) if names is None else names)
    with progress("Drawing the report"):
        page = _page(predictions, names, split, model.input_shape[1], resizing, by_class)
        path = write_page(page, folder, model, split, source)
    return predictions.metrics(by_class), path


def _page(predictions: Predictions, names, split, size, resizing, by_class):
    metrics, images = predictions.metrics(by_class), len(predictions.labels)
    top_1, top_5 = metrics["top_1_accuracy"], metrics["top_5_accuracy"]
    calibrated = calibration(predictions)
    mean_confidence = float(predictions.probability.mean())
    numbers = [
        Number("top-1 accuracy", f"{top_1:.2%}", _interval(round(top_1 * images), images)),
        Number("top-5 accuracy", f"{top_5:.2%}", _interval(round(top_5 * images), images)),
        Number("calibration error", f"{calibrated.error:.2%}", f"mean probability {mean_confidence:.1%}"),
        Number("images", f"{images:,}", f"{split.num_classes} classes"),
    ]
    if by_class:
        tested = len(np.unique(predictions.labels))
        mean = Number("mean over classes", f"{metrics[MEAN_CLASS_ACCURACY]:.2%}", f"of the top-1 of {tested} classes")
        numbers.insert(1, mean)
    sections = [
        _classes(predictions, names, top_1),
        _confusions(predictions, names),
        _calibration(calibrated),
        _mistakes(predictions, names),
    ]
    subtitle = f"Every image of split {split.name!r} once, with 95% confidence intervals."
    return Page(subtitle, numbers, resizing.words(size), sections, smooth=size > _SMALL)


def _interval(hits, images):
    low, high = wilson_interval(hits, images)
    return f"{low:.2%} to {high:.2%}"


def _classes(predictions, names, top_1):
    rows = accuracy_by_class(predictions)
    figure = Figure("accuracy_by_class.png", draw_class_accuracy(rows, names, top_1), "Accuracy of each class, sorted")
    cells = [
        (names[row.label], f"{row.accuracy:.1%}", f"{row.low:.1%} to {row.high:.1%}", f"{row.images:,}")
        for row in rows[:_WORST]
    ]
    title = "the classes, the worst first" if len(rows) <= _WORST else f"the {_WORST} worst classes"
    return Section("Accuracy by class", figures=[figure], tables=[Table((title, "top-1", "95%", "images"), cells)])


def _confusions(predictions, names):
    figures = []
    if len(names) <= MAX_NAMED:
        drawn = draw_confusions(confusion_matrix(predictions, len(names)), names)
        figures = [Figure("confusions.png", drawn, "Confusion matrix, a row for each true class")]
    pairs = [
        (
            f"{names[label]}, taken for {names[given]}",
            f"{count:,}",
            f"{count / np.sum(predictions.labels == label):.1%}",
        )
        for label, given, count in most_confused(predictions, _PAIRS)
    ]
    texts = [] if pairs else ["No image is taken for another class."]
    tables = [Table(("most confused", "images", "of its class"), pairs)] if pairs else []
    return Section("Confusions", texts, figures, tables)


def _calibration(found):
    figure = Figure("calibration.png", draw_calibration(found), "Accuracy against the predicted probability")
    text = (
        "Bars above the dashed line are right more often than their probability says, bars below less often. The "
        "calibration error is the mean distance from it over all images, in 15 bins of equal width. Label smoothing "
        "keeps probabilities below 1 on purpose."
    )
    return Section("Calibration", [text], [figure])


def _mistakes(predictions, names):
    tiles = [
        Tile(
            tf.io.encode_png(each.image).numpy(),
            [f"{names[each.predicted]}, {each.probability:.1%}", f"is {names[each.label]}", each.id],
            f"An image of {names[each.label]}, taken for {names[each.predicted]}",
        )
        for each in predictions.mistakes
    ]
    if not tiles:
        return Section("Mistakes", ["There are none."])
    text = (
        f"The {len(tiles)} mistakes with the highest probability, as the model sees the images: the predicted class "
        "and its probability, the true class, and the file."
    )
    return Section("Most confident mistakes", [text], tiles=tiles)
