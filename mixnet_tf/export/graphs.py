"""A Keras model in the TFLite formats: its rewritten graphs, each written once, converted."""

import os

from absl import logging

from mixnet_tf.export import quantize
from mixnet_tf.export.calibrate import calibrate
from mixnet_tf.export.convert import convert, write_saved_model
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.selective import part_names, quantize_selectively
from mixnet_tf.progress import silent


class Graphs:
    """A model to convert.

    Args:
        model: What `target_model` returned.
        options: An `export.Options`.
        images: (images, size, size, 3), float32 in [0, 255], to calibrate int8 with; None without int8.
        scratch: A folder for SavedModels.
        progress: Shows the phases of the work.

    Attributes:
        calibration: The `Calibration` of the int8 formats, once one was converted.
    """

    def __init__(self, model, options, images, scratch, progress=silent):
        self._model, self._options, self._images, self._scratch = model, options, images, scratch
        self._progress = progress
        self._folders = {}
        self.calibration = None

    def convert(self, format_name):
        """The model's bytes in a format."""
        if format_name not in quantize.NEEDS_CALIBRATION:
            with self._progress(f"{format_name}: converting"):
                return convert(self._folder("float32"), quantize.configure(format_name))
        if self.calibration is None:
            logits = self._options.output == "logits"
            self.calibration = calibrate(self._model, self._images, self._int8, logits, self._progress)
        if format_name == "int8":
            return self._selectively() if self._options.int8_float_parts else self.calibration.content
        images = self.calibration.images
        with self._progress(f"{format_name}: converting", len(images), "images") as phase:
            configure = quantize.configure(format_name, images, phase.advance)
            return convert(self._folder("int8", self.calibration.units), configure)

    def _int8(self, units, images, seen=None):
        return convert(self._folder("int8", units), quantize.configure("int8", images, seen))

    def _folder(self, arithmetic, units=None):
        """The SavedModel of the graph for an arithmetic, its channels in units or as they are."""
        kind = f"{arithmetic}_in_units" if units else arithmetic
        if kind not in self._folders:
            function = InferenceFunction(self._model, self._options.large_kernels, units, arithmetic)
            folder = self._folders[kind] = os.path.join(self._scratch, kind)
            size, batch = self._model.input_shape[1], self._options.batch_size or None
            write_saved_model(function, folder, size, batch, self._options.output)
        return self._folders[kind]

    def _selectively(self):
        number = self._options.int8_float_parts
        names = part_names(self._model)
        with self._progress("int8: measuring each part alone", len(names), "parts") as phase:
            content = convert(self._folder("int8", self.calibration.units))
            images = self.calibration.images
            content, errors = quantize_selectively(content, images, names, number, seen=phase.advance)
        for place, (part, error) in enumerate(errors.items()):
            kept = ", stays float" if place < number else ""
            logging.info(f"int8: {part:<10} alone: mean squared error {error:.1e}{kept}")
        return content
