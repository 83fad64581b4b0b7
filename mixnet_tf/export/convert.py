"""Converts an inference function to a TFLite model or a SavedModel."""

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from mixnet_tf.errors import first_line

INPUT_NAME = "image"


class ConversionError(ValueError):
    """A model cannot be expressed in TFLite's builtin ops."""


def write_saved_model(
    function: Callable,
    folder: str,
    image_size: int,
    batch_size: int | None,
    output_name: str,
    channels: int = 3,
    **signatures: Any,
) -> None:
    """Writes a SavedModel whose `serving_default` maps float images to its outputs.

    Args:
        function: A function from (batch, image_size, image_size, channels) to a tensor or to a dict of tensors. It has
            to be a `tf.Module` if it has variables.
        folder: Where to write.
        image_size: Pixels.
        batch_size: Images; None for any number.
        output_name: Name of a single output in the signature.
        channels: Channels of the images, or of a part's input.
        **signatures: Further signatures by name: concrete functions.
    """
    module = tf.Module()
    module.function = function
    spec = tf.TensorSpec((batch_size, image_size, image_size, channels), tf.float32, name=INPUT_NAME)

    @tf.function(input_signature=[spec], autograph=False)
    def serving_default(image):
        outputs = function(image)
        return outputs if isinstance(outputs, dict) else {output_name: outputs}

    module.serving_default = serving_default
    tf.saved_model.save(module, folder, {"serving_default": serving_default, **signatures})


def to_tflite(
    function: Callable,
    image_size: int,
    batch_size: int | None = 1,
    output_name: str = "probabilities",
    channels: int = 3,
) -> bytes:
    """Converts a function of images to a float32 TFLite model; arguments as for `write_saved_model`.

    Returns:
        The model's bytes.

    Raises:
        ConversionError: See `convert`.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(function, folder, image_size, batch_size, output_name, channels)
        return convert(folder)


def convert(folder: str, configure: Callable[[Any], None] | None = None) -> bytes:
    """Converts a SavedModel to a TFLite model of builtin ops.

    Args:
        folder: A SavedModel of `write_saved_model`.
        configure: A function that sets options of the `tf.lite.TFLiteConverter`; None for float32.

    Returns:
        The model's bytes.

    Raises:
        ConversionError: If TFLite has no builtin op for a part of the model; the message has the converter's reason.
    """
    return _converted(tf.lite.TFLiteConverter.from_saved_model(folder), configure)


def convert_function(function: Any, configure: Callable[[Any], None] | None = None) -> bytes:
    """Converts a `tf.function` with an input signature; otherwise as `convert`."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    return _converted(converter, configure)


def _converted(converter, configure):
    _configure(converter, configure)
    with _one_line_errors():
        return converter.convert()


def convert_partly(folder: str, float_tensors: list[str], configure: Callable[[Any], None]) -> bytes:
    """Converts a SavedModel to a TFLite model in which all ops except some are quantized.

    Args:
        folder: A SavedModel of `write_saved_model`.
        float_tensors: Outputs of the ops that stay in float32, by their names in the float32 TFLite model.
        configure: A function that sets int8's options of the converter.

    Returns:
        The model's bytes.

    Raises:
        ConversionError: See `convert`.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    _configure(converter, configure)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=float_tensors)
    with _one_line_errors():
        return tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_options=options
        ).get_nondebug_quantized_model()


def with_uint8_input(content: bytes) -> bytes:
    """Gives a TFLite model that quantizes float pixels first an input of uint8 pixels.

    Raises:
        ConversionError: If the model's first op does not quantize pixels in steps of 1, from 0.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    schema, graph = flatbuffer_utils.schema_fb, model.subgraphs[0]
    [image] = graph.inputs
    [reader] = [op for op in graph.operators if image in op.inputs]
    pixels = graph.tensors[reader.outputs[0]].quantization
    kind = flatbuffer_utils.opcode_to_name(model, reader.opcodeIndex)
    if kind != "QUANTIZE" or list(pixels.scale) != [1.0] or list(pixels.zeroPoint) != [-128]:
        raise ConversionError("The model cannot take uint8 images: it does not quantize them in steps of 1 at first.")
    tensor = graph.tensors[image]
    tensor.type, tensor.quantization = schema.TensorType.UINT8, schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0], [0]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _configure(converter, configure):
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if configure is not None:
        configure(converter)


@contextlib.contextmanager
def _one_line_errors():
    """Turns the converter's errors into a `ConversionError` of one line."""
    try:
        with warnings.catch_warnings():
            # The converter calibrates with TensorFlow's own interpreter.
            warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
            # A function's calibration takes its statistics from the representative dataset, as a SavedModel's does.
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
            yield
    except Exception as error:  # the converter's own Exception, which is not public
        lines = [line.strip() for line in str(error).splitlines() if "TF Select ops:" in line or "Custom ops:" in line]
        reason = "; ".join(lines) or first_line(error)
        raise ConversionError(f"The model cannot be converted to TFLite's builtin ops: {reason}") from error
