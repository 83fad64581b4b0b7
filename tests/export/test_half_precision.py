"""Half precision, simulated."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from exported_detector import suppression_of
from exported_digits import row

from mixnet_tf import build_model
from mixnet_tf.export import Classifier, Detector, ExportOptions, half_precision, quantize, report
from mixnet_tf.export.convert import convert, to_tflite, write_saved_model
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.half_precision import HalfPrecision
from mixnet_tf.export.rewrite import InferenceFunction

_RNG = np.random.default_rng(0)


def _rounded(value):
    return np.float16(value).astype(np.float32)


def _summed(terms, bias):
    """The sum in half precision by its definition, rounded after each product is added."""
    total = np.float16(bias)
    for x, weight in terms:
        total = np.float16(np.float32(total) + x * weight)
    return total


def test_sums_are_rounded_one_by_one():
    kernel, bias = _RNG.normal(size=(1, 1, 40, 6)).astype(np.float32), _RNG.normal(size=6).astype(np.float32)
    images = _RNG.normal(size=(2, 3, 3, 40)).astype(np.float32)
    content = to_tflite(lambda x: tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias), 3, channels=40)
    [found] = HalfPrecision(content)(images)
    x, weights = _rounded(images), _rounded(kernel)[0, 0]
    for place in np.ndindex(2, 3, 3, 6):
        pixel, out = x[place[:3]], place[3]
        expected = _summed(zip(pixel, weights[:, out], strict=True), bias[out])
        assert found[place] == max(expected, 0)
    exact = tf.nn.relu(tf.nn.conv2d(images, kernel, 1, "SAME") + bias).numpy()
    assert 1e-3 < np.abs(found - exact).max() < 0.1  # it does round


@pytest.mark.parametrize(
    ("size", "stride", "rate", "padding"), [(3, 1, 1, "SAME"), (5, 2, 1, "SAME"), (3, 1, 2, "SAME"), (4, 2, 1, "VALID")]
)
def test_depthwise_taps_are_those_of_tensorflow(size, stride, rate, padding):
    # Of whole numbers, which no sum rounds.
    kernel = _RNG.integers(-3, 4, (size, size, 2, 1)).astype(np.float32)
    images = _RNG.integers(0, 8, (2, 9, 9, 2)).astype(np.float32)

    def function(x):
        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), padding, dilations=(rate, rate)) + 1.0

    [found] = HalfPrecision(to_tflite(function, 9, channels=2))(images)
    np.testing.assert_array_equal(found, function(images))


@pytest.mark.parametrize("arithmetic", ["float16", pytest.param("gpu", marks=pytest.mark.soak)])
def test_a_network_answers_nearly_as_keras(arithmetic):
    model = build_model(blocks_args=list(tiny.SMALL), classes=3, input_shape=(40, 40, 3))
    tiny.randomise(model)
    images = tiny.images(40, 40, 40, 3)  # more than a batch
    [found] = HalfPrecision(to_tflite(InferenceFunction(model, arithmetic=arithmetic), 40))(images)
    difference = np.abs(found - model(images)).max()
    assert 1e-6 < difference < 2e-2


def test_an_overflow_is_told_before_it_happens():
    content = to_tflite(lambda x: tf.nn.relu(x * 100.0) * 0.01, 4)
    simulated = HalfPrecision(content)
    images = np.full((1, 4, 4, 3), 100.0)
    simulated(images)
    assert not simulated.warnings() and simulated.closest_to_overflow()["largest"] == 10_000
    simulated(np.full((1, 4, 4, 3), 200.0))
    [warning] = simulated.warnings()
    assert "reaches 20000, where numbers end at 65504" in warning
    [found] = simulated(np.full((1, 4, 4, 3), 1000.0))
    assert np.isinf(found).all() and simulated.closest_to_overflow()["largest"] == np.inf


@pytest.fixture
def large():
    """A small network whose stem, and first channels before a swish, reach thousands of times the usual values."""
    model = build_model(blocks_args=list(tiny.SMALL), classes=3, input_shape=(40, 40, 3))
    tiny.randomise(model)
    for name, reader in (("stem_bn", "block_0_mixconv"), ("block_1_expand_bn", "block_1_mixconv")):
        layer = model.get_layer(name)
        for variable in (layer.gamma, layer.beta):
            variable.assign(variable * 2.0**15)
        for kernel in model.get_layer(reader).kernels:
            kernel.assign(kernel * 2.0**-15)
    return model


def test_channels_too_large_for_half_precision_are_scaled_by_calibration_images(large, tmp_path):
    images = tiny.images(20, 40, 40, 3)
    task = Classifier(large, ExportOptions(formats=("fp16",)))
    as_it_is = HalfPrecision(Graphs(task, None, str(tmp_path / "as_it_is")).convert("fp16"))
    as_it_is(images)
    assert as_it_is.warnings()
    scaled = HalfPrecision(Graphs(task, images[:10], str(tmp_path / "scaled")).convert("fp16"))
    [found] = scaled(images)
    assert np.abs(found - large(images)).max() < 2e-2 and not scaled.warnings()


def test_each_arithmetic_has_its_own_graph_whatever_was_converted_before(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(15, 1, padding="same", use_bias=False)(image)  # padded to 16 in float32 alone
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    task = Classifier(keras.Model(image, x), ExportOptions(formats=("fp32", "fp16")))
    graphs = Graphs(task, None, str(tmp_path))
    ops = {name: report.structure(graphs.convert(name))["ops"] for name in ("fp32", "fp16")}
    assert "STRIDED_SLICE" in ops["fp32"] and "STRIDED_SLICE" not in ops["fp16"]


def test_an_op_that_is_not_simulated_is_named():
    with pytest.raises(ValueError, match="Half precision is not simulated for the op GELU"):
        HalfPrecision(to_tflite(lambda x: tf.nn.gelu(x, approximate=True), 4))


def test_only_fp16_lets_a_phone_compute_in_half_precision(tmp_path):
    kernel = np.ones((1, 1, 3, 8), np.float32)
    write_saved_model(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), str(tmp_path), 4, 1, "maps")
    allows = {
        name: b"fp16accfp16" in convert(str(tmp_path), quantize.configure(name))
        for name in ("fp32", "fp16", "fp16_weights")
    }
    assert allows == {"fp32": False, "fp16": True, "fp16_weights": False}
    computes = half_precision.computes_in_half_precision
    assert [computes(name, "cpu") for name in ("fp32", "fp16", "fp16_weights", "int8")] == [False, True, False, False]
    assert [computes(name, "gpu") for name in ("fp32", "fp16", "fp16_weights", "int8")] == [True, True, True, False]


@pytest.mark.soak
def test_the_report_has_the_accuracy_in_half_precision(exported):
    found = row(exported, "fp16")
    half = found["half_precision"]
    assert abs(half["top_1_accuracy"] - found["top_1_accuracy"]) <= 0.02 and half["num_images"] == found["num_images"]
    assert found["max_difference"] < half["max_difference"] < 0.1 and 1 < half["largest"] < 16_000
    assert "half_precision" not in row(exported, "fp32") and "lost, half" in report.text(exported[1])


@pytest.mark.soak
@pytest.mark.parametrize("form", ["boxes", "none", "nms"])
def test_a_detector_finds_in_half_precision_what_it_does(form, detector, pictures, tmp_path, monkeypatch):
    task = Detector(detector, ExportOptions(postprocess=form))
    content = Graphs(task, None, str(tmp_path)).convert("fp16")
    predicted = []
    monkeypatch.setattr(task, "_measured", lambda predict: predicted.append(predict(pictures)) or {"AP": 0.441})
    task._precision = {form: 0.45}
    entries, failures, _ = task.verify_in_half_precision(content, HalfPrecision(content), None)
    assert entries["AP_lost"] == pytest.approx(0.009) and not failures
    expected = suppression_of(detector)(*task.answers(pictures).values())
    np.testing.assert_allclose(predicted[0]["scores"][:, :3], expected["scores"][:, :3], atol=0.01)
