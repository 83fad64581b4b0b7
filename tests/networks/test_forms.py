"""The forms in which layers compute in training: the same function of the same variables."""

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
from mixnet_tf.networks.merged_kernels import runs_of

_ALL = Forms("dense", "merged", "one_pass")


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_close(ours, theirs, tolerance=1e-5):
    """Within a float32 sum's rounding of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def results(layer, x):
    """The output of a layer in training, and the gradients of a random sum of it by input and variables."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True) if isinstance(layer, BatchNormalization) else layer(x)
        loss = tf.reduce_sum(y * random(*y.shape, seed=5))
    return [value.numpy() for value in (y, *tape.gradient(loss, [x, *layer.trainable_variables]))]


def assert_same_function(layer, x, attribute, value):
    split = results(layer, x)
    setattr(layer, attribute, value)
    for ours, theirs in zip(results(layer, x), split, strict=True):
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


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("strides, kernel_size", [(1, [1, 3, 7]), (2, [3, 5, 7, 9]), (2, [1, 5, 3]), (3, [3, 1, 5, 7])])
def test_a_larger_kernel_computes_the_groups(strides, kernel_size, padding, size):
    x = random(2, *size, 13)
    for neighbours in (2, len(kernel_size)):
        assert_same_function(MixConv(kernel_size, strides, padding=padding), x, "neighbours", neighbours)


@pytest.mark.parametrize(
    "kernel_size, strides, padding, neighbours, expected",
    [
        ([3, 5, 7, 9, 11], 1, "same", 1, 5),
        ([3, 5, 7, 9, 11], 1, "same", 2, 3),
        ([3, 5, 7, 9, 11], 2, "same", 5, 1),
        ([1, 3, 5], 2, "same", 3, 2),  # at stride 2 SAME padding does not center a 1x1 kernel as larger ones
        ([1, 3, 5], 2, "symmetric", 3, 1),
        ([3, 5], 1, "same", 2, 1),
    ],
)
def test_neighbouring_groups_share_a_convolution(kernel_size, strides, padding, neighbours, expected):
    layer = MixConv(kernel_size, strides, padding=padding)
    layer.neighbours = neighbours
    layer.build((None, 8, 8, 12))
    assert convolutions(layer, (1, 8, 8, 12)) == ["DepthwiseConv2dNative"] * expected


def test_dilated_groups_stay_alone():
    x = random(1, 11, 10, 8)
    assert_same_function(MixConv([3, 5, 9], dilated=True), x, "neighbours", 3)
    assert runs_of([True, False, True, True], 4) == [slice(0, 1), slice(1, 2), slice(2, 4)]


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
    set_forms(model, _ALL)
    compiled = tf.function(step, jit_compile=True, autograph=False)()
    for ours, theirs in zip(compiled, plain, strict=True):
        assert_close(ours, theirs.numpy(), 1e-4)  # of gradients that a normalization behind them leaves small


def test_a_models_forms_change_neither_its_variables_nor_its_file(tmp_path):
    split, merged = (tiny.build_small(input_shape=(32, 32, 3)) for _ in range(2))
    tiny.randomise(split)
    set_forms(merged, _ALL)
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

    for forms, dense, neighbours, one_pass in (
        (TPU_FORMS, {True}, {1}, {True}),
        (_ALL, {True}, {1, 2, 3}, {True}),
        (Forms(depthwise_form="pairs"), {False}, {2}, {False}),
        (Forms(), {False}, {1}, {False}),
    ):
        set_forms(model, forms)
        assert found(GroupedConv2D, "dense") == dense
        assert found(MixConv, "neighbours") == neighbours
        assert found(BatchNormalization, "one_pass") == one_pass


def test_a_form_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="pointwise_form: expected one of .*'dense'.*; received 'wide'"):
        set_forms(tiny.build_small(), Forms(pointwise_form="wide"))
