"""Batch normalization as the reference trains it, on one device or several."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("mixnet_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalization, trained through TensorFlow's fused op or in one pass.

    Each replica normalizes with the moments of its own batch or, if `synchronized`, of the batches of all replicas.
    As in the reference, the moving variance follows the unbiased variance (a factor of N / (N - 1)). The moving
    statistics are averaged over replicas.

    Attributes:
        one_pass: Whether the moments are computed in one pass over the input, see `set_forms`; the result differs by
            rounding.

    Input and output: (batch, height, width, channels).
    """

    one_pass = False

    def add_weight(self, *args: Any, trainable: bool = True, **kwargs: Any) -> Any:
        aggregation = "none" if trainable else "mean"
        return super().add_weight(*args, trainable=trainable, aggregation=aggregation, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        gamma, beta, moving_mean, moving_variance = (
            tf.convert_to_tensor(v) for v in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        follow = 1 - self.momentum
        if training and self.trainable and (self.synchronized or self.one_pass):
            if self.one_pass:
                outputs, mean, variance = _normalized_in_one_pass(
                    inputs, gamma, beta, moving_mean, self.epsilon, self.synchronized
                )
            else:
                outputs, mean, variance = _normalized_over_replicas(inputs, gamma, beta, self.epsilon)
            self.moving_mean.assign((1 - follow) * moving_mean + follow * mean)
            self.moving_variance.assign((1 - follow) * moving_variance + follow * variance)
            return outputs
        fused = tf.compat.v1.nn.fused_batch_norm
        if not (training and self.trainable):
            return fused(inputs, gamma, beta, moving_mean, moving_variance, self.epsilon, is_training=False)[0]
        outputs, moving_mean, moving_variance = fused(
            inputs, gamma, beta, moving_mean, moving_variance, self.epsilon, exponential_avg_factor=follow
        )
        self.moving_mean.assign(moving_mean)
        self.moving_variance.assign(moving_variance)
        return outputs


def _normalized_over_replicas(inputs, gamma, beta, epsilon):
    """(outputs, mean, unbiased variance), like the fused op, but with the moments over all replicas."""
    replicas = tf.distribute.get_replica_context()

    def mean_over_all(values):
        return replicas.all_reduce(tf.distribute.ReduceOp.MEAN, tf.reduce_mean(values, axis=(0, 1, 2)))

    x = tf.cast(inputs, tf.float32)
    mean = mean_over_all(x)
    variance = mean_over_all(tf.square(x - mean))  # a second pass: E[x^2] - mean^2 cancels
    outputs = tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)
    count = _positions(x) * replicas.num_replicas_in_sync
    return tf.cast(outputs, inputs.dtype), mean, variance * count / tf.maximum(count - 1, 1)


def _normalized_in_one_pass(inputs, gamma, beta, shift, epsilon, synchronized):
    """(outputs, mean, unbiased variance), like the fused op, in one pass over the inputs.

    E[x^2] - E[x]^2 cancels digits where the mean is large beside the deviation. So x is the inputs minus `shift`, which
    is near their mean.
    """
    x = tf.cast(inputs, tf.float32) - shift
    mean, square = tf.reduce_mean(x, axis=(0, 1, 2)), tf.reduce_mean(tf.square(x), axis=(0, 1, 2))
    count = _positions(x)
    if synchronized:
        replicas = tf.distribute.get_replica_context()
        mean, square = tf.unstack(replicas.all_reduce(tf.distribute.ReduceOp.MEAN, tf.stack([mean, square])))
        count *= replicas.num_replicas_in_sync
    variance = tf.maximum(square - tf.square(mean), 0)
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    outputs = tf.cast(x * scale + (beta - mean * scale), inputs.dtype)
    return outputs, shift + mean, variance * count / tf.maximum(count - 1, 1)


def _positions(x):
    """How many values a channel has on this replica, float32."""
    return tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
