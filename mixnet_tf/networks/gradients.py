"""Functions with custom gradients, for the speed of a training step and for results bit-equal to the reference."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.networks.paddings import same_padding


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


def depthwise_conv2d(
    x: tf.Tensor, kernel: Any, strides: Sequence[int], padding: Any, dilations: Sequence[int] = (1, 1)
) -> tf.Tensor:
    """`tf.nn.depthwise_conv2d` whose gradient of the kernel pads explicitly.

    oneDNN leaves an op with explicit padding to TensorFlow's own, which takes a sixth to three quarters of the time
    (docs/PERFORMANCE.md). The gradient is the usual one with other padding, dilation, or images of unknown size.
    """
    kernel = tf.convert_to_tensor(kernel)
    if padding != "SAME" or tuple(dilations) != (1, 1) or None in x.shape[1:3]:
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=dilations)
    sides = [
        pixels
        for size, extent, stride in zip(x.shape[1:3], kernel.shape[:2], strides[1:3], strict=True)
        for pixels in same_padding(size, extent, stride)
    ]

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            of_x = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=strides, padding="SAME"
            )
            of_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x,
                filter_sizes=kernel.shape,
                out_backprop=upstream,
                strides=strides,
                padding="EXPLICIT",
                explicit_paddings=[0, 0, *sides, 0, 0],
            )
            return of_x, of_kernel

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return convolve(x, kernel)


def activate(inputs: tf.Tensor, activation: Callable, training: bool) -> tf.Tensor:
    """Applies a Keras activation to `inputs`; in training, swish has the gradient above.

    In inference no function has a custom gradient, because a SavedModel would store it; `tf.nn.silu` has one, too.
    """
    if activation is keras.activations.silu:
        return _swish(inputs) if training else inputs * tf.sigmoid(inputs)
    return activation(inputs)
