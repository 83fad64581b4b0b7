"""First pass of the rewrite: turns a Keras model into nodes, and folds batch normalization and activations."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.export import nodes
from mixnet_tf.export.arithmetics import ARITHMETICS, BY_CONVOLUTION, DEPTHWISE, POINTWISE
from mixnet_tf.export.merging import block_diagonal, largest_kernel
from mixnet_tf.export.nodes import SCALES_THROUGH, Convolution, Depthwise, Node
from mixnet_tf.networks import (
    SAME,
    SYMMETRIC,
    BatchNormalization,
    Concatenate,
    Dense,
    GroupedConv2D,
    MixConv,
    Preprocessing,
    SqueezeExcite,
    SymmetricConv2D,
    walk,
)

# Keras activations that act on each channel separately, so that they can be computed before a concatenation.
_ELEMENTWISE = ("relu", "relu6", "silu", "hard_silu", "gelu", "elu", "mish", "linear", "sigmoid", "tanh")


def fold(
    model: keras.Model,
    units: dict[keras.layers.Layer, np.ndarray],
    arithmetic: str,
    splits: bool,
) -> tuple[list[Node], list[Node]]:
    """Builds the nodes of a model's inference graph.

    Args:
        model: A float32 `keras.Model` with one input.
        units: Dict from a batch normalization to the units of its output, (channels,).
        arithmetic: One of `ARITHMETICS`.
        splits: As in `Depthwise`.

    Returns:
        (all nodes, each after its sources; the nodes that are the model's outputs, in units of 1). Some nodes are
        unused: a convolution from before something was folded into it.

    Raises:
        ValueError: If the model uses a layer twice.
    """
    folding = _Folding(units, arithmetic, splits)
    channels = model.input_shape[-1]
    image = folding.add(nodes.Image(sources=(), channels=channels, units=np.ones(channels), scope="image"))
    outputs = [folding.plain(node) for node in walk(model, [image], folding.step)]
    return folding.nodes, outputs


class _Folding:
    def __init__(self, units, arithmetic, splits):
        self._units, self._arithmetic = units, arithmetic
        self._splits, self._merges = splits and ARITHMETICS[arithmetic].splits, ARITHMETICS[arithmetic].merges
        self._scope = ""
        self.nodes = []

    def add(self, node):
        self.nodes.append(node)
        return node

    def step(self, step, inputs):
        """Adds the node of a Keras operation."""
        self._scope = step.name
        first = inputs[0]
        folds = isinstance(first, Convolution) and first.activation is None
        if isinstance(step, GroupedConv2D):
            kernels = [value_of(kernel) for kernel in step.kernels]
            return self._node(
                Convolution, inputs, kernels=[block_diagonal(kernels)] if POINTWISE in self._merges else kernels
            )
        if isinstance(step, keras.layers.Conv2D) and _is_plain(step):
            padding = SYMMETRIC if isinstance(step, SymmetricConv2D) else SAME
            offset = value_of(step.bias) if step.use_bias else 0.0
            kernels = [value_of(step.kernel)]
            return self._node(
                Convolution, inputs, kernels=kernels, stride=step.strides[0], padding=padding, offset=offset
            )
        if isinstance(step, MixConv):
            kernels, rates = [value_of(kernel) for kernel in step.kernels], _rates(step)
            options = {"stride": step.strides[0], "padding": step.padding, "splits": self._splits}
            if DEPTHWISE in self._merges:
                whole = largest_kernel(kernels, rates, step.strides[0], step.input.shape[1], step.padding)
                kernels, rates = [whole], [1]
            return self._node(Depthwise, inputs, kernels=kernels, rates=rates, **options)
        if type(step) is Preprocessing and (normalization := ARITHMETICS[self._arithmetic].normalization) is not None:
            mean, scale = np.array(step.MEAN_RGB), 1 / np.array(step.STDDEV_RGB)
            if normalization != BY_CONVOLUTION:
                return self._node(nodes.Centered, inputs, units=scale, mean=mean)
            kernels, offset = [np.ones((1, 1, len(mean), 1))], -mean * scale
            return self._node(Depthwise, inputs, kernels=kernels, rates=[1], splits=False, scale=scale, offset=offset)
        if isinstance(step, BatchNormalization) and folds:
            return self._normalized(first, step)
        if isinstance(step, keras.layers.Activation) and step.activation.__name__ in _ELEMENTWISE:
            if folds and (first.is_plain or step.activation in SCALES_THROUGH):
                return self._replaced(first, activation=step.activation)
            return self._node(nodes.Elementwise, [self.plain(first)], function=step.activation)
        if isinstance(step, SqueezeExcite):
            return self._squeeze_excite(first, step)
        if type(step) is keras.layers.Add and len({value.channels for value in inputs}) == 1:
            if not all(np.array_equal(value.units, first.units) for value in inputs):
                inputs = [self.plain(value) for value in inputs]
            return self._node(nodes.Sum, inputs, units=inputs[0].units)
        if type(step) is keras.layers.GlobalAveragePooling2D and not step.keepdims:
            return self._node(nodes.Mean, inputs, units=first.units)
        if type(step) in (keras.layers.Dense, Dense) and step.activation is keras.activations.linear and step.use_bias:
            kernel, bias = value_of(step.kernel), value_of(step.bias)
            return self._node(nodes.Dense, inputs, channels=len(bias), kernel=kernel, bias=bias)
        inputs = [self.plain(value) for value in inputs]
        if type(step) in (keras.layers.Concatenate, Concatenate) and _is_along_rows(step):
            return self._node(nodes.Rows, inputs)
        return self._node(nodes.Foreign, inputs, channels=step.output.shape[-1], step=step)

    def plain(self, node):
        """The node in units of 1."""
        return node if node.is_plain else self._node(nodes.InUnitsOfOne, [node], units=np.ones(node.channels))

    def _node(self, kind, sources, channels=None, units=None, **fields):
        if channels is None:
            channels = sources[0].channels
        if issubclass(kind, Convolution):
            channels = sum(kernel.shape[2 if kind is Depthwise else 3] for kernel in fields["kernels"])
            fields["arithmetic"] = self._arithmetic
        units = np.ones(channels) if units is None else units
        return self.add(kind(sources=tuple(sources), channels=channels, units=units, scope=self._scope, **fields))

    def _replaced(self, node, **changes):
        return self.add(dataclasses.replace(node, scope=self._scope, **changes))

    def _normalized(self, node, layer):
        mean, variance, gamma, beta = (
            value_of(value).astype(np.float64)
            for value in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
        )
        scale = gamma / np.sqrt(variance + layer.epsilon)
        units = self._units.get(layer, node.units)
        return self._replaced(node, scale=node.scale * scale, offset=(node.offset - mean) * scale + beta, units=units)

    def _squeeze_excite(self, node, layer):
        return self._node(
            nodes.SqueezeExcite,
            [node],
            units=node.units,
            reduce_kernel=value_of(layer.reduce.kernel),
            reduce_bias=value_of(layer.reduce.bias),
            activation=layer.reduce.activation,
            expand_kernel=value_of(layer.expand.kernel),
            expand_bias=value_of(layer.expand.bias),
        )


def value_of(variable: Any) -> np.ndarray:
    """A variable's value as a numpy array, even while a graph is traced."""
    with tf.init_scope():
        return variable.numpy()


def _rates(layer):
    """The dilation of each group, from the size of its kernel and the number of its taps."""
    taps = [kernel.shape[0] for kernel in layer.kernels]
    return [(size - 1) // (n - 1) if n > 1 else 1 for size, n in zip(layer.kernel_size, taps, strict=True)]


def _is_plain(conv):
    options = (conv.padding, conv.dilation_rate, conv.groups, conv.data_format)
    linear = conv.activation is keras.activations.linear and conv.strides[0] == conv.strides[1]
    return linear and options == ("same", (1, 1), 1, "channels_last")


def _is_along_rows(layer):
    return layer.axis == 1 and len(layer.output.shape) == 3
