"""Matches anchors with objects: which object each anchor has to find."""

from typing import Any

import tensorflow as tf

from mixnet_tf.detection.boxes import encode, iou

_IOU_THRESHOLD = 0.5  # IoU from which an anchor is matched with an object


def anchor_targets(boxes: Any, labels: Any, anchors: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The training targets of every anchor in a batch.

    An anchor is matched with the object of largest IoU, if the IoU is at least 0.5. In addition, the best anchor of an
    object is always matched with this object; if it is the best anchor of several, with the first of them.

    Args:
        boxes: float32 (batch, objects, 4): y0, x0, y1, x1 as fractions of the image; the padding may hold anything.
        labels: int32 (batch, objects): classes from 0, and -1 for padding.
        anchors: float32 (anchors, 4).

    Returns:
        (slots, targets): int32 (batch, anchors), the class plus 1, and 0 for background; float32 (batch, anchors, 4),
        the encoded box of the object, and 0 for background.

    Source: tensorflow/models, object_detection/matchers/argmax_matcher.py:ArgMaxMatcher, thresholds of 0.5 and
    force_match_for_each_row.
    """
    boxes, labels, anchors = tf.convert_to_tensor(boxes), tf.convert_to_tensor(labels), tf.convert_to_tensor(anchors)
    is_object = labels >= 0
    overlaps = tf.where(is_object[..., tf.newaxis], iou(boxes, anchors), -1.0)  # (batch, objects, anchors)
    found = tf.argmax(overlaps, 1, tf.int32)  # (batch, anchors)
    is_found = tf.reduce_max(overlaps, 1) >= _IOU_THRESHOLD

    best = tf.one_hot(tf.argmax(overlaps, 2), tf.shape(anchors)[0], on_value=True, off_value=False)
    best &= is_object[..., tf.newaxis]
    forced = tf.argmax(tf.cast(best, tf.int32), 1, tf.int32)  # the first object that has this anchor as its best
    is_forced = tf.reduce_any(best, 1)

    found = tf.where(is_forced, forced, found)
    is_found |= is_forced
    slots = tf.where(is_found, tf.gather(labels, found, batch_dims=1) + 1, 0)
    own = tf.where(is_found[..., tf.newaxis], tf.gather(boxes, found, batch_dims=1), anchors)
    return slots, encode(own, anchors)
