"""Quantizes a network to int8 except for the parts with the largest error, found by measuring each part."""

import contextlib
import importlib.util
import io
import os
import re
import tempfile
import warnings
from collections.abc import Callable

import keras
import numpy as np

from mixnet_tf.errors import InputError
from mixnet_tf.export import runtime
from mixnet_tf.export.convert import INPUT_NAME
from mixnet_tf.networks import MixConv, models, parts

_PROBES = 8  # images that the error is measured on
_CALIBRATION = 100  # images; the calibration keeps every tensor's range


def check_float_parts(model: keras.Model, number: int) -> None:
    """Checks the number of parts of a model that are to stay float in int8.

    Raises:
        ValueError: If `litert-quantizer` is not installed, the model holds no MixNet, or it has fewer parts.
    """
    if not importlib.util.find_spec("litert_quantizer"):
        raise InputError("int8_float_parts needs the package litert-quantizer: pip install litert-quantizer.")
    names = part_names(model)
    if number > len(names):
        raise InputError(f"int8_float_parts: expected a number from 0 to {len(names)}; received {number}.")


def part_names(model: keras.Model) -> list[str]:
    """The parts of the MixNet that a model is, or has inside it: "stem", "block_0", ..., "head"."""
    for inner in models(model):
        if any(isinstance(layer, MixConv) for layer in inner.layers):
            return list(parts(inner))
    raise InputError(f"int8_float_parts: model {model.name!r} holds no MixNet, whose parts could stay float.")


def quantize_selectively(
    content: bytes,
    images: np.ndarray,
    names: list[str],
    num_float: int,
    seen: Callable[[], None] | None = None,
) -> tuple[bytes, dict[str, float]]:
    """Quantizes a float32 TFLite model to int8, and leaves the parts with the largest error in float32.

    The error of a part is that of the model's output if this part alone is quantized.

    Args:
        content: The float32 model's bytes; its tensors' names begin with the parts' layers, as the rewrite names them.
        images: (images, size, size, 3), float32 in [0, 255], to calibrate and measure with.
        names: Names of the parts, such as "stem", "block_0", "head".
        num_float: Number of parts that stay float.
        seen: Called without arguments after each part; None: nothing.

    Returns:
        (the model's bytes with float input and output, dict from each part to its mean squared error, the worst
        first: the first `num_float` are float).
    """
    from litert_quantizer import quantizer, recipe

    [whole] = recipe.static_wi8_ai8()
    float_ends = [{**_kept_float(whole, ".*"), "operation": end} for end in ("INPUT", "OUTPUT")]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "float.tflite")
        with open(path, "wb") as file:
            file.write(content)
        data = {"serving_default": [{INPUT_NAME: image[np.newaxis]} for image in images[:_CALIBRATION]]}
        with _quiet():
            ranges = quantizer.Quantizer(path, [whole]).calibrate(data)

        def quantized(entries):
            with _quiet():
                return bytes(quantizer.Quantizer(path, [*entries, *float_ends]).quantize(ranges).quantized_model)

        probes = images[:_PROBES]
        expected = runtime.predict(content, probes)
        errors = {}
        for part in names:
            alone = quantized([{**whole, "regex": _scope(part)}])
            errors[part] = float(np.square(runtime.predict(alone, probes) - expected).mean())
            if seen is not None:
                seen()
        errors = dict(sorted(errors.items(), key=lambda item: -item[1]))
        kept = [_kept_float(whole, _scope(part)) for part in list(errors)[:num_float]]
        return quantized([whole, *kept]), errors


@contextlib.contextmanager
def _quiet():
    """Hides the quantizer's progress bars, and its warning that it keeps all tensors."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore", UserWarning)
        yield


def _scope(part):
    return f".*(^|/|;){re.escape(part)}_.*"


def _kept_float(whole, scope):
    return {**whole, "regex": scope, "algorithm_key": "no_quantize"}
