"""A small detector of three classes and its export."""

import keras
import numpy as np
import pytest
import tiny

import mixnet_tf
from mixnet_tf.detection import anchors_of, suppress
from mixnet_tf.export import ExportOptions, detector, export_model

SIZE = 64  # pixels
NAMES = ("cat", "dog", "cow")


def small(classes):
    """A detector of random weights on a network of a few blocks."""
    blocks, params = tiny.DETECTOR_NETWORK["blocks"], tiny.DETECTOR_NETWORK["params"]
    network = mixnet_tf.build_model(None, params, blocks_args=blocks, include_top=False, input_shape=(SIZE, SIZE, 3))
    return mixnet_tf.SSDLite(network, classes, (SIZE, SIZE, 3), name="small_ssdlite")


def build():
    """A detector whose answers differ from anchor to anchor, and whose boxes stay near the image."""
    keras.utils.set_random_seed(0)
    model = small(3)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.uniform(-0.2, 0.2, weight.shape))
    for number in range(6):
        layer = model.get_layer(f"logits_{number}_conv")
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
        layer.bias.assign(rng.normal(-1, 1, layer.bias.shape))
    return model


def pictures(count=6, seed=0):
    """Images with whole numbers, as files have them."""
    return np.round(tiny.images(count, SIZE, SIZE, 3, seed=seed))


def suppression_of(model):
    return lambda codes, scores: suppress(codes, scores, anchors_of(model))


def export(model, folder, pictures, measured=(0.5, 0.5), kept=None, calibration_images=None, **options):
    """An export whose AP is said to be the first number of `measured` in Keras and the second in each file.

    `kept` is Keras' with the thresholds of a file that suppresses, by default the first number, too. Also gives what
    is predicted: by Keras with these thresholds, if there is such a file, and by each file.
    """
    before, after = measured
    predicted = []

    def build_evaluator(model, objects, predict):
        precision = before if predict is None else after
        if getattr(predict, "__name__", "") == "_by_keras":
            precision = before if kept is None else kept
        if predict is not None:
            predicted.append(predict(pictures))
        return lambda progress: {"AP": precision, "num_images": len(pictures)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "build_detection_evaluator", build_evaluator)
        result = export_model(
            model,
            folder,
            pictures,
            objects="a split",
            calibration_images=calibration_images,
            label_names=NAMES,
            options=ExportOptions(**{"latency_runs": 0, **options}),
        )
    return result, predicted
