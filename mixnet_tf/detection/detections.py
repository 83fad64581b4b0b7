"""Detections from a detector's outputs: decoding and non-maximum suppression."""

from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.detection.boxes import decode
from mixnet_tf.detection.ssdlite import anchors_of
from mixnet_tf.errors import InputError
from mixnet_tf.networks import prepare_pixels

MAX_DETECTIONS = 100  # detections per class, and per image
IOU_THRESHOLD = 0.6  # IoU above which the less probable of two boxes of a class is suppressed
SCORE_THRESHOLD = 1e-8  # for COCO's metrics, which rank the improbable detections, too


def detect(
    model: keras.Model, images: Any, score_threshold: float = SCORE_THRESHOLD, iou_threshold: float = IOU_THRESHOLD
) -> dict[str, tf.Tensor]:
    """Finds the objects in images.

    Args:
        model: An `SSDLite`.
        images: (batch, height, width, 3), RGB from 0 to 255, of the model's image size. They are normalized here if
            the model does not normalize its input.
        score_threshold: Detections with a lower score are left out.
        iou_threshold: Of two boxes of a class that overlap by more, the less probable one is suppressed.

    Returns:
        A dict of float32 "boxes" (batch, 100, 4): y0, x0, y1, x1 as fractions of the image; float32 "scores"
        (batch, 100); int32 "classes" (batch, 100) from 0; and int32 "count" (batch,): how many of the 100 are
        detections, the most probable first.

    Raises:
        ValueError: If the model is not an SSDLite of mixnet_tf, if the images have another size, or if a threshold is
            not from 0 to 1.

    Example:
        >>> import mixnet_tf
        >>> import numpy as np
        >>> model = mixnet_tf.SSDLite("mixnet-s", classes=10, input_shape=(128, 128, 3))
        >>> found = mixnet_tf.detect(model, np.zeros((2, 128, 128, 3), "float32"))
        >>> found["boxes"].shape
        TensorShape([2, 100, 4])
    """
    anchors = anchors_of(model)
    images = tf.convert_to_tensor(images)
    size = model.input_shape[1]
    if images.shape[1:] != (size, size, 3):
        raise InputError(f"images: expected (batch, {size}, {size}, 3), received {tuple(images.shape)}.")
    for name, value in (("score_threshold", score_threshold), ("iou_threshold", iou_threshold)):
        if not 0 <= value <= 1:
            raise InputError(f"{name}: expected a number from 0 to 1, received {value!r}.")
    outputs = model(prepare_pixels(model)(images), training=False)
    return suppress(outputs["boxes"], scores_of(outputs["logits"]), anchors, score_threshold, iou_threshold)


def scores_of(logits: Any) -> tf.Tensor:
    """The probability of each class, (..., classes), from a detector's logits; the background is left out."""
    return tf.sigmoid(logits)[..., 1:]


def suppress(
    codes: Any,
    scores: Any,
    anchors: Any,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = IOU_THRESHOLD,
) -> dict[str, tf.Tensor]:
    """Decodes a detector's outputs and suppresses overlapping boxes of the same class (non-maximum suppression).

    Args:
        codes: float32 (batch, anchors, 4).
        scores: float32 (batch, anchors, classes), from `scores_of`.
        anchors: float32 (anchors, 4).
        score_threshold: Detections with a lower score are left out.
        iou_threshold: Of two boxes of a class that overlap by more, the less probable one is suppressed.

    Returns:
        A dict like that of `detect`.
    """
    return suppress_boxes(decode(codes, anchors), scores, score_threshold, iou_threshold)


def suppress_boxes(
    boxes: Any, scores: Any, score_threshold: float = SCORE_THRESHOLD, iou_threshold: float = IOU_THRESHOLD
) -> dict[str, tf.Tensor]:
    """Suppresses overlapping boxes of the same class, and clips the others to the image.

    Args:
        boxes: float32 (batch, anchors, 4), as `decode` gives them.
        scores: float32 (batch, anchors, classes).
        score_threshold: Detections with a lower score are left out.
        iou_threshold: Of two boxes of a class that overlap by more, the less probable one is suppressed.

    Returns:
        A dict like that of `detect`.
    """
    boxes, scores, classes, count = tf.image.combined_non_max_suppression(
        boxes[:, :, tf.newaxis],
        scores,
        max_output_size_per_class=MAX_DETECTIONS,
        max_total_size=MAX_DETECTIONS,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
    )
    return {"boxes": boxes, "scores": scores, "classes": tf.cast(classes, tf.int32), "count": count}
