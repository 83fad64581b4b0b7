"""Half precision, in which phones compute, simulated: this machine's own delegates compute in float32.

XNNPACK computes in half precision on ARM cores from ARMv8.2 on if a file allows it, and a phone's GPU does by default.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from mixnet_tf.errors import InputError
from mixnet_tf.export.arithmetics import CPU
from mixnet_tf.export.images import ImageStream, in_batches
from mixnet_tf.networks import same_padding

LARGEST = float(np.finfo(np.float16).max)
_BATCH = 16  # images
_MARGIN = 4  # by which values may stay below the largest number without a warning
# To which channels are scaled: the sums inside a convolution can be larger than what it gives.
LARGEST_IN_UNITS = LARGEST / 16
_SCHEMA = flatbuffer_utils.schema_fb
_NUMPY = {
    _SCHEMA.TensorType.FLOAT32: np.float32,
    _SCHEMA.TensorType.FLOAT16: np.float16,
    _SCHEMA.TensorType.INT32: np.int32,
    _SCHEMA.TensorType.INT64: np.int64,
}
_SATURATES = ("LOGISTIC", "TANH")
_ACTIVATIONS: dict[int, Callable] = {0: lambda x: x, 1: tf.nn.relu, 3: tf.nn.relu6}


def computes_in_half_precision(format_name: str, accelerator: str) -> bool:
    """Whether a phone computes a file in half precision, on CPU cores that have it."""
    return format_name == "fp16" if accelerator == CPU else format_name in ("fp32", "fp16", "fp16_weights")


class HalfPrecision:
    """A float TFLite model that computes in half precision.

    Images, weights, and what an op gives are rounded to float16. Convolutions and dense layers round after each
    multiply-add, in the order of XNNPACK's kernels: the bias, then tap by tap and channel by channel. Means are summed
    in float32 there.

    Args:
        content: The model's bytes; a batch of one image stands for any number.

    Attributes:
        largest: Dict from the name of an op's output to the largest absolute value that it or one of its sums had;
            infinite after an overflow. Without those that only a sigmoid or tanh reads: for infinity, too, these give
            the right limit.

    Raises:
        ValueError: If the model has an op that is not simulated; the message names it.
    """

    def __init__(self, content: bytes) -> None:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        [graph] = model.subgraphs
        self._constants = {
            place: _rounded(array)
            for place, tensor in enumerate(graph.tensors)
            if (array := _constant(model, tensor)) is not None
        }
        self._names = [tensor.name.decode() for tensor in graph.tensors]
        self._input, self._ops, self._outputs = graph.inputs[0], [], list(graph.outputs)
        self._counted: set[int] = set()  # tensors whose largest values count
        for op in graph.operators:
            kind = flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
            if kind == "CUSTOM":  # a detector's suppression, at the end: what it is given is the output
                self._outputs = list(op.inputs[:2])
                continue
            if kind not in _OPS:
                raise InputError(f"Half precision is not simulated for the op {kind}.")
            self._ops.append((_OPS[kind], op))
            if kind not in _SATURATES:
                self._counted.update(op.inputs)
        self._counted.update(self._outputs)
        self.largest: dict[str, float] = {}

    def __call__(self, images: np.ndarray | ImageStream, seen: Callable[[], None] | None = None) -> list[np.ndarray]:
        """Computes the model's outputs.

        Args:
            images: (images, height, width, 3), RGB in [0, 255].
            seen: Called without arguments for each image; None: not called.

        Returns:
            A float32 array of each output; of a detector that suppresses, the encoded boxes and the scores before.
        """
        found: list[list[np.ndarray]] = []
        for batch in in_batches(images, _BATCH):
            # The last one may be smaller, and XLA compiles each size anew.
            padded = batch[np.arange(_BATCH) % len(batch)]
            found.append([answer[: len(batch)] for answer in self._run(padded)])
            if seen is not None:
                for _ in batch:
                    seen()
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def closest_to_overflow(self) -> dict[str, Any]:
        """`largest` and `largest_at`, the largest value so far and the output that had it."""
        name = max(self.largest, key=lambda each: self.largest[each])
        return {"largest": self.largest[name], "largest_at": name}

    def warnings(self) -> list[str]:
        """Sentences about values that are within a factor of 4 of an overflow."""
        close = {name: value for name, value in self.largest.items() if value > LARGEST / _MARGIN}
        return [
            f"{name!r} reaches {value:.0f}, where numbers end at {LARGEST:.0f}; feed it smaller values, or "
            "export int8 beside it, by whose calibration images large channels are scaled"
            for name, value in close.items()
        ]

    def _run(self, batch):
        values: dict[int, Any] = {**self._constants, self._input: _half(batch)}
        for function, op in self._ops:
            given = [values[place] if place >= 0 else None for place in op.inputs]
            self._sums = 0.0
            answers = function(self, op.builtinOptions, *given)
            for place, answer in zip(op.outputs, answers if isinstance(answers, list) else [answers], strict=True):
                values[place] = _half(answer)
                if place in self._counted and op.inputs[0] not in self._constants:
                    self._see(self._names[place], values[place])
        return [values[place] for place in self._outputs]

    def _see(self, name, value):
        largest = max(float(np.abs(value).max()), self._sums)
        self.largest[name] = max(self.largest.get(name, 0.0), largest if largest == largest else np.inf)

    def _conv2d(self, options, x, kernel, bias=None):
        filters, rows, columns, channels = kernel.shape
        if channels != x.shape[-1]:
            raise InputError("Half precision is not simulated for a grouped CONV_2D.")
        strides, rates = _strides(options), _rates(options)
        if (rows, columns, *strides) != (1, 1, 1, 1):
            x = tf.image.extract_patches(x, (1, rows, columns, 1), (1, *strides, 1), (1, *rates, 1), _padding(options))
        summed = self._matmul(x, tf.reshape(kernel, (filters, -1)), bias)
        return self._activated(options, tf.reshape(summed, (*x.shape[:3], filters)))

    def _dense(self, options, x, weights, bias=None):
        return self._activated(options, self._matmul(x, weights, bias))

    def _matmul(self, x, weights, bias):
        inputs = tf.transpose(tf.reshape(x, (-1, weights.shape[1])))
        bias = tf.zeros(weights.shape[0]) if bias is None else bias
        return _summed(inputs, tf.transpose(weights), bias)

    def _depthwise(self, options, x, kernel, bias=None):
        _, rows, columns, channels = kernel.shape
        strides, rates = _strides(options), _rates(options)
        reach = [(size - 1) * rate + 1 for size, rate in zip((rows, columns), rates, strict=True)]
        if _padding(options) == "SAME":
            x = tf.pad(x, [(0, 0), *map(same_padding, x.shape[1:3], reach, strides), (0, 0)])
        outputs = [(n - extent) // stride + 1 for n, extent, stride in zip(x.shape[1:3], reach, strides, strict=True)]
        ends = [(n - 1) * stride + 1 for n, stride in zip(outputs, strides, strict=True)]
        total = tf.zeros((x.shape[0], *outputs, channels)) + (0.0 if bias is None else bias)
        for row, column in np.ndindex(rows, columns):
            top, left = row * rates[0], column * rates[1]
            window = x[:, top : top + ends[0] : strides[0], left : left + ends[1] : strides[1]]
            total = _half(total + window * kernel[0, row, column])
        return self._activated(options, total)

    def _activated(self, options, value):
        self._sums = float(tf.reduce_max(tf.abs(value)))
        return _ACTIVATIONS[options.fusedActivationFunction](value)


@tf.function(jit_compile=True, autograph=False)
def _summed(inputs, weights, bias):
    """Sums, (pixels, outputs), of (channels, pixels) times (channels, outputs), rounded after each channel."""

    def add(channel, total):
        # float16 from one channel to the next, so that XLA does not leave the rounding out.
        total = tf.cast(total, tf.float32) + inputs[channel][:, tf.newaxis] * weights[channel]
        return channel + 1, tf.cast(total, tf.float16)

    start = tf.cast(tf.zeros((inputs.shape[1], 1)) + bias, tf.float16)
    _, total = tf.while_loop(lambda channel, _: channel < inputs.shape[0], add, (0, start))
    return tf.cast(total, tf.float32)


def _half(value):
    # By NumPy: for an op on float16 outside of XLA, oneDNN logs that it has none.
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(np.float16).astype(np.float32)


def _rounded(array):
    return _half(array) if array.dtype in (np.float16, np.float32) else array


def _constant(model, tensor):
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type not in _NUMPY:
        return None
    return np.frombuffer(bytes(data), _NUMPY[tensor.type]).reshape(tensor.shape)


def _strides(options):
    return options.strideH, options.strideW


def _rates(options):
    return options.dilationHFactor, options.dilationWFactor


def _padding(options):
    return "SAME" if options.padding == _SCHEMA.Padding.SAME else "VALID"


def _binary(function):
    return lambda _, options, a, b: _ACTIVATIONS[options.fusedActivationFunction](function(a, b))


def _unary(function):
    return lambda _, options, x: function(x)


def _slice(_, options, x, begin, size):
    size = [-1 if axis == 0 else int(n) for axis, n in enumerate(size)]
    return tf.slice(x, begin, size)


def _strided_slice(_, options, x, begin, end, strides):
    masks = (options.beginMask | 1, options.endMask | 1, options.ellipsisMask, options.newAxisMask)
    return tf.strided_slice(x, begin, end, strides, *masks, options.shrinkAxisMask)


def _reshape(_, options, x, shape=None):
    first, *rest = map(int, options.newShape if shape is None else shape)
    return tf.reshape(x, [x.shape[0] if first == 1 else first, *rest])  # a batch of one stands for any number


_OPS: dict[str, Callable] = {
    "ADD": _binary(tf.add),
    "SUB": _binary(tf.subtract),
    "MUL": _binary(tf.multiply),
    "DIV": _binary(tf.divide),
    "CONV_2D": HalfPrecision._conv2d,
    "DEPTHWISE_CONV_2D": HalfPrecision._depthwise,
    "FULLY_CONNECTED": HalfPrecision._dense,
    "DEQUANTIZE": _unary(tf.identity),
    "LOGISTIC": _unary(tf.sigmoid),
    "TANH": _unary(tf.tanh),
    "EXP": _unary(tf.exp),
    "RELU": _unary(tf.nn.relu),
    "RELU6": _unary(tf.nn.relu6),
    "HARD_SWISH": _unary(lambda x: x * tf.nn.relu6(x + 3) / 6),
    "SOFTMAX": lambda _, options, x: tf.nn.softmax(x * options.beta),
    "MEAN": lambda _, options, x, axes: tf.reduce_mean(x, axes, options.keepDims),
    "CONCATENATION": lambda _, options, *parts: tf.concat(parts, options.axis),
    "SPLIT": lambda _, options, axis, x: tf.split(x, options.numSplits, int(axis)),
    "SPLIT_V": lambda _, options, x, sizes, axis: tf.split(x, sizes, int(axis)),
    "PAD": lambda _, options, x, paddings: tf.pad(x, paddings),
    "RESHAPE": _reshape,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
}
