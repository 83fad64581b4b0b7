"""SSDLite: the paper's sizes, its maps, and its file."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

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
_NAMES = ("cat", "dog", "owl")


def _trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network file."""
    path = tmp_path_factory.mktemp("network") / "small.json"
    path.write_text(json.dumps(tiny.DETECTOR_NETWORK))
    return str(path)


def _build(network, class_names=_NAMES, **options):
    return mixnet_tf.SSDLite(network, 3, (64, 64, 3), class_names=class_names, **options)


@pytest.fixture(scope="module")
def saved(detector, tmp_path_factory):
    """The `.keras` file of `detector`."""
    path = tmp_path_factory.mktemp("detector") / "detector.keras"
    detector.save(path)
    return path


@pytest.fixture(scope="module")
def fresh_logits():
    """What `detector` gave for two images with its first weights."""
    return []


@pytest.fixture(scope="module")
def detector(network, fresh_logits):
    model = _build(network)
    fresh_logits.append(model(tiny.images(2, 64, 64, 3))["logits"].numpy())
    tiny.randomise(model)
    return model


_CHECKED = (("mobilenet-v1", 3), ("mobilenet-v2", (3, 5, 7)))  # the others are soak's


@pytest.mark.parametrize(
    "network, kernel_size",
    [
        pytest.param(network, size, marks=() if (network, size) in _CHECKED else pytest.mark.soak)
        for network, sizes in _TABLE_1.items()
        for size in sizes
    ],
)
def test_sizes_are_those_of_the_papers_table_1(network, kernel_size):
    millions, billions = _TABLE_1[network][kernel_size]
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


def test_a_fresh_detector_finds_hardly_anything(detector, fresh_logits):
    np.testing.assert_allclose(fresh_logits[0], -4.6, atol=0.6)


def test_a_network_without_stride_32_is_refused_with_its_strides(tmp_path):
    network = {"blocks": ["r1_k3_a1_p1_s22_e1_i8_o8", "r2_k3_a1_p1_s22_e1_i8_o8"], "params": {}}
    (tmp_path / "short.json").write_text(json.dumps(network))
    with pytest.raises(ValueError, match=r"a block of stride 32; the stem and blocks of 'short' have \[2, 4, 8, 8\]"):
        mixnet_tf.SSDLite(str(tmp_path / "short.json"), 3)


@pytest.mark.parametrize("include_top", [True, False])
def test_a_model_is_taken_with_its_layers(include_top, network):
    taken = mixnet_tf.build_model(network, input_shape=(64, 64, 3), include_top=include_top)
    tiny.randomise(taken)
    model = mixnet_tf.SSDLite(taken, 3, (64, 64, 3))
    shared = [layer for part in parts(model).values() for layer in part]
    assert all(taken.get_layer(layer.name) is layer for layer in shared)
    assert not any(isinstance(layer, keras.layers.Dense) for layer in model.layers)


def test_backbone_weights_are_a_classifiers_and_weights_a_detectors(tmp_path, network, detector, saved):
    classifier = mixnet_tf.build_model(network, input_shape=(32, 32, 3))
    tiny.randomise(classifier, seed=1)
    classifier.save(tmp_path / "classifier.keras")

    model = _build(network, backbone_weights=tmp_path / "classifier.keras")
    for part in parts(model).values():
        for layer in part:
            for value, expected in zip(
                layer.get_weights(), classifier.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(value, expected)
    detector.save_weights(tmp_path / "detector.weights.h5")
    mixnet_tf.load_weights(model, tmp_path / "detector.weights.h5")
    for restored in (model, _build(network, weights=saved)):
        for value, expected in zip(tiny.values(restored), tiny.values(detector), strict=True):
            np.testing.assert_array_equal(value, expected)
    with pytest.raises(ValueError, match="does not fit model"):
        _build(network, weights=tmp_path / "classifier.keras")


def test_predictors_of_the_same_classes_are_put_into_another_order(network, detector, saved):
    target = _build(network, class_names=_NAMES[::-1])
    with tiny.refusal(target, ValueError, "has the classes 'cat', 'dog', 'owl', but model .* has 'owl', 'dog', 'cat'"):
        mixnet_tf.load_weights(target, saved)
    read = read_weights(saved)
    assign(target, read.in_order_of(_NAMES[::-1], [layer.name for layer in class_predictors(target)]))
    pictures = tiny.images(1, 64, 64, 3)
    logits, expected = (model(pictures)["logits"].numpy() for model in (target, detector))
    np.testing.assert_allclose(logits, expected[..., [0, 3, 2, 1]], rtol=1e-4, atol=1e-4)
