"""A block of a supernet: the weights of its largest form, masked by a choice."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.networks import (
    Activation,
    BatchNormalization,
    GlobalParams,
    conv_kernel_initializer,
    padding_of,
    split_channels,
)
from mixnet_tf.search.masks import BlockOptions, Masks, Tables


class SearchableBlock(keras.layers.Layer):
    """A block of a supernet: the weights of its largest form, of which a choice uses a part.

    Args:
        options: `BlockOptions`.
        params: The `GlobalParams` of the space.

    Input: [(batch, height, width, input filters), int32 (1, alternatives)].
    Output: (batch, ceil(height / rows), ceil(width / columns), output filters).
    """

    def __init__(self, options: BlockOptions, params: GlobalParams, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options, self.params = options, params
        self._tables = Tables(options, params)

        def normalization(name):
            momentum, epsilon = params.batch_norm_momentum, params.batch_norm_epsilon
            return BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)

        block = options.block
        self._activation = Activation(params.activation if block.swish else params.default_activation)
        self._project_activation = None if params.project_activation is None else Activation(params.project_activation)
        self._expand_bn = normalization("expand_bn") if block.expand_ratio > 1 else None
        self._mixconv_bn, self._project_bn = normalization("mixconv_bn"), normalization("project_bn")

    def build(self, input_shape: list) -> None:
        block, runs = self.options.block, self._tables.runs
        channels, inputs, outputs = block.expanded_filters, block.input_filters, block.output_filters

        def kernel(name, *shape):
            return self.add_weight(name=name, shape=shape, initializer=conv_kernel_initializer())

        if self._expand_bn is not None:
            self._expand_kernel = kernel("expand_kernel", 1, 1, inputs, channels)
            self._expand_bn.build((None, None, None, channels))
        self._depthwise_kernels = [
            kernel(f"depthwise_kernel_{number}", taps, taps, end - start, 1)
            for number, (start, end, taps) in enumerate(runs)
        ]
        self._mixconv_bn.build((None, None, None, channels))
        if block.se_filters is not None:
            self._reduce_kernel = kernel("reduce_kernel", 1, 1, channels, block.se_filters)
            self._reduce_bias = self.add_weight(name="reduce_bias", shape=(block.se_filters,), initializer="zeros")
            self._gate_kernel = kernel("gate_kernel", 1, 1, block.se_filters, channels)
            self._gate_bias = self.add_weight(name="gate_bias", shape=(channels,), initializer="zeros")
        self._project_kernel = kernel("project_kernel", 1, 1, channels, outputs)
        self._project_bn.build((None, None, None, outputs))

    def call(self, inputs: list, training: bool = False) -> tf.Tensor:
        x, choice = inputs
        start = x
        masks = Masks(self.options, self._tables, choice[0], self.compute_dtype)
        expand, depthwise, project = self._masked_kernels(masks)
        if self._expand_bn is not None:
            x = self._activation(
                self._expand_bn(tf.nn.conv2d(x, expand, 1, "SAME"), training=training), training=training
            )
        strides, runs = self.options.block.strides, self._tables.runs
        paddings = padding_of(self.params.padding, [taps for *_, taps in runs], strides)
        convolved = [
            tf.nn.depthwise_conv2d(x[..., first:end], kernel, (1, *strides, 1), padding)
            for (first, end, _), kernel, padding in zip(runs, depthwise, paddings, strict=True)
        ]
        x = convolved[0] if len(convolved) == 1 else tf.concat(convolved, -1)
        x = self._activation(self._mixconv_bn(x, training=training), training=training)
        if self.options.block.se_filters is not None:
            x *= self._gate(x, masks, training)
        x = self._project_bn(tf.nn.conv2d(x, project, 1, "SAME"), training=training)
        if self._project_activation is not None:
            x = self._project_activation(x, training=training)
        if self.options.block.has_residual:
            x += start
        return tf.where(masks.is_in(), x, start) if "num_repeat" in self.options.places and self.options.repeat else x

    def _masked_kernels(self, masks):
        """The kernels (expand, or None; depthwise, by run; project), masked with zeros outside the choice."""
        expand = None
        if self._expand_bn is not None:
            expand = tf.convert_to_tensor(self._expand_kernel) * masks.expand_mask()
        depthwise = [
            tf.convert_to_tensor(kernel) * masks.depthwise_mask(first, end, taps)
            for (first, end, taps), kernel in zip(self._tables.runs, self._depthwise_kernels, strict=True)
        ]
        return expand, depthwise, tf.convert_to_tensor(self._project_kernel) * masks.project_mask()

    def l2(self, choice: tf.Tensor) -> tf.Tensor:
        """Half the sum of squares of the weights that a choice uses, without those of batch normalization.

        Args:
            choice: int32 (alternatives,).

        Returns:
            float32 scalar; 0 if the network does not have the block.
        """
        masks = Masks(self.options, self._tables, choice, "float32")
        expand, depthwise, project = self._masked_kernels(masks)
        total = tf.add_n([tf.nn.l2_loss(kernel) for kernel in (expand, *depthwise, project) if kernel is not None])
        if self.options.block.se_filters is not None:
            kept, hidden = masks.kept(), masks.hidden_mask()
            taken = (
                self._reduce_kernel * kept[:, tf.newaxis] * hidden,
                self._reduce_bias * hidden,
                self._gate_kernel * hidden[:, tf.newaxis] * kept,
                self._gate_bias * kept,
            )
            gate = tf.add_n([tf.nn.l2_loss(weight) for weight in taken])
            total += tf.where(masks.has_gate(), gate, 0.0)
        return tf.where(masks.is_in(), total, 0.0)

    def normalizations(self) -> list[BatchNormalization]:
        """The block's batch normalization layers."""
        found = (self._expand_bn, self._mixconv_bn, self._project_bn)
        return [layer for layer in found if layer is not None]

    def _gate(self, x, masks, training):
        """The factors of squeeze-and-excitation for each channel; 1 without it."""
        means = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        reduce_kernel = tf.convert_to_tensor(self._reduce_kernel) * masks.kept()[:, tf.newaxis]
        hidden = tf.nn.bias_add(tf.nn.conv2d(means, reduce_kernel, 1, "SAME"), tf.convert_to_tensor(self._reduce_bias))
        hidden = self._activation(hidden, training=training) * masks.hidden_mask()
        gate = tf.nn.conv2d(hidden, tf.convert_to_tensor(self._gate_kernel), 1, "SAME")
        gate = tf.sigmoid(tf.nn.bias_add(gate, tf.convert_to_tensor(self._gate_bias)))
        return tf.where(masks.has_gate(), gate, tf.ones_like(gate))

    def is_in(self, choice: Sequence[int]) -> bool:
        """Whether the network of a choice has this block."""
        return self.options.repeat < self._value(choice, "num_repeat")

    def extracted(self, choice: Sequence[int]) -> dict[str, list[np.ndarray]]:
        """Extracts the block's weights in the network of a choice.

        Returns:
            Dict from a layer's role, such as "mixconv", to its weights in Keras' order.
        """
        place = {field: choice[at] for field, at in self.options.places.items()}
        e = place.get("expand_ratio", 0)
        kept = self._tables.kept[e]
        found = {}
        if self._expand_bn is not None:
            kernel = np.array(self._expand_kernel)[..., kept]
            groups = len(self._value(choice, "expand_ksize"))
            found["expand_conv"] = _grouped(kernel, groups)
            found["expand_bn"] = [np.array(weight)[kept] for weight in self._expand_bn.weights]
        found["mixconv"] = self._depthwise(self._value(choice, "dw_ksize"), kept)
        found["mixconv_bn"] = [np.array(weight)[kept] for weight in self._mixconv_bn.weights]
        ratio = self._value(choice, "se_ratio")
        if ratio is not None:
            hidden = self.options.block._replace(se_ratio=ratio).se_filters
            found["se"] = [
                np.array(self._reduce_kernel)[:, :, kept, :hidden],
                np.array(self._reduce_bias)[:hidden],
                np.array(self._gate_kernel)[:, :, :hidden][..., kept],
                np.array(self._gate_bias)[kept],
            ]
        kernel = np.array(self._project_kernel)[:, :, kept]
        found["project_conv"] = _grouped(kernel, len(self._value(choice, "project_ksize")))
        found["project_bn"] = [np.array(weight) for weight in self._project_bn.weights]
        return found

    def _depthwise(self, kernel_sizes, kept):
        """The kernels of each group: the centers of its channels' kernels."""
        by_channel: dict[int, tuple[int, np.ndarray]] = {}
        for (first, _, taps), kernel in zip(self._tables.runs, self._depthwise_kernels, strict=True):
            by_channel |= {first + at: (taps, values) for at, values in enumerate(np.moveaxis(np.array(kernel), 2, 0))}
        channels, start, found = np.flatnonzero(kept), 0, []
        sizes = split_channels(len(channels), len(kernel_sizes), self.params.partition)
        for size, count in zip(kernel_sizes, sizes, strict=True):
            crops = []
            for channel in channels[start : start + count]:
                taps, kernel = by_channel[channel]
                border = (taps - size) // 2
                crops.append(kernel[border : taps - border, border : taps - border])
            found.append(np.stack(crops, 2))
            start += count
        return found

    def _value(self, choice, field):
        place = self.options.places.get(field)
        return self.options.values[field][0 if place is None else choice[place]]


def _grouped(kernel, groups):
    """The diagonal blocks of a 1x1 convolution's kernel, (1, 1, inputs, outputs)."""
    ends = [np.cumsum([0, *split_channels(size, groups)]) for size in kernel.shape[2:]]
    return [
        kernel[:, :, ends[0][group] : ends[0][group + 1], ends[1][group] : ends[1][group + 1]]
        for group in range(groups)
    ]
