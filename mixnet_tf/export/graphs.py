"""A Keras model in the TFLite formats: its rewritten graphs, each written once, converted."""

import os
from typing import Any

import keras
from absl import logging

from mixnet_tf.export import quantize, runtime
from mixnet_tf.export.calibrate import Calibration, calibrate, distance
from mixnet_tf.export.convert import ConversionError, convert, write_saved_model
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.selective import part_names, quantize_selectively
from mixnet_tf.export.unconvertible import unconvertible_layers
from mixnet_tf.progress import Progress, silent

_KERAS_BATCH = 32  # images


class Graphs:
    """A model to convert.

    Args:
        model: What `target_model` returned.
        options: An `export.ExportOptions`.
        images: (images, size, size, 3), float32 in [0, 255], to calibrate int8 with; None without int8.
        scratch: A folder for SavedModels.
        progress: Shows the phases of the work.

    Attributes:
        calibration: The `Calibration` of the int8 formats, once one was converted.
    """

    def __init__(
        self,
        model: keras.Model,
        options: ExportOptions,
        images: Any,
        scratch: str,
        progress: Progress = silent,
    ) -> None:
        self._model, self._options, self._images, self._scratch = model, options, images, scratch
        self._progress = progress
        self._folders: dict[str, str] = {}
        self.calibration: Calibration | None = None

    def convert(self, format_name: str) -> bytes:
        """The model's bytes in a format.

        Raises:
            ConversionError: If TFLite has no builtin op for something, with the layers that it is in.
        """
        try:
            return self._converted(format_name)
        except ConversionError as error:
            names = unconvertible_layers(self._model, format_name)
            raise ConversionError(f"{error} (in {', '.join(map(repr, names))})" if names else str(error)) from error

    def _converted(self, format_name):
        if format_name not in quantize.NEEDS_CALIBRATION:
            with self._progress(f"{format_name}: converting"):
                return convert(self._folder("float32"), quantize.configure(format_name))
        calibration = self._calibrated()
        if format_name == "int8":
            return self._selectively(calibration) if self._options.int8_float_parts else calibration.content
        images = calibration.images
        with self._progress(f"{format_name}: converting", len(images), "images") as phase:
            configure = quantize.configure(format_name, images, phase.advance)
            return convert(self._folder("int8", calibration.units), configure)

    def _calibrated(self):
        if self.calibration is None:
            with self._progress(f"int8: classifying {len(self._images)} calibration images"):
                expected = self._model.predict(self._images, batch_size=_KERAS_BATCH, verbose=0)

            def measure(content, seen):
                actual = runtime.predict(content, self._images, seen=seen)
                return distance(actual, expected, self._options.output == "logits")

            self.calibration = calibrate(self._model, self._images, self._int8, measure, self._progress)
        return self.calibration

    def _int8(self, units, images, seen=None):
        return convert(self._folder("int8", units), quantize.configure("int8", images, seen))

    def _folder(self, arithmetic, units=None):
        """The SavedModel of the graph for an arithmetic, its channels in their own units or in units of 1."""
        kind = f"{arithmetic}_in_units" if units else arithmetic
        if kind not in self._folders:
            function = InferenceFunction(self._model, self._options.large_kernels, units, arithmetic)
            folder = self._folders[kind] = os.path.join(self._scratch, kind)
            size, batch = self._model.input_shape[1], self._options.batch_size or None
            write_saved_model(function, folder, size, batch, self._options.output)
        return self._folders[kind]

    def _selectively(self, calibration):
        number = self._options.int8_float_parts
        names = part_names(self._model)
        with self._progress("int8: measuring each part alone", len(names), "parts") as phase:
            content = convert(self._folder("int8", calibration.units))
            content, errors = quantize_selectively(content, calibration.images, names, number, seen=phase.advance)
        for place, (part, error) in enumerate(errors.items()):
            kept = ", stays float" if place < number else ""
            logging.info(f"int8: {part:<10} alone: mean squared error {error:.1e}{kept}")
        return content
