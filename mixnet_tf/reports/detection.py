"""The report on a detector."""

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from mixnet_tf.class_names import shown_names
from mixnet_tf.data import Split
from mixnet_tf.detection import classes_of, iou
from mixnet_tf.evaluation import SHOWN_SCORE, build_detection_measurement, draw_found, matched
from mixnet_tf.figures import png
from mixnet_tf.files import StrPath
from mixnet_tf.progress import Progress, silent
from mixnet_tf.reports.charts import draw_precision_recall
from mixnet_tf.reports.page import Figure, Number, Page, Section, Table, Tile, require_packages, write_page

_WORST_IMAGES, _WORST_CLASSES = 12, 20
_IOU_THRESHOLD = 0.5  # IoU from which a detection matches an object


class Drawn(NamedTuple):
    """An image with its true boxes, its detections, and the mistakes."""

    image: np.ndarray
    example: dict[str, np.ndarray]
    found: dict[str, np.ndarray]
    missed: int
    wrong: int


def write_detection_report(
    model: keras.Model,
    split: Split,
    folder: StrPath,
    names: Sequence[Any] | None = None,
    source: str = "not recorded",
    batch_size: int = 64,
    annotations: StrPath | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Any], str]:
    """Evaluates a detector on every image of a split, and writes a report.

    Args:
        model: An `SSDLite`.
        split: A `data.load_objects` split.
        folder: Where report.html, which opens without a network, and its figures as PNG are written.
        names: Names of the model's classes; None: the model's own names, else the split's, else numbers.
        source: Origin of the weights, in words.
        batch_size: Images per step.
        annotations: COCO's own annotations, as for `mixnet_tf.evaluation.build_detection_measurement`.
        progress: Shows the phases.

    Returns:
        (metrics like those of `mixnet_tf.evaluation.build_detection_evaluator`, the path of the page).

    Raises:
        MissingPackageError: If matplotlib, Jinja or faster-coco-eval is not installed.
        ValueError: As `build_detection_measurement`.
    """
    require_packages()
    split = matched(model, split, classes_of(model))
    worst: list[Drawn] = []

    def look(image, example, found):
        missed, wrong = count_mistakes(example, found)
        if missed + wrong:
            drawn = Drawn(np.uint8(np.clip(image, 0, 255)), example, found, missed, wrong)
            worst[:] = heapq.nlargest(_WORST_IMAGES, [*worst, drawn], key=lambda each: each.missed + each.wrong)

    result = build_detection_measurement(model, split, batch_size, annotations, look=look)(progress)
    names = shown_names(split.label_names or range(split.num_classes) if names is None else names)
    with progress("Drawing the report"):
        path = write_page(_page(result, worst, names, split), folder, model, split, source)
    return result.metrics, path


def count_mistakes(example: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> tuple[int, int]:
    """Counts the missed objects and the wrong detections in an image.

    A detection with a score of at least 0.3 is right if its box has an IoU of at least 0.5 with an object of its class
    that no detection with a higher score has matched.

    Args:
        example: "boxes" (objects, 4) as (y0, x0, y1, x1) and "labels" (objects,), negative in the padding.
        found: Detections in the form of `detect`, without the batch dimension, the highest score first.
    """
    there = example["labels"] >= 0
    boxes, labels = example["boxes"][there], example["labels"][there]
    free, wrong = np.full(len(labels), True), 0
    shown = found["scores"] >= SHOWN_SCORE
    overlaps = iou(found["boxes"][shown], boxes).numpy()
    for row, label in zip(overlaps, found["classes"][shown], strict=True):
        candidates = np.where(free & (labels == label), row, 0)
        if candidates.max(initial=0) >= _IOU_THRESHOLD:
            free[candidates.argmax()] = False
        else:
            wrong += 1
    return int(free.sum()), wrong


def _page(result, worst, names, split):
    metrics = result.metrics
    numbers = [
        Number("AP", _percent(metrics["AP"]), "mean over IoUs of 0.5 to 0.95"),
        Number("AP50", _percent(metrics["AP50"]), "at an IoU of 0.5"),
        Number("AP75", _percent(metrics["AP75"]), "at an IoU of 0.75"),
        Number("AR100", _percent(metrics["AR100"]), "recall with 100 boxes an image"),
        Number("images", f"{metrics['num_images']:,}", f"{split.num_classes} classes"),
    ]
    sections = [_classes(result, names), _sizes(metrics), _images(worst, names)]
    subtitle = f"Every image of split {split.name!r} once, COCO's measures."
    return Page(subtitle, numbers, "the whole image", sections, tile=15)


def _classes(result, names):
    known = [label for label in range(len(result.precision)) if result.average_precision[label] >= 0]
    curves = [(names[label], result.precision[label]) for label in known]
    figures = []
    if curves:
        alt = "Precision against recall of each class at an IoU of 0.5"
        figures = [Figure("precision_recall.png", draw_precision_recall(curves), alt)]
    known.sort(key=lambda label: (result.average_precision[label], label))
    rows = [
        (names[label], f"{result.average_precision[label]:.1%}", f"{result.precision[label].mean():.1%}")
        for label in known[:_WORST_CLASSES]
    ]
    title = "the classes, the worst first" if len(known) <= _WORST_CLASSES else f"the {_WORST_CLASSES} worst classes"
    return Section("Precision and recall by class", figures=figures, tables=[Table((title, "AP", "AP50"), rows)])


def _sizes(metrics):
    sizes = {"small, below 32 x 32": "s", "medium": "m", "large, from 96 x 96": "l"}
    rows = [(name, _percent(metrics[f"AP{key}"]), _percent(metrics[f"AR{key}"])) for name, key in sizes.items()]
    return Section("By size", tables=[Table(("objects, pixels of the original image", "AP", "recall"), rows)])


def _images(worst, names):
    tiles = [
        Tile(
            png(draw_found(each.image, each.example, each.found, names)),
            [f"{each.missed} missed, {each.wrong} wrong"],
            f"An image with {each.missed} objects missed and {each.wrong} wrong detections",
        )
        for each in worst
    ]
    if not tiles:
        return Section("Worst images", ["There is no image with a mistake."])
    text = (
        f"The {len(tiles)} images with the most mistakes: detections with a score of at least {SHOWN_SCORE} in red, "
        "true boxes in green. An object counts as missed if no box of its class has an IoU of at least "
        f"{_IOU_THRESHOLD} with it."
    )
    return Section("Worst images", [text], tiles=tiles)


def _percent(value):
    return "no objects" if value < 0 else f"{value:.1%}"
