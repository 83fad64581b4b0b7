"""The losses of a detector."""

from typing import Any

import tensorflow as tf

from mixnet_tf.recipe import DetectionRecipe
from mixnet_tf.settings import check

_ALPHA, _GAMMA = 0.75, 2.0  # alpha: weight of the positive anchors; gamma: focusing exponent
_check = tf.autograph.experimental.do_not_convert(check)  # AutoGraph would convert its code, too, for a second
_NEGATIVES, _MIN_NEGATIVES = 3, 3  # hard negatives per match, and at least this many per image


def detection_losses(
    logits: Any, codes: Any, slots: Any, targets: Any, classification_loss: str = "focal"
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The sums of the losses over a batch, and the number of matches to divide them by.

    Args:
        logits: float32 (batch, anchors, classes + 1): a detector's "logits".
        codes: float32 (batch, anchors, 4): its "boxes".
        slots: int32 (batch, anchors), from `anchor_targets`.
        targets: float32 (batch, anchors, 4), from `anchor_targets`.
        classification_loss: "focal": the focal loss of all anchors (alpha 0.75, gamma 2). "hard_negatives": sigmoid
            cross-entropy of the matched anchors and, in each image, of the other anchors with the largest losses, three
            for each match and at least three.

    Returns:
        float32 scalars (classification loss, box loss, matches). The box loss is the Huber loss of the matched anchors'
        encoded boxes.

    Raises:
        ValueError: For an unknown classification loss.

    Source: tensorflow/models, object_detection/core/losses.py:SigmoidFocalClassificationLoss,
    WeightedSmoothL1LocalizationLoss, HardExampleMiner, here without its suppression of overlapping boxes.
    """
    _check(DetectionRecipe(classification_loss=classification_loss))
    logits = tf.convert_to_tensor(logits)
    one_hot = tf.one_hot(slots, logits.shape[-1])
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(one_hot, logits)
    is_match = slots > 0
    if classification_loss == "focal":
        probability = tf.sigmoid(logits)
        missed = tf.where(one_hot > 0, 1 - probability, probability)
        weight = tf.where(one_hot > 0, _ALPHA, 1 - _ALPHA)
        classification = tf.reduce_sum(weight * missed**_GAMMA * cross_entropy)
    else:
        of_anchors = tf.reduce_sum(cross_entropy, -1)
        classification = tf.reduce_sum(tf.where(is_match | _hard_negatives(of_anchors, is_match), of_anchors, 0.0))
    difference = tf.abs(tf.convert_to_tensor(codes) - targets)
    huber = tf.where(difference < 1, 0.5 * difference**2, difference - 0.5)
    box = tf.reduce_sum(tf.where(is_match[..., tf.newaxis], huber, 0.0))
    return classification, box, tf.reduce_sum(tf.cast(is_match, tf.float32))


def _hard_negatives(losses, is_match):
    """Selects, in each image, the unmatched anchors with the largest losses."""
    matches = tf.reduce_sum(tf.cast(is_match, tf.int32), 1, keepdims=True)
    wanted = tf.maximum(_NEGATIVES * matches, _MIN_NEGATIVES)
    order = tf.argsort(tf.where(is_match, -1.0, losses), axis=1, direction="DESCENDING", stable=True)
    places = tf.argsort(order, axis=1)  # rank of each anchor in this order
    return (places < wanted) & ~is_match
