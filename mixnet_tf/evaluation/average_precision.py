"""COCO's twelve metrics of a detector on a split."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, naming_corrupt_images, object_eval_batches
from mixnet_tf.detection import anchors_of, classes_of, scores_of, suppress
from mixnet_tf.errors import InputError, require_package
from mixnet_tf.evaluation.accuracy import matched
from mixnet_tf.evaluation.coco_files import categories_by_name, read_annotations
from mixnet_tf.evaluation.scores import with_notes
from mixnet_tf.files import StrPath
from mixnet_tf.networks import prepare_pixels
from mixnet_tf.progress import silent

# In the order of COCO's summary: precision and recall by overlap, area and number of detections.
COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class DetectionResult(NamedTuple):
    """The result of a detector's evaluation.

    Attributes:
        metrics: Dict of `COCO_METRICS` (floats from 0 to 1; -1 if there are no objects to find), "num_images" and, if
            the split has notes, "notes".
        precision: float (classes, 101), at an IoU of 0.5 and recalls of 0, 0.01, ..., 1, for objects of any size; -1
            for a class without objects.
        average_precision: float (classes,), over IoUs of 0.5 to 0.95; -1 for a class without objects.
    """

    metrics: dict[str, Any]
    precision: np.ndarray
    average_precision: np.ndarray


def build_detection_evaluator(
    model: keras.Model,
    split: Split,
    batch_size: int = 64,
    annotations: StrPath | None = None,
    predict: Callable[[np.ndarray], dict[str, Any]] | None = None,
) -> Callable[..., dict[str, Any]]:
    """Builds a function that measures a detector's average precision on a split; it is compiled once.

    Takes the arguments of `build_detection_measurement`, and raises the same errors.

    Returns:
        A function that takes a `Progress`, or nothing, and returns the `metrics` of a `DetectionResult`.
    """
    measure = build_detection_measurement(model, split, batch_size, annotations, predict)
    return lambda progress=silent: measure(progress).metrics


def build_detection_measurement(
    model: keras.Model,
    split: Split,
    batch_size: int = 64,
    annotations: StrPath | None = None,
    predict: Callable[[np.ndarray], dict[str, Any]] | None = None,
    look: Callable[[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]], None] | None = None,
) -> Callable[..., DetectionResult]:
    """Builds a function that measures a detector on a split; it is compiled once.

    Args:
        model: An `SSDLite`.
        split: A `data.load_objects` split.
        batch_size: Images per step.
        annotations: JSON file of COCO's own annotations of these images, used in place of the split's boxes. It has
            crowds and the areas of segments. Its classes are found by name. None: the split's boxes.
        predict: A function from images to detections, like `detect`, which replaces the model, for example by its
            exported file. None: the model.
        look: Called with each image, its example and its detections, in the form of `object_eval_batches` and `detect`
            without the batch dimension.

    Returns:
        A function that takes a `Progress`, or nothing, and returns a `DetectionResult`. Every image counts once. If
        there are several hosts, each evaluates all images.

    Raises:
        MissingPackageError: If faster-coco-eval is not installed.
        ValueError: If the model's classes are not the split's, or the annotations have other classes or images. The
            function raises it, with file and position, for an image that cannot be decoded or an impossible box.
    """
    require_package("faster_coco_eval", "faster-coco-eval", "Average precision", "detection")
    from faster_coco_eval import COCO, COCOeval_faster

    classes, anchors = classes_of(model), anchors_of(model)
    own, split = split, matched(model, split, classes)
    if annotations is None:
        theirs, categories = None, list(range(1, split.num_classes + 1))
    else:
        theirs = read_annotations(annotations)
        categories = _of_model(split, own, categories_by_name(own, theirs["categories"], annotations))
    size, prepare = model.input_shape[1], prepare_pixels(model)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3))])
    def step(images):
        outputs = model(prepare(images), training=False)
        return suppress(outputs["boxes"], scores_of(outputs["logits"]), anchors)

    def measure(progress=silent):
        images: list[dict] = []
        truth: list[dict] = []
        found: list[np.ndarray] = []
        with naming_corrupt_images(split, progress), progress("Evaluation", split.num_examples, "images") as phase:
            for batch, examples in object_eval_batches(split, size, batch_size):
                found_now = step(batch) if predict is None else predict(batch.numpy())
                detections = {name: np.asarray(value) for name, value in found_now.items()}
                for place in range(len(batch)):
                    example = {name: value[place].numpy() for name, value in examples.items()}
                    image = _image(example, len(images), theirs is not None)
                    truth += _annotations(example, image, categories, len(truth))
                    found_here = {name: value[place] for name, value in detections.items()}
                    found.append(_rows(found_here, image, categories))
                    if look is not None:
                        look(batch[place].numpy(), example, found_here)
                    images.append(image)
                phase.update(len(images))
        ours = {"images": images, "annotations": truth, "categories": [{"id": id} for id in categories]}
        coco = COCO(ours if theirs is None else theirs)
        _check_images(images, coco.imgs, annotations)
        measured = COCOeval_faster(coco, coco.loadRes(np.concatenate(found)), "bbox")
        measured.params.imgIds = [image["id"] for image in images]
        measured.run()
        metrics = {**dict(zip(COCO_METRICS, map(float, measured.stats), strict=False)), "num_images": len(images)}
        return DetectionResult(with_notes(metrics, split.notes), *_by_class(measured, categories))

    return measure


def _of_model(split, own, categories):
    """The category numbers of a model's classes: the dataset's, and new numbers for classes that it lacks."""
    if split.label_names == own.label_names:
        return categories
    by_name = dict(zip(own.label_names, categories, strict=True))
    others = itertools.count(max(categories) + 1)
    return [by_name[name] if name in by_name else next(others) for name in split.label_names]


def _by_class(measured, categories):
    """The precision of each class, for all areas and 100 detections per image."""
    table = np.asarray(measured.eval["precision"])  # (overlaps, recalls, categories, areas, numbers of detections)
    of_category = dict(zip(measured.params.catIds, np.moveaxis(table[:, :, :, 0, -1], 2, 0), strict=True))
    nothing = np.full_like(next(iter(of_category.values())), -1)
    ours = np.stack([of_category.get(category, nothing) for category in categories])
    return ours[:, 0], ours.mean((1, 2))


def _image(example, number, has_id):
    """An image in COCO's format."""
    if has_id and "image_id" not in example:
        raise InputError(
            "annotations: the dataset has no feature image/id, by which its images are found in the annotations."
        )
    height, width = example["shape"][:2].tolist()
    return {"id": int(example["image_id"]) if has_id else number + 1, "height": height, "width": width}


def _annotations(example, image, categories, first):
    """The objects of an image in COCO's format."""
    listed: list[dict] = []
    for (x, y, width, height), label in zip(_in_pixels(example["boxes"], image), example["labels"], strict=True):
        if label >= 0:
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            place = {"id": first + len(listed) + 1, "image_id": image["id"], "category_id": categories[label]}
            listed.append({**place, **box})
    return listed


def _rows(detections, image, categories):
    """(image, x, y, width, height, score, category) of each detection, float64."""
    count = detections["count"]
    boxes = _in_pixels(detections["boxes"][:count], image)
    columns = (
        np.full((count, 1), image["id"]),
        boxes,
        detections["scores"][:count, np.newaxis],
        np.array(categories)[detections["classes"][:count], np.newaxis],
    )
    return np.concatenate(columns, 1).astype(np.float64)


def _in_pixels(boxes, image):
    """COCO's x, y, width and height in pixels of the original image."""
    y0, x0, y1, x1 = (np.float64(boxes) * ([image["height"], image["width"]] * 2)).T
    return np.stack([x0, y0, x1 - x0, y1 - y0], -1)


def _check_images(images, known, path):
    unknown = [image["id"] for image in images if image["id"] not in known]
    if unknown:
        raise InputError(f"annotations: {path} has no images {unknown[:10]}, which are in the split.")
