"""A Keras MixNet to the function that a phone runs: the same numbers from fewer, faster ops."""

import bisect
import functools
import itertools

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf import layers
from mixnet_tf.export.kernels import depthwise_conv2d
from mixnet_tf.export.maps import Maps, concat, edges_of

LARGE_KERNELS = ("split", "keep")
# Keras activations that treat each channel alike, so that they may stand before a concatenation.
_ELEMENTWISE = ("relu", "relu6", "silu", "hard_silu", "gelu", "elu", "mish", "linear", "sigmoid", "tanh")


class AsWritten(tf.Module):
    """A Keras model as a function of images, unchanged.

    Args:
        model: A `keras.Model` from (batch, height, width, 3) to (batch, classes).
    """

    def __init__(self, model):
        super().__init__(name="as_written")
        self._model = model
        self._variables = [variable.value for variable in model.variables]  # where a SavedModel looks for them

    def __call__(self, images):
        """(batch, height, width, 3) to (batch, classes)."""
        return self._model(images, training=False)


class InferenceFunction(AsWritten):
    """What a Keras MixNet computes in inference, as constants and plain TensorFlow ops.

    Batch normalization is folded into each group's kernel, activations stand right behind their convolution, and
    channel groups stay apart for as long as nothing needs them side by side. A layer that is not MixNet's is called
    as it is.

    Args:
        model: A float32 `keras.Model` that contains a MixNet's layers.
        large_kernels: "split": depthwise kernels of over 25 taps become sums of smaller ones. "keep": they stay.

    Attributes:
        foreign: Names of the layers that are not MixNet's.

    Raises:
        ValueError: For an unknown option, or a model with several inputs or outputs. At the call, for a layer that the
            model uses twice.
    """

    def __init__(self, model, large_kernels="split"):
        super().__init__(model)
        if large_kernels not in LARGE_KERNELS:
            raise ValueError(f"large_kernels: expected one of {LARGE_KERNELS}; received {large_kernels!r}.")
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(f"{model.name!r} has {len(model.inputs)} inputs and {len(model.outputs)} outputs, not one.")
        self._split = large_kernels == "split"
        self.foreign = [step.name for step in _steps(model) if _is_foreign(step)]

    def __call__(self, images):
        """(batch, height, width, 3) to (batch, classes), both float32."""
        return self._run(self._model, [Maps.of(images)]).whole()

    def _run(self, model, inputs):
        if isinstance(model, keras.Sequential):
            return functools.reduce(lambda value, layer: self._apply(layer, [value]), model.layers, inputs[0])
        values = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
        for step in model.operations:
            if not isinstance(step, keras.layers.InputLayer):
                values[id(_single(step, "output"))] = self._apply(step, [values[id(t)] for t in _inputs(step)])
        return values[id(model.outputs[0])]

    def _apply(self, step, inputs):
        folds = isinstance(inputs[0], _Convolution) and inputs[0].takes_more
        if isinstance(step, keras.Sequential) or hasattr(step, "operations"):
            return self._run(step, inputs)
        if isinstance(step, layers.GroupedConv2D):
            return _Convolution(inputs[0], [_value(kernel) for kernel in step.kernels])
        if isinstance(step, keras.layers.Conv2D) and _is_plain(step):
            return _Convolution(inputs[0], [_value(step.kernel)], stride=step.strides[0])
        if isinstance(step, layers.MixConv):
            kernels = [_value(kernel) for kernel in step.kernels]
            rates = [(k - 1) // (kernel.shape[0] - 1) if k > 1 else 1 for k, kernel in zip(step.kernel_size, kernels, strict=True)]
            return _Depthwise(inputs[0], kernels, step.strides[0], rates, self._split)
        if isinstance(step, layers.BatchNormalization) and folds:
            return inputs[0].normalized(step)
        if isinstance(step, keras.layers.Activation) and step.activation.__name__ in _ELEMENTWISE:
            return inputs[0].activated(step.activation) if folds else _each(step.activation, *inputs)
        if isinstance(step, layers.SqueezeExcite):
            return _squeeze_excite(step, *inputs)
        if type(step) is keras.layers.Add and len({value.channels for value in inputs}) == 1:
            return _add(inputs)
        return _call(step, inputs)


class _Convolution(Maps):
    """A convolution in channel groups that later layers may still be folded into; emitted when it is read."""

    def __init__(self, source, kernels, stride=1, *, scale=1.0, offset=0.0, activation=None):
        self._source, self._kernels, self._stride = source, kernels, stride
        self._scale, self._offset, self._activation = scale, offset, activation
        super().__init__(sum(self._widths()), self._emit_groups)

    def _widths(self):
        return [kernel.shape[-1] for kernel in self._kernels]

    def _replaced(self, **changes):
        now = {"scale": self._scale, "offset": self._offset, "activation": self._activation}
        return type(self)(self._source, self._kernels, self._stride, **{**now, **changes})

    @property
    def takes_more(self):
        """Whether no activation follows yet."""
        return self._activation is None

    def normalized(self, layer):
        """With a batch normalization folded in."""
        mean, variance, gamma, beta = (
            _value(value).astype(np.float64) for value in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
        )
        scale = gamma / np.sqrt(variance + layer.epsilon)
        return self._replaced(scale=self._scale * scale, offset=(self._offset - mean) * scale + beta)

    def activated(self, function):
        """With an elementwise activation behind it."""
        return self._replaced(activation=function)

    def _emit_groups(self, edges):
        own = edges_of(self._widths())
        inputs = self._source.groups(edges_of([kernel.shape[2] for kernel in self._kernels]))
        tensors = []
        for start, end in itertools.pairwise(sorted({*own, *edges})):
            group = bisect.bisect_right(own, start) - 1
            kernel = self._kernels[group][..., start - own[group] : end - own[group]] * self._vector("_scale", start, end)
            strides = (self._stride, self._stride)
            tensor = tf.nn.conv2d(inputs[group], kernel.astype(np.float32), strides, "SAME")
            tensors.append(self._finished(tensor + self._bias(start, end)))
        return tensors

    def _vector(self, name, start, end):
        return np.broadcast_to(getattr(self, name), (self.channels,))[start:end]

    def _bias(self, start, end):
        return self._vector("_offset", start, end).astype(np.float32)

    def _finished(self, tensor):
        return tensor if self._activation is None else self._activation(tensor)


class _Depthwise(_Convolution):
    """The same for a depthwise convolution: its pieces are those of its input and of its groups."""

    def __init__(self, source, kernels, stride, rates, split, **folded):
        self._rates, self._split = rates, split
        super().__init__(source, kernels, stride, **folded)

    def _widths(self):
        return [kernel.shape[2] for kernel in self._kernels]

    def _replaced(self, **changes):
        now = {"scale": self._scale, "offset": self._offset, "activation": self._activation}
        return _Depthwise(self._source, self._kernels, self._stride, self._rates, self._split, **{**now, **changes})

    def _emit_groups(self, edges):
        own = edges_of(self._widths())
        tensors = []
        inputs = self._source.pieces({*own, *edges})
        for x, (start, end) in zip(inputs, itertools.pairwise(self._source.edges), strict=True):
            group = bisect.bisect_right(own, start) - 1
            kernel = self._kernels[group][:, :, start - own[group] : end - own[group]]
            kernel = (kernel * self._vector("_scale", start, end)[:, None]).astype(np.float32)
            tensor = depthwise_conv2d(
                x, kernel, self._stride, self._rates[group], self._bias(start, end), self._split
            )
            tensors.append(self._finished(tensor))
        return tensors


def _each(function, value):
    """An elementwise function of the pieces."""
    return Maps(value.channels, lambda edges: [function(tensor) for tensor in value.pieces(edges)])


def _squeeze_excite(layer, value):
    """The gate is computed from all channels and applied to the pieces."""
    reduce, expand = layer.reduce, layer.expand

    def emit(edges):
        pieces = value.pieces(edges)
        means = concat([tf.reduce_mean(tensor, (1, 2), keepdims=True) for tensor in pieces])
        squeezed = reduce.activation(tf.nn.conv2d(means, _value(reduce.kernel), 1, "SAME") + _value(reduce.bias))
        gated = []
        for tensor, (start, end) in zip(pieces, itertools.pairwise(value.edges), strict=True):
            gate = tf.nn.conv2d(squeezed, _value(expand.kernel)[..., start:end], 1, "SAME")
            gated.append(tensor * tf.sigmoid(gate + _value(expand.bias)[start:end]))
        return gated

    return Maps(value.channels, emit)


def _add(values):
    """A sum in the pieces of the value that is there already, the block's input."""

    def emit(edges):
        there = next((value for value in values if value.is_emitted), values[0])
        edges = sorted({*edges, *there.edges})
        return [functools.reduce(tf.add, tensors) for tensors in zip(*(v.groups(edges) for v in values), strict=True)]

    return Maps(values[0].channels, emit)


def _call(step, values):
    """An operation as Keras computes it."""
    function = keras.Function(_inputs(step), _single(step, "output"))
    return Maps.of(function([value.whole() for value in values]))


def _value(variable):
    """A variable's value as numpy, also while a graph is traced."""
    with tf.init_scope():
        return variable.numpy()


def _is_plain(conv):
    options = (conv.padding, conv.dilation_rate, conv.groups, conv.use_bias, conv.data_format)
    linear = conv.activation is keras.activations.linear and conv.strides[0] == conv.strides[1]
    return linear and options == ("same", (1, 1), 1, False, "channels_last")


def _single(step, what):
    try:
        return getattr(step, what)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"Layer {step.name!r} is used more than once; the export takes each layer once.") from error


def _inputs(step):
    return keras.tree.flatten(_single(step, "input"))


def _steps(model):
    """The operations of a model and of the models inside it."""
    for step in model.layers if isinstance(model, keras.Sequential) else model.operations:
        if isinstance(step, keras.Sequential) or hasattr(step, "operations"):
            yield from _steps(step)
        elif not isinstance(step, keras.layers.InputLayer):
            yield step


def _is_foreign(step):
    return step.name.split("_")[0] not in ("preprocessing", "stem", "block", "head", "predictions")
