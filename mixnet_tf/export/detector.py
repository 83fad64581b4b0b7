"""The export of a detector: its outputs, their gates, and the metadata that MediaPipe's ObjectDetector reads."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from mixnet_tf.detection import IOU_THRESHOLD, decode, suppress, suppress_boxes
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_detection_evaluator
from mixnet_tf.export import gates, postprocess, runtime
from mixnet_tf.export.arithmetics import CPU, arithmetic_of
from mixnet_tf.export.half_precision import HalfPrecision
from mixnet_tf.export.metadata import Output
from mixnet_tf.export.options import BOXES, EXPORTED_SCORE_THRESHOLD, NMS, RAW, ExportOptions
from mixnet_tf.export.postprocess import decoding_of
from mixnet_tf.export.quantize import NEEDS_CALIBRATION, TFLITE_FORMATS
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.export.tasks import Task, Verified
from mixnet_tf.networks import taking_pixels
from mixnet_tf.progress import Progress

_BATCH = 32  # images
# A function of images (batch, size, size, 3) to "boxes", "scores", "classes" and "count", as `detect` gives them.
Predict = Callable[[np.ndarray], dict[str, np.ndarray]]


class Detector(Task):
    """A detector to export; the arguments are those of `Task`.

    int8 is calibrated by the encoded boxes and scores, which the postprocessing would hide. int8_full has uint8 input,
    but its outputs stay float32: a box in 8 bits would be off by a pixel in 256.
    """

    kind = "an object detector"
    formats = TFLITE_FORMATS
    foreign_options = ("images", "crop", "resizing", "batch_size", "output", "int8_float_parts")
    measured_on = "objects"
    measured_form = RAW
    float_behind = "RESHAPE"
    allows_custom_ops = True
    threads = (1,)

    def __init__(self, model: keras.Model, options: ExportOptions) -> None:
        super().__init__(model, options)
        if any(layer.compute_dtype != "float32" for layer in model.layers):
            raise InputError(f"Model {model.name!r} computes in half precision; export what a run leaves, final.keras.")
        others = [each for each in options.accelerator if each != CPU]
        if others and options.postprocess == NMS:
            raise InputError(f"postprocess: a detector for {' and '.join(others)} has boxes or none; received {NMS!r}.")
        self._given, self.model = model, taking_pixels(model)
        score, overlap = options.score_threshold, options.iou_threshold
        self.decoding = decoding_of(
            model,
            EXPORTED_SCORE_THRESHOLD if score is None else score,
            IOU_THRESHOLD if overlap is None else overlap,
        )
        self.classes = self.decoding.classes

    def form_for(self, accelerator: str) -> str:
        return self.options.postprocess_for(accelerator)

    def shown_options(self) -> dict[str, Any]:
        forms = dict.fromkeys(map(self.form_for, self.options.accelerator))
        thresholds = self._thresholds(NMS) if NMS in forms else {}
        return {**super().shown_options(), "postprocess": ",".join(forms), **thresholds}

    def graph(self, form: str, format_name: str, accelerator: str, units: Any) -> Callable:
        arithmetic = arithmetic_of(format_name, accelerator)
        if format_name not in NEEDS_CALIBRATION:
            function = InferenceFunction(self.model, self.options.large_kernels, units, arithmetic)
            return self._finished(function, form)
        # The inputs of each output's concatenation, one per feature map.
        maps = {name: keras.tree.flatten(self.model.get_layer(name).input) for name in self.model.output}
        outputs = {postprocess.part(name, place): tensor for name in maps for place, tensor in enumerate(maps[name])}
        apart = keras.Model(self.model.input, outputs, name=self.model.name)
        function = InferenceFunction(apart, self.options.large_kernels, units, arithmetic)
        return self._finished(postprocess.Joined(function, maps), form)

    def graph_as_written(self) -> Callable:
        return self._finished(AsWritten(self.model), self.form_for(CPU))

    def _finished(self, function, form):
        if form == RAW:
            return postprocess.Raw(function)
        return (postprocess.Suppressed if form == NMS else postprocess.Decoded)(function, self.decoding)

    def answers(self, images: Any) -> Any:
        function = postprocess.Raw(AsWritten(self.model))
        found = [function(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        return {name: np.concatenate([each[name].numpy() for each in found]) for name in found[0]}

    def distance(self, content: bytes, images: Any, expected: Any, seen: Callable[[], None] | None = None) -> float:
        return distance(outputs_of(content, images, seen), expected, self.decoding.scales)

    def measure(self, images: Any, labels: Any, objects: Any, progress: Progress) -> None:
        self._images, self._objects, self._progress = images, objects, progress
        with progress(f"Keras: {len(images)} images"):
            self._expected = self.answers(images)
        measured = self._measured(None)
        self._precision, self.num_images = dict.fromkeys((BOXES, RAW), measured["AP"]), measured["num_images"]
        if NMS in map(self.form_for, self.options.accelerator):
            self._precision[NMS] = self._measured(self._by_keras)["AP"]

    def _by_keras(self, images):
        """Keras' detections with the thresholds of the files that suppress."""
        return self._suppressed(self.answers(images), NMS)

    def _measured(self, predict: Predict | None) -> dict[str, Any]:
        return build_detection_evaluator(self._given, self._objects, predict=predict)(self._progress)

    def verify(self, format_name: str, path: str, content: Any, flex_ops: int, progress: Progress) -> Verified:
        row: dict[str, Any] = {}
        failures: list[str] = []
        form = _form_of(content)
        if form != NMS:
            expected = self._expected
            if form == BOXES:
                location = decode(expected[postprocess.CODES], self.decoding.anchors).numpy()
                expected = {postprocess.LOCATION: location, postprocess.SCORES: expected[postprocess.SCORES]}
            row = gates.compare_values(expected, outputs_of(content, self._images))
            failures = gates.judge_values(format_name, row)
        measured = self._measured(self.predict_function(content))
        precision, lost = gates.judge_precision(self._precision[form], measured["AP"], format_name)
        warnings: list[str] = []
        if form == NMS:
            row, warnings = gates.judge_thresholds(self._precision[RAW], self._precision[NMS])
        return row | precision, failures + lost, warnings

    def verify_in_half_precision(self, content: bytes, simulated: HalfPrecision, progress: Progress) -> Verified:
        form = _form_of(content)
        # Simulated before the op that suppresses, where the scores have the background.
        names = [postprocess.CODES, postprocess.SCORES] if form == NMS else runtime.output_names(content)

        def predict(images):
            found = dict(zip(names, simulated(images), strict=True))
            if form == NMS:
                found[postprocess.SCORES] = found[postprocess.SCORES][..., 1:]
            return self._suppressed(found, form)

        after = self._measured(predict)["AP"]
        row, failures = gates.judge_precision(self._precision[form], after, gates.HALF_PRECISION)
        return row, failures, []

    def predict_function(self, content: bytes) -> Predict:
        """Makes a file a function of images, which returns what `detect` returns."""

        def by_the_file(images):
            found = outputs_of(content, images)
            return {
                "boxes": np.clip(found[postprocess.LOCATION], 0, 1),
                "scores": found[postprocess.SCORE],
                "classes": found[postprocess.CATEGORY].astype(np.int32),
                "count": found[postprocess.COUNT].astype(np.int32).reshape(-1),
            }

        form = _form_of(content)
        return by_the_file if form == NMS else lambda images: self._suppressed(outputs_of(content, images), form)

    def _suppressed(self, found, form):
        """The detections from outputs without suppression, with the thresholds of a form."""
        thresholds = self._thresholds(form)
        if postprocess.LOCATION in found:
            return suppress_boxes(found[postprocess.LOCATION], found[postprocess.SCORES], **thresholds)
        return suppress(found[postprocess.CODES], found[postprocess.SCORES], self.decoding.anchors, **thresholds)

    def _thresholds(self, form):
        """Those of the files that suppress; other files are measured with COCO's."""
        names = ("score_threshold", "iou_threshold") if form == NMS else ()
        return {name: getattr(self.decoding, name) for name in names}

    def described_outputs(self, content: bytes) -> tuple[list[Output], dict[str, bytes]]:
        custom = {}
        if _form_of(content) == RAW:
            custom = {postprocess.DETECTOR_METADATA: postprocess.anchors_metadata(self.decoding)}
        return [postprocess.described(name, self.decoding) for name in runtime.output_names(content)], custom


def _form_of(content):
    """The form of a file, by the names of its outputs."""
    names = runtime.output_names(content)
    return RAW if postprocess.CODES in names else NMS if postprocess.COUNT in names else BOXES


def outputs_of(content: bytes, images: np.ndarray, seen: Callable[[], None] | None = None) -> dict[str, np.ndarray]:
    """The outputs of a file for images, one by one, by their names; `seen` is called after each image."""
    run, found = runtime.signature(content), []
    for image in images:
        found.append(run(np.asarray(image[np.newaxis], np.float32)))
        if seen is not None:
            seen()
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def distance(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], scales: tuple[float, ...]) -> float:
    """Distance of encoded boxes and scores from Keras', where Keras finds something.

    The mean over images of the anchors' differences, weighted by Keras' largest score at the anchor: of the scores, and
    of the encoded boxes as parts of the anchor's size.

    Args:
        actual: "boxes" (images, anchors, 4) and "scores" (images, anchors, classes).
        expected: The same of Keras.
        scales: Those of `Decoding`.
    """
    scores, codes = ((actual[name] - expected[name]) for name in (postprocess.SCORES, postprocess.CODES))
    weights = expected[postprocess.SCORES].max(-1)
    of_anchors = np.abs(scores).sum(-1) + weights * np.abs(codes / np.array(scales)).mean(-1)
    return float(np.minimum(of_anchors.sum(-1) / weights.sum(-1), 1.0).mean())
