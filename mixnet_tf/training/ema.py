"""A second copy of a model whose weights and statistics follow the first as a moving average."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def moving_average_decay(limit: float, num_updates: Any) -> tf.Tensor:
    """The decay after `num_updates` updates: at first smaller, so that the start is forgotten soon.

    Source: tf.compat.v1.train.ExponentialMovingAverage, `num_updates`.
    """
    count = tf.cast(num_updates, tf.float32)
    return tf.minimum(tf.constant(limit, tf.float32), (1 + count) / (10 + count))


def update_moving_average(averages: Sequence[Any], values: Sequence[Any], decay: tf.Tensor) -> None:
    """Moves each of `averages` towards that of `values` by the fraction 1 - decay; whole numbers are copied."""
    fraction = 1 - decay
    for average, value in zip(averages, values, strict=True):
        if tf.as_dtype(average.dtype).is_floating:
            average.assign_sub(fraction * (average - tf.cast(value, average.dtype)))
        else:
            average.assign(value)  # a counter of Keras' Normalization, for one, has no average
