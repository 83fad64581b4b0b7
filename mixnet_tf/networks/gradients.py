"""Functions with custom gradients, for the speed of a training step and for results bit-equal to the reference."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


@tf.custom_gradient
def _swish(x):
    """Swish. For the gradient it keeps its slope, where `tf.nn.silu` keeps `x`: this saves one sigmoid."""
    gate = tf.sigmoid(x)
    slope = gate * (1 + x * (1 - gate))
    return x * gate, lambda upstream: upstream * _slope_of_swish(x, slope)


@tf.custom_gradient
def _slope_of_swish(x, slope):
    """Returns `slope`, and can be differentiated again."""

    def gradient(upstream):
        gate = tf.sigmoid(x)
        return upstream * gate * (1 - gate) * (2 + x * (1 - 2 * gate)), None

    return tf.identity(slope), gradient


@tf.custom_gradient
def bias_add(x: tf.Tensor, bias: tf.Tensor) -> Any:
    """`tf.nn.bias_add` with a reshape before its gradient.

    oneDNN would merge the plain op's gradient with the convolution's, which changes the last bits.
    """

    def gradient(upstream):
        return upstream, tf.raw_ops.BiasAddGrad(out_backprop=tf.reshape(upstream, (-1, upstream.shape[-1])))

    return tf.nn.bias_add(x, bias), gradient


def activate(inputs: tf.Tensor, activation: Callable, training: bool) -> tf.Tensor:
    """Applies a Keras activation to `inputs`; in training, swish has the gradient above.

    In inference no function has a custom gradient, because a SavedModel would store it; `tf.nn.silu` has one, too.
    """
    if activation is keras.activations.silu:
        return _swish(inputs) if training else inputs * tf.sigmoid(inputs)
    return activation(inputs)
