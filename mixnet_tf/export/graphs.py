"""A Keras model in the TFLite formats: its rewritten graphs, each written once, converted."""

import os
from collections.abc import Callable
from typing import Any

from absl import logging

from mixnet_tf.export import quantize, runtime
from mixnet_tf.export.activations import Activations
from mixnet_tf.export.arithmetics import CPU, arithmetic_of
from mixnet_tf.export.calibrate import Calibration, calibrate
from mixnet_tf.export.convert import ConversionError, convert, convert_partly, with_uint8_input, write_saved_model
from mixnet_tf.export.half_precision import LARGEST_IN_UNITS, computes_in_half_precision
from mixnet_tf.export.selective import part_names, quantize_selectively
from mixnet_tf.export.tasks import Task
from mixnet_tf.export.unconvertible import unconvertible_layers
from mixnet_tf.progress import Progress, silent


class Graphs:
    """The rewritten graphs of a model, and their conversion to TFLite.

    Args:
        task: The `Task` of the model.
        images: (images, size, size, 3), float32 in [0, 255], to calibrate int8 with, and to find channels that half
            precision could not hold; None without int8.
        scratch: A folder for SavedModels.
        progress: Shows the phases of the work.

    Attributes:
        calibration: The `Calibration` of the int8 formats, once one was converted.
    """

    def __init__(self, task: Task, images: Any, scratch: str, progress: Progress = silent) -> None:
        self._task, self._images, self._scratch, self._progress = task, images, scratch, progress
        self._folders: dict[str, str] = {}
        self._float_tensors: dict[str, list[str]] = {}
        self._measured: Activations | None = None
        self.calibration: Calibration | None = None

    def convert(self, format_name: str, accelerator: str = CPU) -> bytes:
        """Converts the model to a format for an accelerator, and returns its bytes.

        Raises:
            ConversionError: If TFLite has no builtin op for something, with the layers that it is in.
        """
        try:
            return self._converted(format_name, accelerator)
        except ConversionError as error:
            names = unconvertible_layers(self._task.model, format_name)
            raise ConversionError(f"{error} (in {', '.join(map(repr, names))})" if names else str(error)) from error

    def as_written(self) -> bytes:
        """Converts the Keras model's own graph to float32."""
        return convert(self._written("as_written", self._task.graph_as_written()), self._configure("fp32"))

    def int8(
        self,
        form: str,
        images: Any,
        units: Any = None,
        seen: Callable[[], None] | None = None,
        format_name: str = "int8",
        accelerator: str = CPU,
    ) -> bytes:
        """Converts the model to int8, and returns its bytes.

        Args:
            form: A form of `Task.form_for`, or `Task.measured_form`.
            images: Images that the ranges are measured on.
            units: Units of the channels, see `Activations.units`; None: 1.
            seen: Called without arguments for each image.
            format_name: "int8" or "int8_full".
            accelerator: One of `ACCELERATORS`.
        """
        folder = self._folder(form, format_name, units, accelerator)
        configure = self._configure(format_name, images, seen)
        if self._task.float_behind is None:
            return convert(folder, configure)
        if folder not in self._float_tensors:
            content = convert(folder, self._configure("fp32"))
            self._float_tensors[folder] = runtime.tensors_behind(content, self._task.float_behind)
        content = convert_partly(folder, self._float_tensors[folder], configure)
        return with_uint8_input(content) if format_name == "int8_full" else content

    def _converted(self, format_name, accelerator):
        task, form = self._task, self._task.form_for(accelerator)
        if format_name not in quantize.NEEDS_CALIBRATION:
            units = self._half_precision_units(format_name, accelerator)
            with self._progress(f"{format_name}: converting"):
                folder = self._folder(form, format_name, units, accelerator)
                return convert(folder, self._configure(format_name))
        if self.calibration is None:
            self.calibration = self._calibrated()
        if accelerator == CPU and format_name == "int8":
            if task.options.int8_float_parts:
                return self._selectively(self.calibration)
            if form == task.measured_form:
                return self.calibration.content
        images = self.calibration.images
        with self._progress(f"{format_name}: converting", len(images), "images") as phase:
            units = self.calibration.units
            return self.int8(form, images, units, phase.advance, format_name, accelerator)

    def _calibrated(self):
        task = self._task
        with self._progress(f"int8: {task.reading or 'Keras on '}{len(self._images)} calibration images"):
            expected = task.answers(self._images)
        return calibrate(
            self._activations(),
            self._images,
            lambda units, images, seen: self.int8(task.measured_form, images, units, seen),
            lambda content, seen: task.distance(content, self._images, expected, seen),
            self._progress,
        )

    def _activations(self):
        if self._measured is None:
            with self._progress(f"Measuring the activations of {len(self._images)} calibration images"):
                self._measured = Activations(self._task.model, self._images)
        return self._measured

    def _half_precision_units(self, format_name, accelerator):
        if self._images is None or not computes_in_half_precision(format_name, accelerator):
            return None
        units = self._activations().powers_of_two(LARGEST_IN_UNITS)
        if units:
            logging.info(f"{format_name}: channels after {len(units)} layers are scaled to fit into half precision.")
        return units

    def _folder(self, form, format_name, units=None, accelerator=CPU):
        """Folder of the SavedModel of the graph for a format; formats with the same graph share it."""
        numbers = "int8" if format_name in quantize.NEEDS_CALIBRATION else arithmetic_of(format_name, accelerator)
        kind = "_".join(filter(None, (accelerator, numbers, form, "in_units" if units else "")))
        if kind not in self._folders:
            self._folders[kind] = self._written(kind, self._task.graph(form, format_name, accelerator, units))
        return self._folders[kind]

    def _written(self, kind, function):
        folder, task = os.path.join(self._scratch, kind), self._task
        size, batch_size = task.model.input_shape[1], task.options.batch_size or None
        write_saved_model(function, folder, size, batch_size, task.options.output)
        return folder

    def _configure(self, format_name, images=None, seen=None):
        return quantize.configure(format_name, images, seen, self._task.allows_custom_ops)

    def _selectively(self, calibration):
        number = self._task.options.int8_float_parts
        names = part_names(self._task.model)
        with self._progress("int8: measuring each part alone", len(names), "parts") as phase:
            content = convert(self._folder(self._task.measured_form, "int8", calibration.units))
            content, errors = quantize_selectively(content, calibration.images, names, number, seen=phase.advance)
        for place, (part, error) in enumerate(errors.items()):
            kept = ", stays float" if place < number else ""
            logging.info(f"int8: {part:<10} alone: mean squared error {error:.1e}{kept}")
        return content
