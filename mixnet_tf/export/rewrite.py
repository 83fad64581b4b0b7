"""A Keras MixNet to the function that a phone runs: the same numbers from fewer, faster ops."""

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.export import convolutions
from mixnet_tf.export.convolutions import Convolution, Depthwise, value_of
from mixnet_tf.export.kernels import ARITHMETICS
from mixnet_tf.export.maps import Maps
from mixnet_tf.export.walk import call, steps, walk
from mixnet_tf.networks import BatchNormalization, GroupedConv2D, MixConv, SqueezeExcite, is_mixnets

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
        # Not an attribute: a SavedModel would hold each layer's own functions, which take longer to write and to
        # convert than all the rest. The variables it does have to find.
        self._get_model = lambda: model
        self._variables = [variable.value for variable in model.variables]

    def __call__(self, images):
        """(batch, height, width, 3) to (batch, classes)."""
        return self._get_model()(images, training=False)


class InferenceFunction(AsWritten):
    """What a Keras MixNet computes in inference, as constants and plain TensorFlow ops.

    Batch normalization is folded into each group's kernel, activations stand right behind their convolution, and
    channel groups stay apart for as long as nothing needs them side by side. A layer that is not MixNet's is called
    as it is.

    Args:
        model: A float32 `keras.Model` that contains a MixNet's layers.
        large_kernels: "split": depthwise kernels of over 25 taps become sums of smaller ones. "keep": they stay.
        units: Dict from a batch normalization to (channels,), the units to compute its output in, as
            `Activations.units` gives them; None: 1.
        arithmetic: "float32" or "int8": what the sums of smaller kernels are to be fast in.

    Attributes:
        foreign: Names of the layers that are not MixNet's.

    Raises:
        ValueError: For an unknown option, or a model with several inputs or outputs. At the call, for a layer that the
            model uses twice.
    """

    def __init__(self, model, large_kernels="split", units=None, arithmetic="float32"):
        super().__init__(model)
        self._units = dict(units or {})
        if large_kernels not in LARGE_KERNELS:
            raise InputError(f"large_kernels: expected one of {LARGE_KERNELS}; received {large_kernels!r}.")
        if arithmetic not in ARITHMETICS:
            raise InputError(f"arithmetic: expected one of {ARITHMETICS}; received {arithmetic!r}.")
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise InputError(f"{model.name!r} has {len(model.inputs)} inputs, {len(model.outputs)} outputs, not one.")
        self._arithmetic = arithmetic if large_kernels == "split" else None
        self.foreign = [step.name for step in steps(model) if not is_mixnets(step)]

    def __call__(self, images):
        """(batch, height, width, 3) to (batch, classes), both float32."""
        return walk(self._get_model(), [Maps.of(images)], self._step).plain().whole()

    def _step(self, step, inputs):
        value = self._apply(step, inputs)
        if value not in inputs:
            value.scope = step.name
        return value

    def _apply(self, step, inputs):
        folds = isinstance(inputs[0], Convolution) and inputs[0].takes_more
        if isinstance(step, GroupedConv2D):
            return Convolution(inputs[0], [value_of(kernel) for kernel in step.kernels])
        if isinstance(step, keras.layers.Conv2D) and _is_plain(step):
            return Convolution(inputs[0], [value_of(step.kernel)], stride=step.strides[0])
        if isinstance(step, MixConv):
            kernels = [value_of(kernel) for kernel in step.kernels]
            return Depthwise(inputs[0], kernels, step.strides[0], _rates(step), self._arithmetic)
        if isinstance(step, BatchNormalization) and folds:
            return inputs[0].normalized(step).in_units(self._units.get(step))
        if isinstance(step, keras.layers.Activation) and step.activation.__name__ in _ELEMENTWISE:
            return inputs[0].activated(step.activation) if folds else convolutions.elementwise(step.activation, *inputs)
        if isinstance(step, SqueezeExcite):
            return convolutions.squeeze_excite(step, *inputs)
        if type(step) is keras.layers.Add and len({value.channels for value in inputs}) == 1:
            return convolutions.add(inputs)
        if type(step) is keras.layers.GlobalAveragePooling2D and not step.keepdims:
            return convolutions.pool(*inputs)
        if type(step) is keras.layers.Dense and step.activation is keras.activations.linear and step.use_bias:
            return convolutions.dense(step, *inputs)
        return Maps.of(call(step, [value.plain().whole() for value in inputs]))


def _rates(layer):
    """Dilation of each group: how far its taps reach, over how many they are."""
    taps = [kernel.shape[0] for kernel in layer.kernels]
    return [(size - 1) // (n - 1) if n > 1 else 1 for size, n in zip(layer.kernel_size, taps, strict=True)]


def _is_plain(conv):
    options = (conv.padding, conv.dilation_rate, conv.groups, conv.use_bias, conv.data_format)
    linear = conv.activation is keras.activations.linear and conv.strides[0] == conv.strides[1]
    return linear and options == ("same", (1, 1), 1, False, "channels_last")
