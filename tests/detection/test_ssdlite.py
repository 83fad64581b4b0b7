"""SSDLite: the paper's sizes, its maps, and its file."""

import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from scripts import ROOT

import mixnet_tf
from mixnet_tf.detection.ssdlite import anchors_of, class_predictors, map_shapes
from mixnet_tf.networks import parts
from mixnet_tf.weights import assign, read_weights

# The paper's table 1, COCO's 80 classes at 320 px: millions of parameters, billions of multiply-adds. What is missing,
# up to 0.02 M and 0.01 B, is on every row the same to the last digit printed; docs/FIDELITY.md.
_TABLE_1 = {
    "mobilenet-v1": {3: (5.12, 1.31), 5: (5.20, 1.38), (3, 5): (5.16, 1.35), 7: (5.32, 1.47), (3, 5, 7): (5.22, 1.39)},
    "mobilenet-v2": {3: (4.35, 0.79), 5: (4.47, 0.87), (3, 5): (4.41, 0.83), 7: (4.64, 0.98), (3, 5, 7): (4.49, 0.88)},
}
_TINY = tiny.TINY["tiny-s"][1]


def _trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


@pytest.fixture(scope="module")
def detector():
    model = mixnet_tf.SSDLite("mixnet-s", 3, (64, 64, 3), override_params=_TINY)
    tiny.randomise(model)
    return model


@pytest.mark.parametrize("network", _TABLE_1)
def test_sizes_are_those_of_the_papers_table_1(network):
    for kernel_size, (millions, billions) in _TABLE_1[network].items():
        model = mixnet_tf.SSDLite(network, 80, kernel_size=kernel_size)
        assert _trainable(model) / 1e6 == pytest.approx(millions, abs=0.03)
        assert mixnet_tf.multiply_adds(model) / 1e9 == pytest.approx(billions, abs=0.01)


@pytest.mark.parametrize(
    "network, first, second",
    [
        ("mixnet-s", "block_13_expand_activation", "head_activation"),
        ("mobilenet-v1", "block_10_project_activation", "block_12_project_activation"),
        ("mobilenet-v2", "block_13_expand_activation", "head_activation"),
    ],
)
def test_maps_begin_before_stride_32_and_at_the_end_of_the_network(network, first, second):
    model = mixnet_tf.SSDLite(network, 2, (96, 96, 3))
    for number, name in enumerate((first, second)):
        for kind in ("boxes", "logits"):
            assert model.get_layer(f"{kind}_{number}_depthwise_conv").input is model.get_layer(name).output
    assert map_shapes(model) == [(6, 6), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1)]
    channels = [model.get_layer(f"boxes_{number}_depthwise_conv").input.shape[-1] for number in range(2, 6)]
    assert channels == [512, 256, 256, 128]


def test_outputs_have_a_row_for_each_anchor(detector):
    outputs = detector(tf.zeros((2, 64, 64, 3)))
    count = (4 * 4) * 3 + (2 * 2 + 1 + 1 + 1 + 1) * 6
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "boxes": (2, count, 4),
        "logits": (2, count, 4),
    }
    assert all(value.dtype == tf.float32 for value in outputs.values())
    assert anchors_of(detector).shape == (count, 4)


def test_rows_are_the_predictors_position_by_position(detector):
    images = tiny.images(2, 64, 64, 3)
    first = keras.Model(detector.input, detector.get_layer("logits_0_conv").output)(images).numpy()
    logits = detector(images)["logits"].numpy()
    for row, column, anchor in ((0, 0, 0), (2, 1, 2), (3, 3, 1)):
        place = (row * 4 + column) * 3 + anchor
        np.testing.assert_array_equal(logits[:, place], first[:, row, column, 4 * anchor : 4 * anchor + 4])


def test_a_fresh_detector_finds_hardly_anything():
    model = mixnet_tf.SSDLite("mixnet-s", 3, (64, 64, 3), override_params=_TINY)
    logits = model(tiny.images(2, 64, 64, 3))["logits"].numpy()
    np.testing.assert_allclose(logits, -4.6, atol=0.6)


def test_a_network_without_stride_32_is_refused_with_its_strides(tmp_path):
    network = {"blocks": ["r1_k3_a1_p1_s22_e1_i8_o8", "r2_k3_a1_p1_s22_e1_i8_o8"], "params": {}}
    (tmp_path / "short.json").write_text(json.dumps(network))
    with pytest.raises(ValueError, match=r"a block of stride 32; the stem and blocks of 'short' have \[2, 4, 8, 8\]"):
        mixnet_tf.SSDLite(str(tmp_path / "short.json"), 3)


@pytest.mark.parametrize("include_top", [True, False])
def test_a_model_is_taken_with_its_layers(include_top):
    network = mixnet_tf.build_model("mixnet-s", _TINY, input_shape=(64, 64, 3), include_top=include_top)
    tiny.randomise(network)
    model = mixnet_tf.SSDLite(network, 3, (64, 64, 3))
    shared = [layer for part in parts(model).values() for layer in part]
    assert all(network.get_layer(layer.name) is layer for layer in shared)
    assert not any(isinstance(layer, keras.layers.Dense) for layer in model.layers)


def test_backbone_weights_are_a_classifiers_and_weights_a_detectors(tmp_path, detector):
    network = mixnet_tf.build_model("mixnet-s", _TINY, input_shape=(32, 32, 3))
    tiny.randomise(network, seed=1)
    network.save(tmp_path / "classifier.keras")

    def build(**weights):
        return mixnet_tf.SSDLite("mixnet-s", 3, (64, 64, 3), override_params=_TINY, **weights)

    model = build(backbone_weights=tmp_path / "classifier.keras")
    for part in parts(model).values():
        for layer in part:
            for value, expected in zip(layer.get_weights(), network.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(value, expected)
    for name in ("detector.keras", "detector.weights.h5"):
        save = detector.save if name.endswith(".keras") else detector.save_weights
        save(tmp_path / name)
        for value, expected in zip(tiny.values(build(weights=tmp_path / name)), tiny.values(detector), strict=True):
            np.testing.assert_array_equal(value, expected)
    with pytest.raises(ValueError, match="does not fit model"):
        build(weights=tmp_path / "classifier.keras")


def test_a_saved_detector_is_the_same_in_a_fresh_process(tmp_path, detector):
    images = tiny.images(2, 64, 64, 3)
    detector.save(tmp_path / "detector.keras")
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, keras, numpy as np, mixnet_tf; model = keras.models.load_model(sys.argv[1]); "
        "np.savez(sys.argv[3], **{k: v.numpy() for k, v in model(np.load(sys.argv[2])).items()})"
    )
    paths = [str(tmp_path / name) for name in ("detector.keras", "images.npy", "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "out.npz")
    for name, value in detector(images).items():
        np.testing.assert_array_equal(answers[name], value)


def test_predictors_of_the_same_classes_are_put_into_another_order(tmp_path):
    names = ("cat", "dog", "owl")
    source = mixnet_tf.SSDLite("mixnet-s", 3, (64, 64, 3), override_params=_TINY, class_names=names)
    tiny.randomise(source)
    source.save(tmp_path / "source.keras")
    target = mixnet_tf.SSDLite("mixnet-s", 3, (64, 64, 3), override_params=_TINY, class_names=names[::-1])
    with tiny.refusal(target, ValueError, "is of the classes 'cat', 'dog', 'owl', but model .* of 'owl', 'dog', 'cat'"):
        mixnet_tf.load_weights(target, tmp_path / "source.keras")
    read = read_weights(tmp_path / "source.keras")
    assign(target, read.in_order_of(names[::-1], [layer.name for layer in class_predictors(target)]))
    pictures = tiny.images(1, 64, 64, 3)
    logits, expected = (model(pictures)["logits"].numpy() for model in (target, source))
    np.testing.assert_allclose(logits, expected[..., [0, 3, 2, 1]], rtol=1e-4, atol=1e-4)
