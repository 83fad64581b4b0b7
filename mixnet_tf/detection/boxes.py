"""Boxes as fractions of an image (y0, x0, y1, x1): their overlap, and their encoding relative to anchors."""

from typing import Any

import tensorflow as tf

CODE_SCALES = (10.0, 10.0, 5.0, 5.0)  # scales of the center's y and x, and of height and width


def iou(boxes: Any, others: Any) -> tf.Tensor:
    """Intersection over union (IoU) of every box with every other.

    Args:
        boxes: float32 (..., n, 4).
        others: float32 (..., m, 4).

    Returns:
        float32 (..., n, m); 0 if both boxes have no area.
    """
    boxes, others = (
        tf.convert_to_tensor(boxes)[..., :, tf.newaxis, :],
        tf.convert_to_tensor(others)[..., tf.newaxis, :, :],
    )
    low = tf.maximum(boxes[..., :2], others[..., :2])
    high = tf.minimum(boxes[..., 2:], others[..., 2:])
    intersection = tf.reduce_prod(tf.maximum(high - low, 0.0), -1)
    areas = [tf.reduce_prod(tf.maximum(each[..., 2:] - each[..., :2], 0.0), -1) for each in (boxes, others)]
    return tf.math.divide_no_nan(intersection, areas[0] + areas[1] - intersection)


def encode(boxes: Any, anchors: Any) -> tf.Tensor:
    """Encodes boxes relative to anchors, as a detector outputs them.

    Args:
        boxes: float32 (..., 4), with positive height and width.
        anchors: float32, with a shape that broadcasts with `boxes`.

    Returns:
        float32 (..., 4): the shift of the center, in heights and widths of the anchor, times 10; and the logarithms of
        height and width over the anchor's, times 5.

    Source: tensorflow/models, object_detection/box_coders/faster_rcnn_box_coder.py:FasterRcnnBoxCoder.
    """
    center, size = _center_and_size(boxes)
    anchor_center, anchor_size = _center_and_size(anchors)
    return tf.concat([(center - anchor_center) / anchor_size, tf.math.log(size / anchor_size)], -1) * CODE_SCALES


def decode(codes: Any, anchors: Any) -> tf.Tensor:
    """Decodes boxes; the inverse of `encode`."""
    shift, factor = tf.split(tf.convert_to_tensor(codes) / CODE_SCALES, 2, axis=-1)
    anchor_center, anchor_size = _center_and_size(anchors)
    center, half = shift * anchor_size + anchor_center, tf.exp(factor) * anchor_size / 2
    return tf.concat([center - half, center + half], -1)


def _center_and_size(boxes):
    low, high = tf.split(tf.convert_to_tensor(boxes), 2, axis=-1)
    return (low + high) / 2, high - low
