"""MixNet's layers on `Maps`: what later layers can be folded into is emitted only when it is read."""

import bisect
import functools
import itertools

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.export.kernels import depthwise_conv2d
from mixnet_tf.export.maps import Maps, concat, edges_of

# Activations that can be computed in any positive units: ReLU as it is, swish with its sigmoid in units of 1.
_SCALES_THROUGH = (keras.activations.relu, keras.activations.silu)


class Convolution(Maps):
    """A convolution in channel groups that later layers may still be folded into; emitted when it is read."""

    def __init__(self, source, kernels, stride=1, *, scale=1.0, offset=0.0, activation=None, units=None):
        self._source, self._kernels, self._stride = source, kernels, stride
        self._scale, self._offset, self._activation = scale, offset, activation
        super().__init__(sum(self._widths()), self._emit_groups, units)

    def _widths(self):
        return [kernel.shape[-1] for kernel in self._kernels]

    def _replaced(self, **changes):
        return type(self)(self._source, self._kernels, self._stride, **{**self._folded(), **changes})

    def _folded(self):
        names = ("scale", "offset", "activation")
        return {name: getattr(self, f"_{name}") for name in names} | {"units": self.units}

    @property
    def takes_more(self):
        """Whether no activation follows yet."""
        return self._activation is None

    def normalized(self, layer):
        """With a batch normalization folded in."""
        mean, variance, gamma, beta = (
            value_of(value).astype(np.float64)
            for value in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
        )
        scale = gamma / np.sqrt(variance + layer.epsilon)
        return self._replaced(scale=self._scale * scale, offset=(self._offset - mean) * scale + beta)

    def in_units(self, units):
        """Computed in other units, an array of one per channel; None: as it is."""
        return self if units is None else self._replaced(units=units)

    def activated(self, function):
        """With an elementwise activation behind it."""
        if self.is_plain or function in _SCALES_THROUGH:
            return self._replaced(activation=function)
        return elementwise(function, self)

    def _emit_groups(self, edges):
        own = edges_of(self._widths())
        taken = edges_of([kernel.shape[2] for kernel in self._kernels])
        inputs = self._source.groups(taken)
        tensors = []
        for start, end in itertools.pairwise(sorted({*own, *edges})):
            group = bisect.bisect_right(own, start) - 1
            kernel = self._kernels[group][..., start - own[group] : end - own[group]]
            kernel = kernel * self._source.units[taken[group] : taken[group + 1], None] * self._factors(start, end)
            strides = (self._stride, self._stride)
            tensor = tf.nn.conv2d(inputs[group], kernel.astype(np.float32), strides, "SAME")
            tensors.append(self._finished(tensor + self._bias(start, end), start, end))
        return tensors

    def _factors(self, start, end):
        return (np.broadcast_to(self._scale, (self.channels,)) / self.units)[start:end]

    def _bias(self, start, end):
        return (np.broadcast_to(self._offset, (self.channels,)) / self.units)[start:end].astype(np.float32)

    def _finished(self, tensor, start, end):
        if self._activation is keras.activations.silu and not self.is_plain:
            # As a convolution of one tap: in int8 it has a scale per channel, where a vector has one for all.
            units = self.units[start:end].astype(np.float32).reshape(1, 1, -1, 1)
            return tensor * tf.sigmoid(tf.nn.depthwise_conv2d(tensor, units, (1, 1, 1, 1), "SAME"))
        return tensor if self._activation is None else _activate(self._activation, tensor)


class Depthwise(Convolution):
    """The same for a depthwise convolution: its pieces are those of its input and of its groups."""

    def __init__(self, source, kernels, stride, rates, arithmetic, **folded):
        self._rates, self._arithmetic = rates, arithmetic
        super().__init__(source, kernels, stride, **folded)

    def _widths(self):
        return [kernel.shape[2] for kernel in self._kernels]

    def _replaced(self, **changes):
        given = (self._source, self._kernels, self._stride, self._rates, self._arithmetic)
        return Depthwise(*given, **{**self._folded(), **changes})

    def _emit_groups(self, edges):
        own = edges_of(self._widths())
        tensors = []
        inputs = self._source.pieces({*own, *edges})
        for x, (start, end) in zip(inputs, itertools.pairwise(self._source.edges), strict=True):
            group = bisect.bisect_right(own, start) - 1
            kernel = self._kernels[group][:, :, start - own[group] : end - own[group]]
            factors = self._source.units[start:end] * self._factors(start, end)
            kernel = (kernel * factors[:, None]).astype(np.float32)
            bias = self._bias(start, end)
            tensor = depthwise_conv2d(x, kernel, self._stride, self._rates[group], bias, self._arithmetic)
            tensors.append(self._finished(tensor, start, end))
        return tensors


def _activate(function, tensor):
    # TensorFlow's swish has a gradient of its own, which a SavedModel would hold.
    return tensor * tf.sigmoid(tensor) if function is keras.activations.silu else function(tensor)


def elementwise(function, value):
    """An elementwise function of the pieces."""
    value = value.plain()
    return Maps(value.channels, lambda edges: [_activate(function, tensor) for tensor in value.pieces(edges)])


def squeeze_excite(layer, value):
    """The gate is computed from all channels and applied to the pieces."""
    reduce, expand = layer.reduce, layer.expand
    kernel = (value_of(reduce.kernel) * value.units[:, None]).astype(np.float32)

    def emit(edges):
        pieces = value.pieces(edges)
        means = concat([tf.reduce_mean(tensor, (1, 2), keepdims=True) for tensor in pieces])
        squeezed = _activate(reduce.activation, tf.nn.conv2d(means, kernel, 1, "SAME") + value_of(reduce.bias))
        gated = []
        for tensor, (start, end) in zip(pieces, itertools.pairwise(value.edges), strict=True):
            gate = tf.nn.conv2d(squeezed, value_of(expand.kernel)[..., start:end], 1, "SAME")
            gated.append(tensor * tf.sigmoid(gate + value_of(expand.bias)[start:end]))
        return gated

    return Maps(value.channels, emit, value.units)


def add(values):
    """A sum in the pieces of the value that is there already, the block's input."""
    units = values[0].units
    if not all(np.array_equal(value.units, units) for value in values):
        values = [value.plain() for value in values]
        units = None

    def emit(edges):
        there = next((value for value in values if value.is_emitted), values[0])
        edges = sorted({*edges, *there.edges})
        return [functools.reduce(tf.add, tensors) for tensors in zip(*(v.groups(edges) for v in values), strict=True)]

    return Maps(values[0].channels, emit, units)


def pool(value):
    """The mean over space."""
    return Maps(
        value.channels, lambda edges: [tf.reduce_mean(tensor, (1, 2)) for tensor in value.pieces(edges)], value.units
    )


def dense(layer, value):
    """A fully connected layer."""
    kernel = (value_of(layer.kernel) * value.units[:, None]).astype(np.float32)
    return Maps.of(tf.linalg.matmul(value.whole(), kernel) + value_of(layer.bias))


def value_of(variable):
    """A variable's value as numpy, also while a graph is traced."""
    with tf.init_scope():
        return variable.numpy()
