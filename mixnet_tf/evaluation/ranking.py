"""Which classes a classifier ranks first: one rule for its evaluation, its report, single images and its export."""

from typing import Any

import tensorflow as tf

TOP = 5


def top_classes(scores: Any, count: int = TOP) -> tf.Tensor:
    """The classes of the largest scores, the largest first; of equal ones that of the lowest number.

    So a constant answer is right as often as one class is the true one. The scores are to be those of
    `networks.logits_model` where the model is at hand: probabilities may underflow to the same 0.

    Args:
        scores: (batch, classes).
        count: How many; all classes, if there are fewer.

    Returns:
        int32 (batch, count).
    """
    scores = tf.cast(scores, tf.float32)
    if count == 1:  # the same, without sorting
        return tf.argmax(scores, axis=-1, output_type=tf.int32)[:, tf.newaxis]
    return tf.math.top_k(scores, min(count, scores.shape[-1])).indices


def is_among(labels: Any, top: Any) -> tf.Tensor:
    """Whether each label is one of its image's classes, 1 or 0.

    Args:
        labels: int (batch,).
        top: int32 (batch, count), of `top_classes`.

    Returns:
        float32 (batch,).
    """
    hits = tf.equal(tf.cast(labels, tf.int32)[:, tf.newaxis], top)
    return tf.cast(tf.reduce_any(hits, axis=-1), tf.float32)
