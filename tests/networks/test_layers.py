import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf import networks
from mixnet_tf.networks import (
    BatchNormalization,
    Dropout,
    GroupedConv2D,
    MixConv,
    Preprocessing,
    SqueezeExcite,
    layers,
)


def conv_oracle(x, kernel, stride=1, rate=1, depthwise=False):
    """TensorFlow's SAME convolution in float64, tap by tap."""
    taps, _, *_ = kernel.shape
    reach = (taps - 1) * rate + 1
    rows, columns = (-(-n // stride) for n in x.shape[1:3])
    pads = []
    for size, out in zip(x.shape[1:3], (rows, columns), strict=True):
        total = max((out - 1) * stride + reach - size, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x.astype("float64"), [(0, 0), *pads, (0, 0)])
    result = 0
    for i in range(taps):
        for j in range(taps):
            top, left = i * rate, j * rate
            seen = x[:, top : top + (rows - 1) * stride + 1 : stride, left : left + (columns - 1) * stride + 1 : stride]
            result = result + (seen * kernel[i, j, :, 0] if depthwise else seen @ kernel[i, j])
    return result


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_close(ours, oracle, tolerance=1e-5):
    """Within a float32 sum's rounding of the largest value."""
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=tolerance * np.abs(oracle).max())


@pytest.mark.parametrize("channels", [12, 13])  # 13: no released variant has a remainder
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_mixconv_is_its_groups_side_by_side(channels, size, strides):
    layer = MixConv([3, 5, 7], strides)
    x = random(2, *size, channels)
    ours = layer(x)
    expected, start = [], 0
    for kernel in layer.kernels:
        group = x[..., start : start + kernel.shape[2]]
        expected.append(conv_oracle(group, kernel.numpy(), strides[0], depthwise=True))
        start += kernel.shape[2]
    assert start == channels
    assert [k.shape[0] for k in layer.kernels] == [3, 5, 7]
    assert_close(ours, np.concatenate(expected, -1))
    assert layer.compute_output_shape(x.shape) == tuple(ours.shape)


def test_a_dilated_mixconv_spreads_kernels_of_3():
    layer = MixConv([3, 5, 9], dilated=True)
    x = random(1, 11, 10, 8)
    ours = layer(x)
    assert [tuple(k.shape[:2]) for k in layer.kernels] == [(3, 3)] * 3
    groups = zip((x[..., :4], x[..., 4:6], x[..., 6:]), layer.kernels, (1, 2, 4), strict=True)
    assert_close(ours, np.concatenate([conv_oracle(g, k.numpy(), 1, r, True) for g, k, r in groups], -1))


def test_dilation_has_no_effect_at_stride_2():
    layer = MixConv([5], strides=2, dilated=True)
    x = random(1, 9, 9, 4)
    ours = layer(x)
    assert layer.kernels[0].shape == (5, 5, 4, 1)
    assert_close(ours, conv_oracle(x, layer.kernels[0].numpy(), 2, depthwise=True))


@pytest.mark.parametrize(
    "channels, filters, kernel_size", [(12, 8, [1, 1]), (13, 9, [1, 3]), (7, 5, [3]), (8, 10, 1), (11, 12, [1, 3, 5])]
)
def test_a_grouped_convolution_splits_inputs_and_filters(channels, filters, kernel_size):
    layer = GroupedConv2D(filters, kernel_size)
    x = random(2, 5, 6, channels)
    ours = layer(x)
    expected, start = [], 0
    for kernel in layer.kernels:
        expected.append(conv_oracle(x[..., start : start + kernel.shape[2]], kernel.numpy()))
        start += kernel.shape[2]
    groups = len(layer.kernels)
    assert [k.shape[2] for k in layer.kernels] == [channels // groups + channels % groups] + [channels // groups] * (
        groups - 1
    )
    assert_close(ours, np.concatenate(expected, -1))
    assert layer.compute_output_shape(x.shape) == tuple(ours.shape) == (2, 5, 6, filters)


@pytest.mark.parametrize("channels, op", [(12, "Split"), (13, "SplitV")])
def test_equal_groups_are_split_by_count(channels, op):
    layer = MixConv([3, 5])
    layer.build((None, 4, 4, channels))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 4, 4, channels))).graph
    assert [o.type for o in graph.get_operations() if o.type.startswith("Split")] == [op]


def test_one_group_is_neither_split_nor_joined():
    layer = GroupedConv2D(4, [1])
    layer.build((None, 4, 4, 4))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 4, 4, 4))).graph
    assert {o.type for o in graph.get_operations()} & {"Split", "SplitV", "ConcatV2"} == set()


@pytest.mark.parametrize("kernel_size", [[], [2], [3, 4], [0], [-1], [1.0], 2, "3"])
@pytest.mark.parametrize("make", [MixConv, lambda k: GroupedConv2D(8, k)], ids=["MixConv", "GroupedConv2D"])
def test_a_kernel_size_that_is_not_odd_is_refused(make, kernel_size):
    with pytest.raises(ValueError, match="expected odd positive ints"):
        make(kernel_size)


@pytest.mark.parametrize("strides", [(1, 2), 0, (1,), (2, 2, 2), -1])
def test_strides_that_depthwise_ops_do_not_take_are_refused(strides):
    with pytest.raises(ValueError, match="strides: expected two equal positive ints"):
        MixConv([3], strides)


@pytest.mark.parametrize("filters", [0, -1, 2.0, None])
def test_filters_that_are_no_count_are_refused(filters):
    with pytest.raises(ValueError, match="filters: expected a whole number from 1"):
        GroupedConv2D(filters, 1)


def test_a_dilated_kernel_of_1_is_refused():
    with pytest.raises(ValueError, match="dilated MixConv needs kernel sizes from 3"):
        MixConv([1, 3], dilated=True)


@pytest.mark.parametrize("layer, channels", [(MixConv([3, 5, 7]), 2), (GroupedConv2D(8, [1] * 3), 2)])
def test_groups_without_channels_are_refused_at_build(layer, channels):
    with pytest.raises(ValueError, match="2 channels cannot be split into 3 groups"):
        layer.build((None, 8, 8, channels))


def test_groups_without_filters_are_refused_at_build():
    with pytest.raises(ValueError, match="2 channels cannot be split into 3 groups"):
        GroupedConv2D(2, [1, 1, 1]).build((None, 8, 8, 9))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_squeeze_and_excitation_gates_channels_by_their_means(activation, training):
    layer = SqueezeExcite(3, activation)
    x = random(2, 5, 4, 6)
    layer.build(x.shape)
    tiny.randomise(layer)
    means = x.astype("float64").mean((1, 2))
    hidden = means @ layer.reduce.kernel.numpy()[0, 0] + layer.reduce.bias.numpy()
    hidden = np.maximum(hidden, 0) if activation == "relu" else hidden / (1 + np.exp(-hidden))
    gate = 1 / (1 + np.exp(-(hidden @ layer.expand.kernel.numpy()[0, 0] + layer.expand.bias.numpy())))
    assert_close(layer(x, training=training), x * gate[:, None, None, :])


def test_dropout_scales_what_it_keeps_and_draws_anew_on_each_call():
    layer = Dropout(0.25, seed=3)
    x = tf.ones((100, 100))
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((first == 0).mean() - 0.25) < 0.02  # 4.6 standard deviations of 10,000 draws
    assert 0.3 < (first != second).mean() < 0.45  # 2 * 0.25 * 0.75 for independent masks


def test_dropout_is_the_identity_in_inference_and_at_rate_0():
    x = tf.ones((8, 8))
    np.testing.assert_array_equal(Dropout(0.5)(x, training=False), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)


def test_the_masks_of_dropout_follow_from_a_seed_state_that_can_be_restored():
    layer = Dropout(0.5, seed=3)
    state = layer.seed_generator.state
    assert any(v is state for v in layer.variables)
    before = state.numpy()
    mask = layer(tf.ones((8, 8)), training=True).numpy()
    assert (state.numpy() != before).any()
    state.assign(before)
    np.testing.assert_array_equal(layer(tf.ones((8, 8)), training=True), mask)


def test_preprocessing_subtracts_the_mean_and_divides_by_the_deviation():
    x = tiny.images(2, 3, 4, 3)
    mean, stddev = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    assert_close(Preprocessing()(x), (x - mean) / stddev, 1e-6)


def test_swish_is_tensorflows_to_its_second_derivative():
    x = tf.linspace(-20.0, 20.0, 201)

    def to_second_derivative(swish):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = swish(x) * tf.sin(x)
            slope = inner.gradient(y, x)
        return y, slope, outer.gradient(slope, x)

    swish = functools.partial(layers.Activation("swish"), training=True)
    for ours, theirs in zip(*map(to_second_derivative, (swish, tf.nn.silu)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_inference_answers_as_training_does_and_its_saved_model_holds_no_gradients_of_ours(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 6)), SqueezeExcite(3, "swish"), layers.Activation("swish")])
    tiny.randomise(model)
    x = random(2, 4, 4, 6)
    assert_close(model(x, training=False), model(x, training=True).numpy(), 1e-6)
    model.export(tmp_path / "saved", verbose=False)
    assert b"CustomGradient" not in (tmp_path / "saved" / "saved_model.pb").read_bytes()
    step = tf.function(lambda images: model(images, training=True)).get_concrete_function(tf.constant(x))
    assert "CustomGradient" in str(step.graph.as_graph_def())  # the name is the one to look for


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_squeeze_and_excitation_differentiates_as_keras_convolutions_do(activation):
    layer = SqueezeExcite(3, activation)
    x = tf.constant(random(2, 5, 4, 6))
    layer.build(x.shape)
    tiny.randomise(layer)
    weighting = random(2, 5, 4, 6, seed=2)

    def gradients(gate):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(gate(x) * weighting)
        return tape.gradient(loss, [x, *(weight.value for weight in layer.weights)])

    def as_keras(x):
        return x * layer.expand(layer.reduce(tf.reduce_mean(x, axis=(1, 2), keepdims=True)))

    for ours, theirs in zip(gradients(functools.partial(layer, training=True)), gradients(as_keras), strict=True):
        assert np.abs(theirs).max() > 1e-3
        assert_close(ours, theirs.numpy())


# Each with no argument at its default.
EXAMPLES = {
    "Preprocessing": lambda **kwargs: Preprocessing(crop_fraction=0.9, interpolation="bicubic", **kwargs),
    "GroupedConv2D": lambda **kwargs: GroupedConv2D(9, (1, 3), **kwargs),
    "MixConv": lambda **kwargs: MixConv((3, 5), (1, 1), dilated=True, padding="symmetric", **kwargs),
    "SymmetricConv2D": lambda **kwargs: layers.SymmetricConv2D(
        2, 3, strides=2, padding="same", use_bias=False, **kwargs
    ),
    "SqueezeExcite": lambda **kwargs: SqueezeExcite(2, "swish", **kwargs),
    "Activation": lambda **kwargs: layers.Activation("swish", **kwargs),
    "BatchNormalization": lambda **kwargs: BatchNormalization(momentum=0.9, epsilon=1e-2, **kwargs),
    "Dropout": lambda **kwargs: Dropout(0.3, seed=1, **kwargs),
    "DropPath": lambda **kwargs: networks.DropPath(0.3, seed=1, **kwargs),
    "Dense": lambda **kwargs: networks.Dense(2, class_names=["cat", "dog"], **kwargs),
}


def test_every_layer_has_an_example():
    ours = {k for k, v in vars(networks).items() if isinstance(v, type) and issubclass(v, keras.layers.Layer)}
    assert ours == {*EXAMPLES, "Concatenate"}  # of several inputs, in a detector's file


def test_a_concatenation_keeps_the_names_of_its_classes():
    config = networks.Concatenate(axis=1, class_names=["cat", "dog"]).get_config()
    assert networks.Concatenate.from_config(config).class_names == ("cat", "dog")
    assert "class_names" not in networks.Concatenate().get_config()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_layer_survives_its_config_as_plain_json(name, dtype):
    layer = EXAMPLES[name](dtype=dtype)
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert json.loads(text)["registered_name"] == f"mixnet_tf>{name}"
    shape = (2, 6, 6, 3)
    pair, takes_training = (layer, again), name in ("BatchNormalization", "Dropout", "DropPath")
    for each in pair:
        each.build(shape)
        tiny.randomise(each)
    x = random(*shape)
    for training in (False, True):
        ours, theirs = (tf.cast(each(x, training=training) if takes_training else each(x), tf.float32) for each in pair)
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_equal(tiny.values(layer), tiny.values(again))


def test_every_convolution_has_an_initializer_of_its_own():
    layer = GroupedConv2D(64, [1, 1])
    layer.build((None, 4, 4, 64))
    first, second = (kernel.numpy() for kernel in layer.kernels)
    assert first.shape == second.shape and (first != second).all()


def test_dropout_drops_directly_under_a_strategys_scope(two_replicas):
    with two_replicas.scope():
        layer = Dropout(0.5)
        x = tf.ones((4, 50))
        first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    assert set(np.unique(first)) == {0.0, 2.0} and (first != second).any()


def test_a_whole_network_trains_its_statistics_directly_under_a_strategys_scope(two_replicas):
    x = tiny.images(4, 32, 32, 3)
    with two_replicas.scope():
        model = tiny.build_small()
        before = tiny.values(model)
        assert np.isfinite(model(x, training=True)).all()
    moved = [w.path for w, old in zip(model.weights, before, strict=True) if (w.numpy() != old).any()]
    assert moved == [w.path for w in model.weights if w.name in ("moving_mean", "moving_variance")]
