"""The export of a classifier: its outputs, gates and metadata."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from mixnet_tf.export import gates, publish, runtime
from mixnet_tf.export.arithmetics import arithmetic_of
from mixnet_tf.export.calibrate import distance
from mixnet_tf.export.half_precision import HalfPrecision
from mixnet_tf.export.images import first, in_batches
from mixnet_tf.export.metadata import FEATURES, LABELS_OF_AXIS, Output
from mixnet_tf.export.options import FORMATS, ExportOptions
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.export.selective import check_float_parts
from mixnet_tf.export.serving import predict_saved_model
from mixnet_tf.export.target import target_model
from mixnet_tf.export.tasks import Task, Verified
from mixnet_tf.networks import resizing_of
from mixnet_tf.progress import Progress

_BATCH = 32  # images


class Classifier(Task):
    """A classifier to export; the arguments are those of `Task`."""

    kind = "an image classifier"
    formats = FORMATS
    foreign_options = ("postprocess", "score_threshold", "iou_threshold")
    measured_on = "labels"
    reading = "classifying "
    measured_form = ""
    threads = (1, 2)

    def __init__(self, model: keras.Model, options: ExportOptions) -> None:
        super().__init__(model, options)
        self.model = target_model(model, options.output)
        self.classes = self.model.output_shape[-1]
        self.resizing = resizing_of(self.model, options.resizing).given(options.crop)
        self.foreign_layers = InferenceFunction(self.model, options.large_kernels).foreign
        self._of_keras: dict[str, float] | None = None
        if options.int8_float_parts:
            check_float_parts(self.model, options.int8_float_parts)

    def form_for(self, accelerator: str) -> str:
        return self.measured_form

    def graph(self, form: str, format_name: str, accelerator: str, units: Any) -> Callable:
        arithmetic = arithmetic_of(format_name, accelerator)
        return InferenceFunction(self.model, self.options.large_kernels, units, arithmetic)

    def graph_as_written(self) -> Callable:
        return AsWritten(self.model)

    def answers(self, images: Any, batch_size: int = _BATCH) -> Any:
        return np.concatenate([self.model.predict_on_batch(batch) for batch in in_batches(images, batch_size)])

    def distance(self, content: bytes, images: Any, expected: Any, seen: Callable[[], None] | None = None) -> float:
        return distance(runtime.predict(content, images, seen=seen), expected, self.options.output == "logits")

    def measure(self, images: Any, labels: Any, objects: Any, progress: Progress) -> None:
        self.num_images, self._images, self._labels = len(images), images, labels
        with progress(f"Keras: classifying {len(images)} images"):
            self._expected = self.answers(images)

    def verify(self, format_name: str, path: str, content: Any, flex_ops: int, progress: Progress) -> Verified:
        if content is None:
            with progress("saved_model: verifying"):
                actual = predict_saved_model(publish.aside(path), self._images, self.options.output)
        else:
            with progress(f"{format_name}: verifying", self.num_images, "images") as phase:
                actual = runtime.predict(content, self._images, seen=phase.advance)
        row = gates.compare(self._expected, actual, self._labels)
        largest = 1.0 if self.options.output == "probabilities" else float(np.abs(self._expected).max())
        failures, warnings = gates.judge(format_name, {**row, "flex_ops": flex_ops}, largest)
        if failures and format_name in ("fp32", "saved_model"):
            row |= self._rounding(progress)
            failures, warnings = gates.judge(format_name, {**row, "flex_ops": flex_ops}, largest)
        return row, failures, warnings

    def verify_in_half_precision(self, content: bytes, simulated: HalfPrecision, progress: Progress) -> Verified:
        images = first(self._images, self.options.half_precision_images)
        with progress("half precision: simulating", len(images), "images") as phase:
            [actual] = simulated(images, phase.advance)
        labels = None if self._labels is None else self._labels[: len(images)]
        row = gates.compare(self._expected[: len(images)], actual, labels)
        return row, *gates.judge(gates.HALF_PRECISION, row)

    def _rounding(self, progress):
        """How far Keras differs from itself; measured once, where a file differs by more than most networks."""
        if self._of_keras is None:
            with progress(f"Keras: classifying {self.num_images} images one by one"):
                self._of_keras = gates.rounding(self._expected, self.answers(self._images, 1))
        return self._of_keras

    def described_outputs(self, content: bytes) -> tuple[list[Output], dict[str, bytes]]:
        output = self.options.output
        limits = (0.0, 1.0) if output == "probabilities" else None
        return [Output(output, f"One of the {output} per class.", FEATURES, limits, LABELS_OF_AXIS)], {}
