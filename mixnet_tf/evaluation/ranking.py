"""Ranks a classifier's classes by one rule for evaluation, reports, single images and export; its cross-entropy."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.networks import gives_probabilities, last_operation

TOP = 5


def top_classes(scores: Any, count: int = TOP) -> tf.Tensor:
    """The classes with the largest scores, largest first; among equal scores the lowest class number first.

    So a constant answer has the accuracy of a single class. Pass the logits of `networks.logits_model` if you have the
    model, because probabilities may underflow to the same 0.

    Args:
        scores: (batch, classes).
        count: Number of classes to return; all classes, if there are fewer.

    Returns:
        int32 (batch, count).
    """
    scores = tf.cast(scores, tf.float32)
    if count == 1:  # the same as top_k, without sorting
        return tf.argmax(scores, axis=-1, output_type=tf.int32)[:, tf.newaxis]
    return tf.math.top_k(scores, min(count, scores.shape[-1])).indices


def is_among(labels: Any, top: Any) -> tf.Tensor:
    """1 for each label that is among its image's classes, else 0.

    Args:
        labels: int (batch,).
        top: int32 (batch, count), from `top_classes`.

    Returns:
        float32 (batch,).
    """
    hits = tf.equal(tf.cast(labels, tf.int32)[:, tf.newaxis], top)
    return tf.cast(tf.reduce_any(hits, axis=-1), tf.float32)


def build_cross_entropy(ranked: keras.Model) -> Callable[[Any, Any], tf.Tensor]:
    """Builds a function that computes the cross-entropy of a classifier, without label smoothing.

    Args:
        ranked: The classifier as `networks.logits_model` returns it. If it still ends in probabilities, their
            logarithms are used in place of logits.

    Returns:
        A function (labels, int (batch,); outputs of `ranked`, (batch, classes)) -> float32 (batch,), nats.
    """
    ends_in_probabilities = gives_probabilities(last_operation(ranked))

    def cross_entropy(labels, outputs):
        outputs = tf.cast(outputs, tf.float32)
        logits = tf.math.log(outputs) if ends_in_probabilities else outputs
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    return cross_entropy
