"""The forms in which layers compute in training: the same function of the same variables."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf.networks import (
    TPU_FORMS,
    BatchNormalization,
    Forms,
    GroupedConv2D,
    MixConv,
    set_forms,
    steps,
)
from mixnet_tf.networks.merged_kernels import dense_pieces


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_close(ours, theirs, tolerance=1e-5):
    """Within a float32 sum's rounding of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def results(layer, x, xla=False):
    """The output of a layer in training, and the gradients of a random sum of it by input and variables."""

    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if isinstance(layer, BatchNormalization) else layer(x)
            loss = tf.reduce_sum(y * random(*y.shape, seed=5))
        return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]

    compute = tf.function(compute, jit_compile=True, autograph=False) if xla else compute
    return [value.numpy() for value in compute(tf.constant(x))]


def assert_same_function(layer, x, attribute, value, xla=False):
    split = results(layer, x)
    setattr(layer, attribute, value)
    for ours, theirs in zip(results(layer, x, xla), split, strict=True):
        assert_close(ours, theirs)


def convolutions(layer, shape):
    """The names of the convolutions in a layer's graph."""
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec(shape)).graph
    return [op.type for op in graph.get_operations() if op.type in ("Conv2D", "DepthwiseConv2dNative")]


@pytest.mark.parametrize(
    "channels, filters, kernel_size", [(12, 8, [1, 1]), (13, 9, [1, 3]), (7, 5, [3]), (11, 12, [5, 3, 1])]
)
def test_a_dense_convolution_computes_the_groups(channels, filters, kernel_size):
    layer = GroupedConv2D(filters, kernel_size)
    assert_same_function(layer, random(2, 5, 6, channels), "dense", True)
    assert convolutions(layer, (2, 5, 6, channels)) == ["Conv2D"]


@pytest.mark.parametrize(
    "strides, kernel_size, padding, size, channels",
    [
        (1, [1, 3, 7], "same", (9, 7), 29),
        (2, [3, 5, 7, 9], "same", (28, 29), 48),
        (2, [3, 5, 7, 9], "symmetric", (8, 8), 48),
        (2, [7, 3, 5], "symmetric", (28, 29), 30),
        (3, [3, 5], "same", (9, 7), 7),
    ],
)
def test_grouped_convolutions_compute_the_depthwise_groups(strides, kernel_size, padding, size, channels):
    layer = MixConv(kernel_size, strides, padding=padding)
    assert_same_function(layer, random(2, *size, channels), "dense", True, xla=True)
    assert "DepthwiseConv2dNative" not in convolutions(layer, (2, *size, channels))


@pytest.mark.parametrize(
    "kernels, joins, expected",
    [
        # Groups of 12 channels: 8 of them, then 4 and 12, which is a multiple of 8 again.
        ([(3, 12), (5, 12)], [False, False], [(8, 3), (16, 5)]),
        ([(5, 12), (3, 12)], [False, False], [(8, 5), (16, 5)]),
        ([(3, 12), (5, 12)], [True, True], [(24, 5)]),
        ([(3, 8), (5, 8), (7, 8)], [True, True, False], [(16, 5), (8, 7)]),
        ([(3, 8), (5, 8), (7, 8)], [True, False, True], [(8, 3), (8, 5), (8, 7)]),
        ([(3, 3), (5, 3), (7, 5)], [False] * 3, [(11, 7)]),
        ([(3, 90), (5, 90), (7, 90), (9, 90)], [True] + [False] * 3, [(88, 3), (88, 5), (88, 7), (96, 9)]),
    ],
)
def test_pieces_have_eight_channels_or_a_multiple(kernels, joins, expected):
    arrays = [random(k, k, channels, 1, seed=k) for k, channels in kernels]
    pieces = dense_pieces(arrays, joins)
    assert [(channels, kernel.shape[0]) for channels, kernel in pieces] == expected
    for channels, kernel in pieces:
        assert kernel.shape[2:] == (math.gcd(channels, 8), channels)
        assert np.count_nonzero(kernel) <= kernel.shape[0] ** 2 * channels
    assert sum(np.count_nonzero(kernel) for _, kernel in pieces) == sum(array.size for array in arrays)


def paddings_of_kernel_gradients(layer, shape):
    """The padding of each op that computes a kernel's gradient."""

    def gradients(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        return tape.gradient(y, layer.trainable_variables)

    ops = tf.function(gradients).get_concrete_function(tf.TensorSpec(shape)).graph.get_operations()
    return [op.get_attr("padding") for op in ops if op.type == "DepthwiseConv2dNativeBackpropFilter"]


@pytest.mark.parametrize(
    "strides, kernel_size, size", [(1, [3, 5, 7], (9, 8)), (2, [3, 9], (8, 7)), (2, [1, 3], (7, 8)), (1, [5], (1, 2))]
)
def test_kernel_gradients_with_explicit_padding_are_the_usual_ones(strides, kernel_size, size):
    layer, shape = MixConv(kernel_size, strides), (2, *size, 7)
    assert_same_function(layer, random(*shape), "explicit", True)
    layer.explicit = False
    assert_same_function(layer, random(*shape), "explicit", True, xla=True)  # a CPU's run may go on on a TPU
    assert paddings_of_kernel_gradients(layer, (None, *shape[1:])) == [b"EXPLICIT"] * len(kernel_size)
    assert b"EXPLICIT" not in paddings_of_kernel_gradients(layer, (2, None, None, 7))


@pytest.mark.parametrize("layer", [MixConv([3, 5], dilated=True), MixConv([3, 5], 2, padding="symmetric")])
def test_dilated_kernels_and_symmetric_padding_keep_their_gradients(layer):
    assert_same_function(layer, random(2, 11, 10, 8), "explicit", True)


@pytest.mark.parametrize("layer", [MixConv([3, 5, 9], dilated=True), MixConv([1, 3], 2)])
def test_dilated_kernels_and_those_smaller_than_the_stride_stay_depthwise(layer):
    assert_same_function(layer, random(1, 11, 10, 8), "dense", True)
    assert set(convolutions(layer, (1, 11, 10, 8))) == {"DepthwiseConv2dNative"}


@pytest.fixture
def batch_norm():
    layer = BatchNormalization(momentum=0.9, epsilon=1e-2)
    layer.build((None, 8, 8, 5))
    tiny.randomise(layer)
    return layer


def test_batch_normalization_in_one_pass_is_the_fused_one(batch_norm):
    x = random(4, 8, 8, 5) * 3 + 1
    before = tiny.values(batch_norm)
    fused, statistics = results(batch_norm, x), tiny.values(batch_norm)
    for weight, value in zip(batch_norm.weights, before, strict=True):
        weight.assign(value)
    batch_norm.one_pass = True
    for ours, theirs in zip(results(batch_norm, x), fused, strict=True):
        assert_close(ours, theirs)
    for ours, theirs in zip(tiny.values(batch_norm), statistics, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "deviations, moving_mean, bound",
    [
        (100, 99.0, 1e-5),  # a deviation away from the mean
        # At the start of training the moving mean is 0. Squares are then 100 and 10,000 times the variance.
        (10, 0.0, 1e-3),
        (100, 0.0, 0.1),
    ],
)
def test_the_statistics_of_one_pass_are_float32s_within_a_bound(deviations, moving_mean, bound):
    x = random(8, 16, 16, 5) + deviations
    layer = BatchNormalization(momentum=0.0)  # the moving statistics become the batch's
    layer.build(x.shape)
    layer.one_pass = True
    layer.moving_mean.assign([moving_mean] * 5)
    y = layer(x, training=True).numpy()
    exact = x.astype("float64")
    mean, variance = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    count = exact[..., 0].size
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=5e-6)
    np.testing.assert_allclose(layer.moving_variance, variance * count / (count - 1), rtol=bound)
    assert_close(y, (exact - mean) / np.sqrt(variance + 1e-3), 2 * bound)


def test_in_bfloat16_the_statistics_are_float32s():
    layer = BatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    x = tf.cast(random(4, 8, 8, 5) * 3 + 1, tf.bfloat16)
    layer.build(x.shape)
    layer.one_pass = True
    assert layer(x, training=True).dtype == tf.bfloat16
    exact = tf.cast(x, tf.float64).numpy()
    np.testing.assert_allclose(layer.moving_mean, exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, exact.var((0, 1, 2)) * 256 / 255, rtol=1e-5)


def test_xla_compiles_the_forms():
    layers = [GroupedConv2D(8, [1, 1]), BatchNormalization(), MixConv([3, 5], 2)]
    model = keras.Sequential([keras.Input((6, 6, 7)), *layers])
    x, weighting = random(2, 6, 6, 7), random(2, 3, 3, 8, seed=5)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True) * weighting)
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    plain = step()
    set_forms(model, TPU_FORMS)
    compiled = tf.function(step, jit_compile=True, autograph=False)()
    for ours, theirs in zip(compiled, plain, strict=True):
        assert_close(ours, theirs.numpy(), 1e-4)  # of gradients that a normalization behind them leaves small


def test_a_models_forms_change_neither_its_variables_nor_its_file(tmp_path):
    split, merged = (tiny.build_small(input_shape=(32, 32, 3)) for _ in range(2))
    tiny.randomise(split)
    set_forms(merged, TPU_FORMS)
    assert [(w.path, w.shape) for w in merged.weights] == [(w.path, w.shape) for w in split.weights]
    split.save(tmp_path / "split.keras")
    merged.load_weights(tmp_path / "split.keras")
    x = tiny.images(2, 32, 32, 3)
    assert_close(merged(x).numpy(), split(x).numpy())
    merged.save(tmp_path / "merged.keras")
    opened = keras.models.load_model(tmp_path / "merged.keras")
    np.testing.assert_array_equal(opened(x), split(x))
    assert not any(step.dense for step in steps(opened) if isinstance(step, GroupedConv2D))


def test_forms_are_set_for_each_kind_of_layer():
    model = tiny.build_small(input_shape=(32, 32, 3))

    def found(kind, name):
        return {getattr(step, name) for step in steps(model) if isinstance(step, kind)}

    for forms, pointwise, depthwise, one_pass in (
        (TPU_FORMS, {True}, {True}, {True}),
        (Forms(depthwise_form="dense"), {False}, {True}, {False}),
        (Forms(), {False}, {False}, {False}),
    ):
        set_forms(model, forms)
        assert found(GroupedConv2D, "dense") == pointwise
        assert found(MixConv, "dense") == depthwise
        assert found(BatchNormalization, "one_pass") == one_pass


def test_a_form_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="pointwise_form: expected one of .*'dense'.*; received 'wide'"):
        set_forms(tiny.build_small(), Forms(pointwise_form="wide"))
