"""Finds the layers that TFLite cannot express by converting each alone, because the converter names only ops."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.export import quantize
from mixnet_tf.export.convert import ConversionError, convert_function
from mixnet_tf.networks import call, foreign_steps

_CALIBRATION = 2  # random inputs


def unconvertible_layers(model: keras.Model, format_name: str) -> list[str]:
    """The names of the layers outside the MixNet that cannot be converted to a format.

    Args:
        model: A `keras.Model`; the layers may be in nested models.
        format_name: One of `quantize.TFLITE_FORMATS`.
    """
    return [step.name for step in foreign_steps(model) if not _converts(step, format_name)]


def _converts(step: Any, format_name: str) -> bool:
    symbols = keras.tree.flatten(step.input)
    specs = [tf.TensorSpec([1, *(size or 1 for size in symbol.shape[1:])], symbol.dtype) for symbol in symbols]
    function = tf.function(lambda *tensors: call(step, list(tensors)), input_signature=specs, autograph=False)
    generator = np.random.default_rng(0)

    def configure(converter):
        images = np.zeros((1, 1, 1, 3), np.float32)  # replaced, because a layer's inputs are not images
        quantize.configure(format_name, images)(converter)
        if format_name in quantize.NEEDS_CALIBRATION:
            converter.representative_dataset = lambda: (
                [generator.uniform(0, 1, spec.shape).astype(spec.dtype.as_numpy_dtype) for spec in specs]
                for _ in range(_CALIBRATION)
            )

    try:
        convert_function(function, configure)
    except ConversionError:
        return False
    return True
