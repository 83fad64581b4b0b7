"""The number formats of a TFLite model, and the converter's options for each."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mixnet_tf.errors import InputError

TFLITE_FORMATS = ("fp32", "fp16", "fp16_weights", "dynamic", "int8", "int8_full")
NEEDS_CALIBRATION = ("int8", "int8_full")


def configure(
    format_name: str,
    calibration_images: np.ndarray | None = None,
    seen: Callable[[], None] | None = None,
    allows_custom_ops: bool = False,
) -> Callable[[Any], None]:
    """Returns a function that sets a converter's options for a format.

    Args:
        format_name: "fp32"; "fp16": half precision where the processor has it; "fp16_weights": only the weights;
            "dynamic": int8 weights, float activations; "int8": int8 weights and activations, float input and output;
            "int8_full": uint8 input and output as well.
        calibration_images: (images, height, width, 3), float32 in [0, 255], for the int8 formats.
        seen: Called without arguments for each image that the converter has used; None: not called.
        allows_custom_ops: Whether the model may contain ops that are not TensorFlow's.

    Raises:
        ValueError: If the format is unknown, or if int8 has no calibration images.
    """
    if format_name not in TFLITE_FORMATS:
        raise InputError(f"Unknown format {format_name!r}; expected one of {TFLITE_FORMATS}.")
    calibrates = format_name in NEEDS_CALIBRATION
    if calibrates and (calibration_images is None or not len(calibration_images)):
        raise InputError(f"Format {format_name!r} needs calibration images; give a dataset or a folder of images.")

    def set_options(converter):
        converter.allow_custom_ops = allows_custom_ops
        if format_name != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if format_name in ("fp16", "fp16_weights"):
            converter.target_spec.supported_types = [tf.float16]
        if format_name == "fp16":
            # XNNPACK computes in half precision, from ARMv8.2 on, if the file has this in its metadata.
            converter.target_spec._experimental_supported_accumulation_type = tf.dtypes.float16
        if calibrates and calibration_images is not None:
            converter.representative_dataset = representative_dataset(calibration_images, seen)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        if format_name == "int8_full":
            converter.inference_input_type = converter.inference_output_type = tf.uint8

    return set_options


def representative_dataset(
    images: np.ndarray, seen: Callable[[], None] | None = None
) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    """Yields the images one by one for the converter's calibration.

    Two corner pixels of the first image are set to black and white, so that the input keeps its range of 0 to 255.
    """
    first = np.array(images[0])
    first[0, 0], first[-1, -1] = 0.0, 255.0

    def batches():
        for image in (first, *images[1:]):
            yield {"image": image[np.newaxis]}
            if seen is not None:
                seen()

    return batches
