"""The exponential moving average (EMA) of a model's weights and statistics, in a copy of the model."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def moving_average_decay(limit: float, num_updates: Any) -> tf.Tensor:
    """The decay after `num_updates` updates; it is smaller at first, so that the initial weights are soon forgotten.

    Source: tf.compat.v1.train.ExponentialMovingAverage, `num_updates`.
    """
    count = tf.cast(num_updates, tf.float32)
    return tf.minimum(tf.constant(limit, tf.float32), (1 + count) / (10 + count))


def update_moving_average(averages: Sequence[Any], values: Sequence[Any], decay: tf.Tensor) -> None:
    """Moves each of `averages` towards its value by the fraction 1 - decay; integers are copied."""
    fraction = 1 - decay
    for average, value in zip(averages, values, strict=True):
        if tf.as_dtype(average.dtype).is_floating:
            average.assign_sub(fraction * (average - tf.cast(value, average.dtype)))
        else:
            average.assign(value)  # for example a counter of Keras' Normalization
