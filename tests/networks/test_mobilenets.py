"""MobileNetV1 and V2 from the same builder, compared with keras.applications and with the paper's figures."""

import keras
import numpy as np
import pytest
import tiny

import mixnet_tf
from mixnet_tf.networks import count_parts, stages_and_params

THEIRS = {"mobilenet-v1": keras.applications.MobileNet, "mobilenet-v2": keras.applications.MobileNetV2}
PARAMETERS = {"mobilenet-v1": 4_253_864, "mobilenet-v2": 3_538_984}
# Multiply-adds that each kernel size and each number of groups adds to those of 3x3, millions: arithmetic on the
# networks that arXiv:1907.09595 describes.
MORE = {
    "mobilenet-v1": (
        {5: 30.9, 7: 77.3, 9: 139.1, 11: 216.4, 13: 309.1},
        {2: 15.5, 3: 35.4, 4: 61.8, 5: 90.2, 6: 125.4},
    ),
    "mobilenet-v2": (
        {5: 36.8, 7: 92.1, 9: 165.7, 11: 257.8, 13: 368.3},
        {2: 18.4, 3: 42.5, 4: 73.7, 5: 108.1, 6: 151.8},
    ),
}
# What figure 4's dots show, millions; 3x3 and more kernels, then groups. V2's 13x13 is cut by the frame.
DOTS = {
    "mobilenet-v1": (
        {3: 579, 5: 610, 7: 656.5, 9: 719, 11: 796, 13: 889},
        {2: 594.7, 3: 614.6, 4: 641.4, 5: 669.5, 6: 704.8},
    ),
    "mobilenet-v2": ({3: 309, 5: 347, 7: 402, 9: 476, 11: 568}, {2: 328, 3: 352, 4: 383.5, 5: 418, 6: 461.5}),
}
# The same for figure 6, exponential and dilated, for two to six groups, without what the paper counts besides (below).
EXPONENTIAL = {"mobilenet-v1": [594.3, 605.9, 613.6, 618.4, 621.3], "mobilenet-v2": [327.9, 341.8, 351, 356.7, 360.3]}
DILATED = {"mobilenet-v1": [581.8, 585.7, 590.8, 596.1, 602.9], "mobilenet-v2": [313.1, 318.3, 324.7, 332.0, 341.3]}
COUNTED_BESIDES = {"mobilenet-v1": 10.1, "mobilenet-v2": 8.7}  # activations, batch normalization


def _millions(name, kernel_size=None, **overrides):
    return sum(row.multiply_adds for row in count_parts(*stages_and_params(name, None, overrides, kernel_size))) / 1e6


def _kernels(groups):
    return tuple(range(3, 2 * groups + 2, 2))


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize(
    "width, size",
    [(0.5, 96), *(pytest.param(*other, marks=pytest.mark.soak) for other in ((1.0, 96), (0.5, 224), (1.0, 224)))],
)
def test_the_logits_are_those_of_keras_applications(name, width, size):
    theirs = THEIRS[name](weights=None, alpha=width, input_shape=(size, size, 3), classifier_activation=None)
    ours = mixnet_tf.build_model(
        name,
        None if width == 1 else {"depth_multiplier": width},
        input_shape=(size, size, 3),
        include_preprocessing=False,
        classifier_activation=None,
    )
    assert ours.count_params() == theirs.count_params()
    rng = np.random.default_rng(0)
    weights = [[w for layer in model.layers for w in layer.weights] for model in (theirs, ours)]
    for their, our in zip(*weights, strict=True):
        shape = tuple(their.shape)
        if their.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.8, 1.2, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.1, shape)
        else:
            taps = np.prod(shape[:2] if "depthwise" in their.path else shape[:-1])
            value = rng.normal(0, np.sqrt(2 / taps), shape)
        their.assign(value)
        our.assign(value.reshape(our.shape))
    images = rng.normal(0, 1, (2, size, size, 3)).astype("float32")
    expected = theirs(images).numpy().reshape(2, -1)
    np.testing.assert_allclose(ours(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", THEIRS)
def test_the_parameters_are_as_many_as_keras_applications(name):
    assert sum(row.parameters for row in count_parts(*stages_and_params(name))) == PARAMETERS[name]


@pytest.mark.parametrize("name", THEIRS)
def test_larger_kernels_cost_what_the_paper_says(name):
    base = _millions(name)
    for kernels, more in MORE[name][0].items():
        assert _millions(name, kernels) - base == pytest.approx(more, abs=0.1)
    for groups, more in MORE[name][1].items():
        assert _millions(name, _kernels(groups)) - base == pytest.approx(more, abs=0.1)
    for kernels, dot in DOTS[name][0].items():
        assert _millions(name, kernels) + COUNTED_BESIDES[name] == pytest.approx(dot, abs=2.5)
    for groups, dot in DOTS[name][1].items():
        assert _millions(name, _kernels(groups)) + COUNTED_BESIDES[name] == pytest.approx(dot, abs=2.5)


@pytest.mark.parametrize("name", THEIRS)
def test_exponential_and_dilated_groups_cost_what_the_paper_says(name):
    for groups in range(2, 7):
        kernels, besides = _kernels(groups), COUNTED_BESIDES[name]
        exponential = _millions(name, kernels, partition="exponential") + besides
        dilated = _millions(name, kernels, dilated=True) + besides
        assert exponential == pytest.approx(EXPONENTIAL[name][groups - 2], abs=0.3)
        assert dilated == pytest.approx(DILATED[name][groups - 2], abs=0.3)


@pytest.fixture(scope="module")
def mixed():
    """Both networks with mixed kernels; V2 without its top."""
    arguments = {"kernel_size": (3, 5, 7), "input_shape": (64, 64, 3)}
    return mixnet_tf.MobileNetV1(classes=3, **arguments), mixnet_tf.MobileNetV2(include_top=False, **arguments)


def test_the_kernels_of_every_depthwise_layer_are_replaced_and_the_stems_is_not(mixed):
    for model, count in zip(mixed, (13, 17), strict=True):
        mixconvs = [layer for layer in model.layers if isinstance(layer, mixnet_tf.MixConv)]
        assert len(mixconvs) == count
        assert {tuple(layer.kernel_size) for layer in mixconvs} == {(3, 5, 7)}
        assert model.get_layer("stem_conv").kernel_size == (3, 3)


@pytest.mark.parametrize("width, stages", [(0.25, 2), pytest.param(1.0, 4, marks=pytest.mark.soak)])
@pytest.mark.parametrize("overrides", [{}, {"partition": "exponential"}, {"dilated": True}])
def test_mobilenets_round_trip_through_keras_files(overrides, width, stages, tmp_path):
    overrides = {**overrides, "num_classes": 3, "depth_multiplier": width}
    blocks, params = mixnet_tf.get_model_params("mobilenet-v1", overrides)
    arguments = {"blocks_args": blocks[:stages], "override_params": params._asdict(), "input_shape": (32, 32, 3)}
    model = mixnet_tf.build_model(kernel_size=(3, 5, 7), **arguments)
    tiny.randomise(model)
    model.save(tmp_path / "m.keras")
    images = tiny.images(2, 32, 32, 3)
    other = mixnet_tf.build_model(kernel_size=(3, 5, 7), **arguments)
    mixnet_tf.load_weights(other, tmp_path / "m.keras")
    for again in (keras.models.load_model(tmp_path / "m.keras"), other):
        np.testing.assert_array_equal(again(images), model(images))


def test_mobilenets_have_endpoints_and_features(mixed):
    v1, v2 = mixed
    shapes = {name: tensor.shape[1:] for name, tensor in mixnet_tf.features_model(v1).output.items()}
    assert shapes == {
        "reduction_1": (32, 32, 64),
        "reduction_2": (16, 16, 128),
        "reduction_3": (8, 8, 256),
        "reduction_4": (4, 4, 512),
        "reduction_5": (2, 2, 1024),
    }
    assert mixnet_tf.features_model(v2).output["reduction_5"].shape == (None, 2, 2, 320)
