"""The layers that MixNet adds to Keras. All are channels-last."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError, is_count
from mixnet_tf.networks.block_strings import PADDINGS, PARTITIONS, SAME, SYMMETRIC
from mixnet_tf.networks.gradients import activate, bias_add, depthwise_conv2d
from mixnet_tf.networks.merged_kernels import block_diagonal, dense_pieces
from mixnet_tf.networks.paddings import padding_of
from mixnet_tf.networks.widths import split_channels

_PACKAGE = "mixnet_tf"


def conv_kernel_initializer() -> keras.initializers.Initializer:
    """He normal over fan-out, not truncated. Each call returns a new object, so a new seed.

    Source: mixnet/mixnet_model.py:conv_kernel_initializer.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _split(inputs, sizes):
    """Splits `inputs` into channel groups; equal groups by count, for which TFLite emits SPLIT, not SPLIT_V."""
    if len(sizes) == 1:
        return [inputs]
    return tf.split(inputs, len(sizes) if len(set(sizes)) == 1 else sizes, axis=-1)


def _concat(groups):
    return groups[0] if len(groups) == 1 else tf.concat(groups, axis=-1)


def kernel_sizes(kernel_size: int | Sequence[int]) -> list[int]:
    """The kernel sizes of the channel groups as a list of ints.

    Raises:
        ValueError: If they are not odd positive ints.
    """
    sizes = [kernel_size] if is_count(kernel_size) else kernel_size
    if not isinstance(sizes, list | tuple) or not sizes or not all(is_count(k) and k % 2 for k in sizes):
        raise InputError(f"kernel_size: expected odd positive ints, one per channel group; received {kernel_size!r}.")
    return list(map(int, sizes))


def _filters(filters):
    if not is_count(filters):
        raise InputError(f"filters: expected a whole number from 1, received {filters!r}.")
    return int(filters)


@keras.saving.register_keras_serializable(_PACKAGE)
class GroupedConv2D(keras.layers.Layer):
    """Convolution in channel groups, each with its own kernel size; SAME padding, no bias.

    Args:
        filters: Output channels over all groups.
        kernel_size: Odd ints, pixels; one channel group per entry. An int is one group.

    Attributes:
        dense: Whether one convolution computes all groups, see `set_forms`; the result differs by rounding.

    Input: (batch, height, width, channels).
    Output: (batch, height, width, filters).

    Raises:
        ValueError: If a kernel size is even or missing; at build, if there are more groups than input channels or
            filters.

    Source: mixnet/custom_layers.py:GroupedConv2D.
    """

    dense = False

    def __init__(self, filters: int, kernel_size: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = _filters(filters)
        self.kernel_size = kernel_sizes(kernel_size)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple) -> None:
        groups = len(self.kernel_size)
        self._input_sizes = split_channels(input_shape[-1], groups)
        self.kernels = [
            self.add_weight(name=f"kernel_{i}", shape=(k, k, c_in, c_out), initializer=conv_kernel_initializer())
            for i, (k, c_in, c_out) in enumerate(
                zip(self.kernel_size, self._input_sizes, split_channels(self.filters, groups), strict=True)
            )
        ]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.dense:
            return tf.nn.conv2d(inputs, block_diagonal(self.kernels), strides=1, padding="SAME")
        groups = zip(_split(inputs, self._input_sizes), self.kernels, strict=True)
        return _concat([tf.nn.conv2d(x, kernel, strides=1, padding="SAME") for x, kernel in groups])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable(_PACKAGE)
class MixConv(keras.layers.Layer):
    """Depthwise convolution with a different kernel size per channel group; no bias.

    Args:
        kernel_size: Odd ints, pixels; one channel group per entry. An int is one group.
        strides: (rows, columns), pixels, equal; an int is both.
        dilated: Whether, at stride 1, 3x3 kernels with dilation (k - 1) // 2 replace larger kernels.
        partition: How channels are split into groups, "equal" or "exponential"; see `split_channels`.
        padding: "same", or "symmetric": k // 2 pixels on every side.

    Attributes:
        dense: Whether grouped convolutions of eight channels to eight compute all groups, see `set_forms`; the result
            differs by rounding.
        explicit: Whether the gradients of the kernels pad explicitly, see `set_forms`; they differ by rounding.

    Input: (batch, height, width, channels).
    Output: (batch, ceil(height / rows), ceil(width / columns), channels).

    Raises:
        ValueError: If a kernel size is even or missing, the strides differ, a dilated kernel has size 1, or the
            partition or the padding is unknown; at build, if a group would have no channel.

    Source: mixnet/custom_layers.py:MixConv; arXiv:1907.09595, section 3.
    """

    dense = False
    explicit = False

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1),
        dilated: bool = False,
        partition: str = "equal",
        padding: str = SAME,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_sizes(kernel_size)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        both = tuple(strides) if isinstance(strides, list | tuple) else (strides, strides)
        if len(both) != 2 or not all(map(is_count, both)) or both[0] != both[1]:
            raise InputError(f"strides: expected two equal positive ints, as depthwise ops take; received {strides!r}.")
        self.strides = (int(both[0]), int(both[1]))
        if partition not in PARTITIONS:
            raise InputError(f"partition: expected one of {PARTITIONS}, received {partition!r}.")
        self.partition = partition
        if padding not in PADDINGS:
            raise InputError(f"padding: expected one of {PADDINGS}, received {padding!r}.")
        self.padding = padding
        self.dilated = dilated
        if dilated and self.strides == (1, 1):
            if 1 in self.kernel_size:
                raise InputError(f"A dilated MixConv needs kernel sizes from 3; received {kernel_size!r}.")
            self._taps_and_rates = [(3, (k - 1) // 2) for k in self.kernel_size]
        else:
            self._taps_and_rates = [(k, 1) for k in self.kernel_size]

    def build(self, input_shape: tuple) -> None:
        self._sizes = split_channels(input_shape[-1], len(self.kernel_size), self.partition)
        self.kernels = [
            self.add_weight(
                name=f"depthwise_kernel_{i}", shape=(taps, taps, channels, 1), initializer=conv_kernel_initializer()
            )
            for i, ((taps, _), channels) in enumerate(zip(self._taps_and_rates, self._sizes, strict=True))
        ]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # With SAME padding, a kernel smaller than the stride is not in the center of a larger one.
        centered = self.padding == SYMMETRIC or min(self.kernel_size) >= self.strides[0]
        if self.dense and centered and all(rate == 1 for _, rate in self._taps_and_rates):
            return self._in_dense_pieces(inputs)
        paddings = padding_of(self.padding, self.kernel_size, self.strides)
        groups = zip(_split(inputs, self._sizes), self.kernels, self._taps_and_rates, paddings, strict=True)
        convolve = depthwise_conv2d if self.explicit else tf.nn.depthwise_conv2d
        return _concat(
            [
                convolve(x, kernel, (1, *self.strides, 1), padding, dilations=(rate, rate))
                for x, kernel, (_, rate), padding in groups
            ]
        )

    def _in_dense_pieces(self, inputs):
        # By the estimates of a TPU's compiler, a larger kernel for several groups pays where the image is large.
        joins = [None not in inputs.shape[1:3] and 4 * k <= min(inputs.shape[1:3]) for k in self.kernel_size]
        channels, kernels = zip(*dense_pieces(self.kernels, joins), strict=True)
        paddings = padding_of(self.padding, [kernel.shape[0] for kernel in kernels], self.strides)
        pieces = zip(_split(inputs, channels), kernels, paddings, strict=True)
        return _concat([tf.nn.conv2d(x, kernel, self.strides, padding) for x, kernel, padding in pieces])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, *spatial, channels = input_shape
        out = [None if n is None else -(-n // s) for n, s in zip(spatial, self.strides, strict=True)]
        return (batch, *out, channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": list(self.strides),
            "dilated": self.dilated,
            "partition": self.partition,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(_PACKAGE)
class SymmetricConv2D(keras.layers.Conv2D):
    """Keras' convolution with padding by k // 2 pixels on every side, for odd kernels; no bias, no activation.

    Input: (batch, height, width, channels).
    Output: (batch, ceil(height / rows), ceil(width / columns), filters).
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        [padding] = padding_of(SYMMETRIC, self.kernel_size[:1], self.strides)
        return tf.nn.conv2d(inputs, tf.convert_to_tensor(self.kernel), self.strides, padding)


@keras.saving.register_keras_serializable(_PACKAGE)
class Activation(keras.layers.Activation):
    """Keras' activation layer with a faster swish: in training it keeps the slope for the gradient, not the input.

    Input and output: any shape.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return activate(inputs, self.activation, training)


@keras.saving.register_keras_serializable(_PACKAGE)
class SqueezeExcite(keras.layers.Layer):
    """Squeeze-and-excitation: scales channels by a gate that is computed from their spatial means.

    Args:
        filters: Channels between the two convolutions.
        activation: Keras activation between them.

    Input and output: (batch, height, width, channels).

    Raises:
        ValueError: If `filters` is not a whole number from 1.

    Source: mixnet/mixnet_model.py:MixnetBlock._call_se.
    """

    def __init__(self, filters: int, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = _filters(filters)
        self.activation = activation

    def build(self, input_shape: tuple) -> None:
        def conv(filters, activation, name):
            return keras.layers.Conv2D(
                filters,
                1,
                activation=activation,
                kernel_initializer=conv_kernel_initializer(),
                dtype=self.dtype_policy,
                name=name,
            )

        self.reduce = conv(self.filters, self.activation, "reduce")
        self.expand = conv(input_shape[-1], "sigmoid", "expand")
        self.reduce.build((input_shape[0], 1, 1, input_shape[-1]))
        self.expand.build((input_shape[0], 1, 1, self.filters))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.reduce_mean(inputs, axis=(1, 2), keepdims=True)
        add_bias = bias_add if training else tf.nn.bias_add
        for conv in (self.reduce, self.expand):
            x = tf.nn.conv2d(x, conv.kernel, strides=1, padding="SAME")
            x = activate(add_bias(x, tf.convert_to_tensor(conv.bias)), conv.activation, training)
        return inputs * x

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "activation": self.activation}
