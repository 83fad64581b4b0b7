"""Networks with random weights as TFLite files: by a plain conversion, and as the export makes them."""

import os
import tempfile

import keras
import numpy as np

from mixnet_tf import SSDLite, build_model
from mixnet_tf.export import LARGE_KERNELS, Classifier, Detector, ExportOptions, quantize
from mixnet_tf.export.convert import convert, write_saved_model
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.rewrite import AsWritten

PLAIN = "plain"  # Keras' own graph, as TensorFlow's converter takes it
_SPREAD = 3.0  # standard deviation of the logits
FORMS = (PLAIN, *LARGE_KERNELS)


def images(size, count=2):
    """(count, size, size, 3), float32 in [0, 255]."""
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def model(name, size, detector_classes=None):
    """A network, or an SSDLite detector on it, with random weights.

    Args:
        name: One of our networks, or the name of a function of `keras.applications`.
        size: Pixels.
        detector_classes: Classes of the detector; None: a classifier of ImageNet's classes.
    """
    keras.utils.set_random_seed(0)
    shape = (size, size, 3)
    if hasattr(keras.applications, name):
        made = getattr(keras.applications, name)(weights=None, input_shape=shape)
    elif detector_classes is None:
        made = build_model(name, input_shape=shape)
    else:
        made = SSDLite(name, detector_classes, shape)
    rng = np.random.default_rng(0)
    for layer in made.layers:
        # The statistics of a new layer are zeros and ones, which the converter leaves out.
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in (layer.gamma, layer.moving_variance):
                weight.assign(rng.uniform(0.8, 1.25, weight.shape))
            for weight in (layer.beta, layer.moving_mean):
                weight.assign(rng.uniform(-0.2, 0.2, weight.shape))
    if len(made.outputs) == 1:  # with probabilities of 0.001 each, no error would show
        logits = np.log(made.predict_on_batch(images(size, 1)))
        last = [layer for layer in made.layers if hasattr(layer, "kernel")][-1]
        last.kernel.assign(last.kernel * (_SPREAD / logits.std()))
    return made


def files(made, forms, formats, postprocess="none"):
    """Converts a model, and returns a dict from "form format" to a TFLite file's bytes.

    Args:
        made: A result of `model`; one of `keras.applications` has the form `PLAIN` alone.
        forms: Some of `FORMS`.
        formats: Some of `quantize.TFLITE_FORMATS`; int8 is calibrated with random images.
        postprocess: One of `POSTPROCESSES`, for a detector.
    """
    size, is_detector = made.input_shape[1], len(made.outputs) > 1
    seen = images(size, 8)
    task_class, options = (Detector, {"postprocess": postprocess}) if is_detector else (Classifier, {})
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for form in forms:
            folder = os.path.join(scratch, form)
            if form == PLAIN:
                function = AsWritten(made)
                if is_detector:
                    function = Detector(made, ExportOptions(**options)).graph_as_written()
                write_saved_model(function, folder, size, 1, "probabilities")
                for name in formats:
                    found[f"{form} {name}"] = convert(folder, quantize.configure(name, seen, None, is_detector))
                continue
            task = task_class(made, ExportOptions(large_kernels=form, **options))
            graphs = Graphs(task, seen, folder)
            for name in formats:
                calibrated = name in quantize.NEEDS_CALIBRATION
                content = graphs.int8(task.form, seen, format_name=name) if calibrated else graphs.convert(name)
                found[f"{form} {name}"] = content
    return found
