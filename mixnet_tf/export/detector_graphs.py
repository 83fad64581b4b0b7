"""A detector in the TFLite formats, and what each of them answers."""

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from mixnet_tf.export import postprocess, quantize, runtime
from mixnet_tf.export.calibrate import Calibration, calibrate
from mixnet_tf.export.convert import convert, convert_but, write_saved_model
from mixnet_tf.export.detector_options import DetectorOptions
from mixnet_tf.export.postprocess import Decoding
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.progress import Progress, silent

_BATCH = 32  # images


class DetectorGraphs:
    """A detector to convert.

    Args:
        model: As `export_detector` takes it.
        decoding: Its `Decoding`.
        options: A `DetectorOptions`.
        images: (images, size, size, 3), float32 in [0, 255], to calibrate int8 with; None without int8.
        scratch: A folder for SavedModels.
        progress: Shows the phases of the work.

    Attributes:
        calibration: The `Calibration` of int8, once it was converted.
    """

    def __init__(
        self,
        model: keras.Model,
        decoding: Decoding,
        options: DetectorOptions,
        images: Any,
        scratch: str,
        progress: Progress = silent,
    ) -> None:
        self._model, self._decoding, self._options, self._images = model, decoding, options, images
        self._scratch, self._progress = scratch, progress
        self._folders: dict[str, str] = {}
        self._behind: dict[str, list[str]] = {}
        self.calibration: Calibration | None = None

    def convert(self, format_name: str) -> bytes:
        """The detector's bytes in a format."""
        if format_name != "int8":
            with self._progress(f"{format_name}: converting"):
                return convert(self._folder("float32", self._options.postprocess), _custom_ops(format_name))
        if self.calibration is None:
            self.calibration = self._calibrated()
        if self._options.postprocess == "none":
            return self.calibration.content
        images = self.calibration.images
        with self._progress("int8: converting", len(images), "images") as phase:
            return self.int8(self._options.postprocess, images, self.calibration.units, phase.advance)

    def int8(self, form: str, images: np.ndarray, units: Any = None, seen: Callable[[], None] | None = None) -> bytes:
        """The detector in int8 up to each map's answers.

        Args:
            form: "nms" or "none", as the options' `postprocess`.
            images: Those whose ranges are taken.
            units: Of the channels, as `Activations.units` gives them; None: as they are.
            seen: Called without arguments for each image.
        """
        folder = self._folder("int8", form, units)
        if folder not in self._behind:
            self._behind[folder] = runtime.tensors_behind(convert(folder, _custom_ops("fp32")), "RESHAPE")
        return convert_but(folder, self._behind[folder], _custom_ops("int8", images, seen))

    def _calibrated(self):
        """How int8 is calibrated, judged by the codes and scores that the postprocessing would hide."""
        expected = keras_outputs(self._model, self._images)

        def measure(content, seen):
            return distance(tflite_outputs(content, self._images, seen), expected, self._decoding.scales)

        def to_int8(units, images, seen):
            return self.int8("none", images, units, seen)

        return calibrate(self._model, self._images, to_int8, measure, self._progress)

    def _folder(self, arithmetic, form, units=None):
        """The SavedModel of a graph with or without the postprocessing, its channels in their own units or in 1."""
        kind = f"{arithmetic}_{form}{'_in_units' if units else ''}"
        if kind not in self._folders:
            function = self._joined(units) if arithmetic == "int8" else self._rewritten(self._model)
            folder = self._folders[kind] = os.path.join(self._scratch, kind)
            _write(function, self._decoding, form, folder, self._model.input_shape[1])
        return self._folders[kind]

    def _rewritten(self, model, units=None, arithmetic="float32"):
        return InferenceFunction(model, self._options.large_kernels, units, arithmetic)

    def _joined(self, units):
        maps = _maps(self._model)
        return postprocess.Joined(self._rewritten(_apart(self._model, maps), units, "int8"), maps)


def _maps(model):
    """Of each output, the tensors that it puts side by side: a map's answers each."""
    return {name: keras.tree.flatten(model.get_layer(name).input) for name in model.output}


def _apart(model, maps):
    """A detector whose outputs are each map's answers, by the names that `postprocess.Joined` takes."""
    return keras.Model(
        model.input,
        {postprocess.part(name, place): tensor for name in maps for place, tensor in enumerate(maps[name])},
        name=model.name,
    )


def as_written(model: keras.Model, decoding: Decoding, options: DetectorOptions, scratch: str) -> bytes:
    """The plain float32 conversion of a detector; the arguments are those of `DetectorGraphs`."""
    _write(AsWritten(model), decoding, options.postprocess, scratch, model.input_shape[1])
    return convert(scratch, _custom_ops("fp32"))


def _write(function, decoding, form, folder, size):
    finished = postprocess.Suppressed(function, decoding) if form == "nms" else postprocess.Raw(function)
    write_saved_model(finished, folder, size, 1, "")


def _custom_ops(format_name, images=None, seen=None):
    """What a converter is told for a format, and that the postprocessing is none of its builtin ops."""
    set_format = quantize.configure(format_name, images, seen)

    def configure(converter):
        set_format(converter)
        converter.allow_custom_ops = True

    return configure


def keras_outputs(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the file without postprocessing is to give: the detector's codes, and its scores without the background."""
    function = postprocess.Raw(AsWritten(model))
    found = [function(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return {name: np.concatenate([each[name].numpy() for each in found]) for name in found[0]}


def tflite_outputs(content: bytes, images: np.ndarray, seen: Callable[[], None] | None = None) -> dict[str, np.ndarray]:
    """What a file gives for images, one by one, by the names of its outputs; `seen` is called after each."""
    return outputs(runtime.signature(content), images, seen)


def outputs(run: Callable, images: np.ndarray, seen: Callable[[], None] | None = None) -> dict[str, np.ndarray]:
    """As `tflite_outputs`, of a file that `runtime.signature` has opened."""
    found = []
    for image in images:
        found.append(run(np.asarray(image[np.newaxis], np.float32)))
        if seen is not None:
            seen()
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def distance(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], scales: tuple[float, ...]) -> float:
    """How far codes and scores are from Keras', for what Keras finds.

    The mean over images of the anchors' differences, weighted by Keras' largest score at the anchor: of the scores, and
    of the codes as parts of the anchor's size.

    Args:
        actual: "boxes" (images, anchors, 4) and "scores" (images, anchors, classes).
        expected: The same of Keras.
        scales: Of the codes.
    """
    scores, codes = ((actual[name] - expected[name]) for name in (postprocess.SCORES, postprocess.CODES))
    weights = expected[postprocess.SCORES].max(-1)
    of_anchors = np.abs(scores).sum(-1) + weights * np.abs(codes / np.array(scales)).mean(-1)
    return float(np.minimum(of_anchors.sum(-1) / weights.sum(-1), 1.0).mean())
