"""The nodes of the inference graph. Each kind of node knows the edges of its sources, and emits its ops.

An edge is a channel at which a tensor is cut in two. A node may be emitted with more edges than its reader needs, never
with fewer.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.export.arithmetics import ARITHMETICS
from mixnet_tf.export.kernels import depthwise_conv2d, differs, pad_symmetrically
from mixnet_tf.export.pieces import Pieces, concat, edges_of
from mixnet_tf.networks import SAME, call

# Activations that can be computed in any positive units; swish computes its sigmoid in units of 1.
SCALES_THROUGH = (keras.activations.relu, keras.activations.silu)
_OUTPUTS_AT_ONCE = 8  # outputs that XNNPACK computes at once, see `Arithmetic.pads_outputs`
_MAX_PADDED = 1 / 8  # largest fraction of outputs to add; beyond it small cores lose (docs/PERFORMANCE.md)
Edges = frozenset[int]
_NONE: Edges = frozenset()


@dataclasses.dataclass(eq=False, kw_only=True)
class Node:
    """A tensor of the inference graph, (batch, ..., channels)."""

    sources: tuple["Node", ...]
    channels: int
    units: np.ndarray  # (channels,): value of a 1 in each channel; 1, except of images or where a format has units
    scope: str  # name of the ops, by which the quantizer selects them

    @property
    def is_plain(self) -> bool:
        """Whether every unit is 1."""
        return bool(np.all(self.units == 1))

    @property
    def own_edges(self) -> Edges:
        """The edges that the node has in any case."""
        return _NONE

    def wants(self, wanted: Edges) -> list[Edges]:
        """The edges to emit each source with, if the node's own reader wants `wanted`."""
        return [wanted for _ in self.sources]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        """Emits the node from the tensors of its sources: tensors side by side, with an edge at each of `wanted`."""
        raise NotImplementedError


@dataclasses.dataclass(eq=False, kw_only=True)
class Image(Node):
    """The input images of the graph."""


@dataclasses.dataclass(eq=False, kw_only=True)
class Centered(Node):
    """Images less the mean of each channel, which is subtracted from a row of pixels at once."""

    mean: np.ndarray  # (channels,)

    def wants(self, wanted: Edges) -> list[Edges]:
        return [_NONE]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        images = inputs[0].whole()
        row = np.tile(self.mean.astype(np.float32), (images.shape[2] or 1, 1))
        return Pieces([images - row]).cut(wanted)


@dataclasses.dataclass(eq=False, kw_only=True)
class Convolution(Node):
    """A convolution in channel groups, with a folded scale and offset, an activation, and units."""

    kernels: list[np.ndarray]  # (k, k, channels in, channels out) of each group
    arithmetic: str  # the arithmetic for which the ops are optimized
    stride: int = 1  # pixels
    padding: str = SAME
    scale: np.ndarray | float = 1.0  # of each channel
    offset: np.ndarray | float = 0.0  # of each channel, added
    activation: Callable | None = None

    @property
    def own_edges(self) -> Edges:
        return frozenset(edges_of(kernel.shape[-1] for kernel in self.kernels))

    @property
    def _taken_edges(self):
        return edges_of(kernel.shape[2] for kernel in self.kernels)

    def wants(self, wanted: Edges) -> list[Edges]:
        return [frozenset(self._taken_edges)]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        own, taken = sorted(self.own_edges), self._taken_edges
        groups = inputs[0].groups(taken)
        tensors = []
        for start, end in itertools.pairwise(sorted({*own, *wanted})):
            group = bisect.bisect_right(own, start) - 1
            kernel = self.kernels[group][..., start - own[group] : end - own[group]]
            units = self.sources[0].units[taken[group] : taken[group + 1], None]
            kernel = kernel * units * self._factors(start, end)
            kernel, bias = self._padded(kernel.astype(np.float32), self._bias(start, end))
            x, padding = groups[group], "SAME"
            if differs(self.padding, self.stride, x.shape[1:3]):
                x, padding = pad_symmetrically(x, kernel.shape[0]), "VALID"
            tensor = tf.nn.conv2d(x, kernel, self.stride, padding) + bias
            tensor = self._activated(tensor, start, end)  # before the slice, so that ReLU is fused
            tensors.append(tensor if len(bias) == end - start else tensor[..., : end - start])
        return tensors

    def _padded(self, kernel, bias):
        """Pads the outputs with zeros to the next multiple of 8, if that is faster."""
        outputs = len(bias)
        padding = -outputs % _OUTPUTS_AT_ONCE
        if not (ARITHMETICS[self.arithmetic].pads_outputs and self.is_plain) or padding > _MAX_PADDED * outputs:
            return kernel, bias
        return np.pad(kernel, [(0, 0), (0, 0), (0, 0), (0, padding)]), np.pad(bias, (0, padding))

    @property
    def _is_swish_by_tanh(self):
        # The kernels compute h, half of x.
        by_tanh = ARITHMETICS[self.arithmetic].swish_by_tanh and self.is_plain
        return self.activation is keras.activations.silu and by_tanh

    @property
    def _units_before_activation(self):
        return 2 * self.units if self._is_swish_by_tanh else self.units

    def _factors(self, start, end):
        return (np.broadcast_to(self.scale, (self.channels,)) / self._units_before_activation)[start:end]

    def _bias(self, start, end):
        offset = np.broadcast_to(self.offset, (self.channels,)) / self._units_before_activation
        return offset[start:end].astype(np.float32)

    def _activated(self, tensor, start, end):
        if self._is_swish_by_tanh:
            return tensor * (1.0 + tf.tanh(tensor))
        if self.activation is keras.activations.silu and not self.is_plain:
            # As a convolution with one tap: in int8 it has a scale per channel, whereas a vector has a single scale.
            units = self.units[start:end].astype(np.float32).reshape(1, 1, -1, 1)
            return tensor * tf.sigmoid(tf.nn.depthwise_conv2d(tensor, units, (1, 1, 1, 1), "SAME"))
        return tensor if self.activation is None else _activate(self.activation, tensor)


@dataclasses.dataclass(eq=False, kw_only=True)
class Depthwise(Convolution):
    """A depthwise convolution with the same folding; its pieces are its source's, cut at its groups' edges."""

    rates: list[int]  # dilation of each group, pixels
    splits: bool  # whether kernels of more than 25 taps become sums of smaller ones

    @property
    def own_edges(self) -> Edges:
        return frozenset(edges_of(kernel.shape[2] for kernel in self.kernels))

    def wants(self, wanted: Edges) -> list[Edges]:
        return [self.own_edges | wanted]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        own = sorted(self.own_edges)
        tensors = []
        pieces = inputs[0].cut(self.own_edges | wanted)
        for x, (start, end) in zip(pieces, itertools.pairwise(inputs[0].edges), strict=True):
            group = bisect.bisect_right(own, start) - 1
            kernel = self.kernels[group][:, :, start - own[group] : end - own[group]]
            factors = self.sources[0].units[start:end] * self._factors(start, end)
            kernel = (kernel * factors[:, None]).astype(np.float32)
            bias = self._bias(start, end)
            arithmetic = self.arithmetic if self.splits else None
            tensor = depthwise_conv2d(x, kernel, self.stride, self.rates[group], bias, arithmetic, self.padding)
            tensors.append(self._activated(tensor, start, end))
        return tensors


@dataclasses.dataclass(eq=False, kw_only=True)
class Elementwise(Node):
    """An elementwise function of a source in units of 1."""

    function: Callable

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        return [_activate(self.function, tensor) for tensor in inputs[0].cut(wanted)]


@dataclasses.dataclass(eq=False, kw_only=True)
class InUnitsOfOne(Node):
    """Converts its source to units of 1."""

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        units = self.sources[0].units.astype(np.float32)
        pieces = inputs[0].cut(wanted)
        return [x * units[a:b] for x, (a, b) in zip(pieces, itertools.pairwise(inputs[0].edges), strict=True)]


@dataclasses.dataclass(eq=False, kw_only=True)
class SqueezeExcite(Node):
    """Squeeze-and-excitation: a gate computed from the means of all channels and applied to each piece."""

    reduce_kernel: np.ndarray  # (1, 1, channels, squeezed)
    reduce_bias: np.ndarray
    activation: Callable
    expand_kernel: np.ndarray  # (1, 1, squeezed, channels)
    expand_bias: np.ndarray

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        pieces = inputs[0].cut(wanted)
        kernel = (self.reduce_kernel * self.units[:, None]).astype(np.float32)
        means = concat([tf.reduce_mean(tensor, (1, 2), keepdims=True) for tensor in pieces])
        squeezed = _activate(self.activation, tf.nn.conv2d(means, kernel, 1, "SAME") + self.reduce_bias)
        gated = []
        for tensor, (start, end) in zip(pieces, itertools.pairwise(inputs[0].edges), strict=True):
            gate = tf.nn.conv2d(squeezed, self.expand_kernel[..., start:end], 1, "SAME")
            gated.append(tensor * tf.sigmoid(gate + self.expand_bias[start:end]))
        return gated


@dataclasses.dataclass(eq=False, kw_only=True)
class Sum(Node):
    """A sum of sources in the same units, in the pieces of the first source (a block's last convolution)."""

    def wants(self, wanted: Edges) -> list[Edges]:
        first, *others = self.sources
        return [_NONE, *(wanted | first.own_edges for _ in others)]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        edges = sorted({*wanted, *inputs[0].edges})
        return [functools.reduce(tf.add, group) for group in zip(*(x.groups(edges) for x in inputs), strict=True)]


@dataclasses.dataclass(eq=False, kw_only=True)
class Mean(Node):
    """The mean over space."""

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        return [tf.reduce_mean(tensor, (1, 2)) for tensor in inputs[0].cut(wanted)]


@dataclasses.dataclass(eq=False, kw_only=True)
class Dense(Node):
    """A fully connected layer."""

    kernel: np.ndarray  # (channels of the source, channels)
    bias: np.ndarray

    def wants(self, wanted: Edges) -> list[Edges]:
        return [_NONE]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        kernel = (self.kernel * self.sources[0].units[:, None]).astype(np.float32)
        return [tf.linalg.matmul(inputs[0].whole(), kernel) + self.bias]


@dataclasses.dataclass(eq=False, kw_only=True)
class Rows(Node):
    """Tensors (batch, rows, channels), concatenated along the rows."""

    def wants(self, wanted: Edges) -> list[Edges]:
        return [_NONE for _ in self.sources]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        return [concat([pieces.whole() for pieces in inputs], axis=1)]


@dataclasses.dataclass(eq=False, kw_only=True)
class Foreign(Node):
    """A Keras operation outside the MixNet, unchanged."""

    step: Any

    def wants(self, wanted: Edges) -> list[Edges]:
        return [_NONE for _ in self.sources]

    def emit(self, inputs: list[Pieces], wanted: Edges) -> list[tf.Tensor]:
        return [call(self.step, [pieces.whole() for pieces in inputs])]


def _activate(function, tensor):
    # TensorFlow's swish has a custom gradient, which a SavedModel would store.
    return tensor * tf.sigmoid(tensor) if function is keras.activations.silu else function(tensor)
