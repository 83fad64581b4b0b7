"""The inference graph equals Keras, whatever the block strings, sizes and statistics."""

import collections
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf import build_model, get_model_params, networks
from mixnet_tf.export import kernels, nodes, runtime
from mixnet_tf.export.activations import Activations
from mixnet_tf.export.arithmetics import ARITHMETICS
from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.kernels import MAX_TAPS, cheapest_rectangles, cheapest_tiles, depthwise_conv2d
from mixnet_tf.export.pieces import Pieces
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.target import target_model

_SPLIT = [name for name, arithmetic in ARITHMETICS.items() if arithmetic.splits]
BLOCKS = [
    "r1_k3_a1_p1_s11_e1_i16_o16",
    "r1_k3.5.7_a1.1_p1.1_s22_e3_i16_o25",  # 25, 75: groups with a remainder, and edges that cross
    "r2_k3.5.7.9_a1_p1.1_s11_e3_i25_o25_se0.5_sw",
    "r1_k3.5.7.9.11_a1_p1_s22_e3_i25_o32_se0.5_sw",
    "r1_k5.9_a1.1_p1.1_s11_e2_i32_o32_se0.25_sw",
    "r2_k3.7_a1_p1_s11_e2_i32_o32_noskip_dilated",
]


def unlike_the_defaults(model, seed=0, decades=2.0):
    """Statistics of real activations, scales over `decades`, logits of a spread that softmax does not flatten."""
    rng = np.random.default_rng(seed)
    size = model.input_shape[1] or 33
    images = tiny.images(4, size, size, 3, seed=seed)

    def assign(layer, maps):
        layer.moving_mean.assign(maps.mean((0, 1, 2)))
        layer.moving_variance.assign(maps.var((0, 1, 2)) + 1e-3)
        layer.gamma.assign(10 ** rng.uniform(-decades / 2, decades / 2, maps.shape[-1]))
        layer.beta.assign(layer.gamma.numpy() * rng.normal(0, 0.5, maps.shape[-1]))

    tiny.normalize(model, images, assign)
    dense = model.get_layer("head_dense")
    logits = keras.Model(model.input, dense.output)(images).numpy()
    dense.kernel.assign(dense.kernel / logits.std())
    dense.bias.assign(rng.normal(0, 0.3, dense.bias.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return unlike_the_defaults(build_model(blocks_args=BLOCKS, classes=7, name="mixnet-x"))


@pytest.fixture(scope="module")
def measured(model):
    """(four images, their `Activations`)."""
    images = tiny.images(4, 33, 33, 3)
    return images, Activations(model, images)


def run(function, images):
    return tf.function(function, autograph=False)(images).numpy()


@pytest.mark.parametrize("size", [32, 33, 47])
def test_the_rewritten_network_is_keras_to_1e_5_of_probability(model, size):
    images = tiny.images(2, size, size, 3, seed=size)
    np.testing.assert_allclose(run(InferenceFunction(model, "keep"), images), model(images), rtol=0, atol=1e-5)


def test_units_of_the_channels_change_no_probability(model, measured):
    images, units = measured[0], measured[1].units()
    assert all(values.max() / values.min() > 5 for values in units.values())
    np.testing.assert_allclose(run(InferenceFunction(model, "keep", units), images), model(images), rtol=0, atol=1e-5)


def test_in_their_units_all_channels_of_a_tensor_reach_one(model, measured):
    images, units = measured[0], measured[1].units()
    maps = keras.Model(model.input, model.get_layer("block_2_mixconv_bn").output)(images).numpy()
    np.testing.assert_allclose(
        (np.abs(maps) / units[model.get_layer("block_2_mixconv_bn")]).max((0, 1, 2)), 1, rtol=1e-4
    )


def test_blocks_that_are_added_up_share_their_units(model, measured):
    units = measured[1].units()
    project = [units[model.get_layer(f"block_{number}_project_bn")] for number in range(4)]
    np.testing.assert_array_equal(project[3], project[2])
    assert not np.array_equal(project[1], project[0])


def test_units_are_those_of_the_chosen_images_alone(model):
    images = tiny.images(3, 33, 33, 3)
    images[1] *= 10
    alone = Activations(model, images[[0, 2]]).units()
    for layer, values in Activations(model, images).units([0, 2]).items():
        np.testing.assert_allclose(values, alone[layer], rtol=1e-5)


def test_an_image_scores_the_mean_logarithm_of_its_largest_normalized_values(model, measured):
    images, activations = measured
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    maps = keras.Model(model.input, [layer.output for layer in normalizations])(images)
    largest = [np.abs(each).max((1, 2, 3)) for each in maps]
    np.testing.assert_allclose(activations.scores(), np.log(largest).mean(0), rtol=1e-5)


def test_an_image_that_overflows_scores_infinity(model):
    images = tiny.images(2, 33, 33, 3)
    images[1, 4, 4] = np.nan
    scores = Activations(model, images).scores()
    assert np.isfinite(scores[0]) and scores[1] == np.inf


def test_scores_and_units_reach_into_a_model_inside_the_model(model):
    base = build_model(blocks_args=BLOCKS[:3], include_top=False, input_shape=(33, 33, 3))
    own = keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")])
    images = tiny.images(3, 33, 33, 3)
    inside, outside = Activations(base, images), Activations(own, images)
    np.testing.assert_allclose(outside.scores(), inside.scores(), rtol=1e-5)
    units = outside.units()
    assert len(units) == len(inside.units()) > 5
    np.testing.assert_allclose(run(InferenceFunction(own, "keep", units), images), own(images), rtol=0, atol=1e-5)


def _convolution(kernel, arithmetic="float32", **fields):
    """A function that a node of one 1x1 convolution computes."""
    inputs, outputs = kernel.shape[2:]
    image = nodes.Image(sources=(), channels=inputs, units=np.ones(inputs), scope="image")
    fields |= {"units": np.ones(outputs), "scope": "conv", "kernels": [kernel], "arithmetic": arithmetic}
    node = nodes.Convolution(sources=(image,), channels=outputs, **fields)
    return lambda pixels: node.emit([Pieces([pixels])], frozenset())[0]


@pytest.mark.parametrize("outputs", [4, 12, 36, 60, 64, 90])
@pytest.mark.parametrize("activation", [None, keras.activations.relu, keras.activations.silu])
def test_a_convolution_is_that_of_the_formula_whatever_its_outputs_and_activation(outputs, activation):
    rng = np.random.default_rng(outputs)
    kernel, bias = rng.normal(0, 1, (1, 1, 16, outputs)), rng.normal(0, 1, outputs)
    pixels = rng.normal(0, 4, (1, 5, 5, 16)).astype(np.float32)
    actual = _convolution(kernel, offset=bias, activation=activation)(tf.constant(pixels))
    before = np.einsum("bhwi,io->bhwo", pixels.astype(np.float64), kernel[0, 0]) + bias
    after = {None: before, keras.activations.relu: np.maximum(before, 0)}.get(
        activation, before / (1 + np.exp(-before))
    )
    assert np.abs(before).max() > 30  # far out, where a sigmoid is 0 or 1
    np.testing.assert_allclose(actual, after, rtol=2e-6, atol=2e-5)


def test_float32_takes_swish_by_tanh_and_int8_by_sigmoid():
    images = tiny.images(1, 32, 32, 3)
    model = build_model(blocks_args=[BLOCKS[2]], classes=3, override_params={"stem_size": 25}, input_shape=(32, 32, 3))
    counts = {}
    for arithmetic in _SPLIT:
        function = tf.function(InferenceFunction(model, "keep", arithmetic=arithmetic), autograph=False)
        ops = function.get_concrete_function(images).graph.get_operations()
        counts[arithmetic] = collections.Counter(op.type for op in ops)
    swishes = counts["float32"]["Tanh"]
    assert swishes > 2 and counts["int8"]["Tanh"] == 0
    assert counts["int8"]["Sigmoid"] == counts["float32"]["Sigmoid"] + swishes


@pytest.mark.parametrize(
    ("outputs", "padded"), [(12, 12), (20, 20), (36, 40), (60, 64), (64, 64), (90, 96), (300, 304)]
)
def test_outputs_are_padded_to_eights_in_float32_where_an_eighth_is_enough(outputs, padded):
    for arithmetic, expected in (("float32", padded), ("int8", outputs)):
        with tf.Graph().as_default() as graph:
            tensor = _convolution(np.ones((1, 1, 8, outputs)), arithmetic)(tf.zeros((1, 4, 4, 8)))
            [conv] = [op for op in graph.get_operations() if op.type == "Conv2D"]
        assert conv.outputs[0].shape[-1] == expected and tensor.shape[-1] == outputs


@pytest.fixture(
    scope="module",
    params=[(7, 9, 11, 13, 21), pytest.param((15, 17, 19, 23, 25, 27, 29, 31), marks=pytest.mark.soak)],
    ids=["up to 21", "up to 31"],
)
def tiled(request):
    """The tiles of kernels of some sizes and the number of halves tried for them, by (size, arithmetic)."""
    tries, found = [], {}

    def counted(halvings):
        return lambda magnitudes: (tries.append(1) or each for each in halvings(magnitudes))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_bipartitions", "_even_bipartitions"):
            patch.setattr(kernels, name, counted(getattr(kernels, name)))
        cheapest_tiles.cache_clear()
        for case in itertools.product(request.param, _SPLIT):
            tries.clear()
            found[case] = (cheapest_tiles(*case), len(tries))
    return found


def test_tiles_cover_each_tap_once_and_each_is_small(tiled):
    for (size, *_), (tiles, _) in tiled.items():
        covered = np.zeros((size, size), int)
        for rows, columns in tiles:
            assert len(rows) * len(columns) <= MAX_TAPS
            covered[np.ix_(np.array(rows) + size // 2, np.array(columns) + size // 2)] += 1
        np.testing.assert_array_equal(covered, 1)


# The lowest costs, relative to a kernel of 9 taps, of all covers that cut one tile in two, again and again.
MIN_COSTS = {
    (7, "float32"): 6.1,
    (7, "int8"): 4.7,
    (9, "float32"): 9.9,
    (9, "int8"): 7.4,
    (11, "float32"): 15.05,
    (11, "int8"): 10.92,
    (13, "float32"): 20.95,
    (13, "int8"): 15.29,
}


def cost_of(tiles, arithmetic):
    costs = ARITHMETICS[arithmetic].costs_of_taps
    return sum(next(cost for most, cost in costs.items() if len(a) * len(b) <= most) for a, b in tiles)


def test_no_cover_of_a_kernel_of_up_to_13_is_cheaper():
    costs = {case: cost_of(cheapest_tiles(*case), case[1]) for case in MIN_COSTS}
    assert costs == pytest.approx(MIN_COSTS, abs=1e-9)


@pytest.mark.parametrize("size", [7, 9, 11, 13, 31])
def test_rectangles_cover_each_tap_once_and_cost_no_more_than_a_grid(size):
    rectangles, covered = cheapest_rectangles(size), np.zeros((size, size), int)
    for rows, columns in rectangles:
        assert len(rows) * len(columns) <= MAX_TAPS
        covered[rows.start : rows.stop, columns.start : columns.stop] += 1
    np.testing.assert_array_equal(covered, 1)
    for side in (2, 3, 4, 5):
        lengths = [len(part) for part in np.array_split(range(size), -(-size // side))]
        grid = [(range(a), range(b)) for a, b in itertools.product(lengths, lengths)]
        assert cost_of(rectangles, "int8") <= cost_of(grid, "int8") + 1e-9  # the same costs


def test_a_kernel_of_any_size_up_to_31_is_tiled_in_few_tries(tiled):
    for (size, arithmetic), (tiles, tries) in tiled.items():
        assert tries < 600_000  # about a second of work; of every bipartition there would be minutes
        assert cost_of(tiles, arithmetic) < 1.3 * size * size / 9  # the cost of tiles of 9 taps, could they cover it


@pytest.mark.parametrize("size", [7, 9, 11])
def test_int8_takes_no_more_tiles_than_float32(size):
    assert len(cheapest_tiles(size, "int8")) <= len(cheapest_tiles(size, "float32"))


@pytest.mark.parametrize(
    ("size", "converts"), [(3, True), (13, False), (14, True), pytest.param(13, True, marks=pytest.mark.soak)]
)
def test_split_kernels_are_the_large_ones_to_1e_5_in_litert(size, converts):
    rng = np.random.default_rng(0)
    cases = list(itertools.product([7, 9, 11], [1, 2], _SPLIT))
    kernels = [rng.normal(0, 1 / k, (k, k, 4, 1)).astype(np.float32) for k, *_ in cases]
    biases = [rng.normal(size=4).astype(np.float32) for _ in cases]

    class Split(tf.Module):
        def __call__(self, images):
            x = tf.concat([images, images[..., :1]], -1)
            maps = (
                depthwise_conv2d(x, kernel, stride, 1, bias, arithmetic)
                for (_, stride, arithmetic), kernel, bias in zip(cases, kernels, biases, strict=True)
            )
            return tf.concat([tf.reshape(m, (1, -1)) for m in maps], -1)

    images = rng.normal(size=(3, size, size, 3)).astype(np.float32)
    x = np.concatenate([images, images[..., :1]], -1)
    expected = [
        tf.reshape(tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME") + bias, (3, -1))
        for (_, stride, _), kernel, bias in zip(cases, kernels, biases, strict=True)
    ]
    if not converts:
        found = np.concatenate([Split()(image[np.newaxis]) for image in images])
        np.testing.assert_allclose(found, np.concatenate(expected, -1), rtol=0, atol=1e-5)
        return
    content = to_tflite(Split(), size)
    np.testing.assert_allclose(runtime.predict(content, images), np.concatenate(expected, -1), rtol=0, atol=1e-5)
    assert runtime.operations(content)[0]["DEPTHWISE_CONV_2D"] > (len(cases) if size > 3 else 0)


def test_a_head_of_ones_own_is_called_as_it_is_and_named(model):
    base = build_model(blocks_args=BLOCKS[:2], include_top=False, pooling="avg", input_shape=(32, 32, 3))
    x = keras.layers.LayerNormalization(name="my_norm")(base.output * 2.0)
    own = keras.Model(base.input, keras.layers.Dense(3, activation="softmax", name="my_dense")(x))
    function = InferenceFunction(own, "keep")
    assert {"my_norm", "my_dense"} <= set(function.foreign)
    images = tiny.images(2, 32, 32, 3)
    np.testing.assert_allclose(run(function, images), own(images), rtol=0, atol=1e-5)


def test_a_mixnet_inside_a_sequential_model_is_rewritten_too():
    base = build_model(blocks_args=BLOCKS[:2], include_top=False, pooling="avg", input_shape=(32, 32, 3))
    own = keras.Sequential([base, keras.layers.Dense(3, activation="softmax", name="mine")])
    function = InferenceFunction(own, "keep")
    assert function.foreign == ["mine"]
    images = tiny.images(2, 32, 32, 3)
    np.testing.assert_allclose(run(function, images), own(images), rtol=0, atol=1e-5)
    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((1, 32, 32, 3))).graph
    assert not [op for op in graph.get_operations() if op.type.startswith("FusedBatchNorm")]


def test_a_layer_used_twice_is_an_error():
    inputs = keras.Input((32, 32, 3))
    twice = keras.layers.ReLU(name="twice")
    base = build_model(blocks_args=BLOCKS[:1], input_tensor=twice(twice(inputs)), classes=3)
    with pytest.raises(ValueError, match="used more than once"):
        run(InferenceFunction(base, "keep"), tiny.images(1, 32, 32, 3))


def test_a_mixed_precision_model_is_rebuilt_in_float32_with_its_weights():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_model(blocks_args=BLOCKS[:3], classes=3, input_shape=(32, 32, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    rebuilt = target_model(mixed)
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    for ours, theirs in zip(rebuilt.weights, mixed.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_logits_are_what_stands_before_the_last_activation(model):
    fixed = build_model(blocks_args=BLOCKS[:1], classes=3, input_shape=(32, 32, 3))
    images = tiny.images(2, 32, 32, 3)
    logits = target_model(fixed, "logits")(images)
    np.testing.assert_allclose(tf.nn.softmax(logits), fixed(images), atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "output", "message"),
    [
        ({}, "classes", "output: expected one of"),
        ({"classifier_activation": None}, "probabilities", "ends in logits"),
        ({"input_shape": (None, None, 3)}, "probabilities", "fixed square"),
        ({"input_shape": (32, 48, 3)}, "probabilities", "fixed square"),
        ({"include_top": False, "pooling": "avg", "classes": None}, "logits", "does not end in an activation"),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused_with_its_reason(kwargs, output, message):
    made = build_model(blocks_args=BLOCKS[:1], **{"classes": 3, "input_shape": (32, 32, 3), **kwargs})
    with pytest.raises(ValueError, match=message):
        target_model(made, output)


def test_only_the_layers_own_types_are_folded():
    assert issubclass(networks.BatchNormalization, keras.layers.BatchNormalization)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="valid", name="stem_conv")(inputs)
    own = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    images = tiny.images(1, 8, 8, 3)
    np.testing.assert_allclose(run(InferenceFunction(own, "keep"), images), own(images), rtol=1e-5)


_MIXED, _DILATED = ((3, 5, 7, 9), {"partition": "exponential"}), ((3, 5, 7, 9), {"dilated": True})


@pytest.mark.parametrize(
    ("name", "blocks", "kernels", "overrides"),
    [
        ("mobilenet-v1", 5, 3, {}),
        ("mobilenet-v2", 2, *_MIXED),
        ("mobilenet-v2", 2, *_DILATED),
        pytest.param("mobilenet-v2", 3, *_MIXED, marks=pytest.mark.soak),
        pytest.param("mobilenet-v2", 3, *_DILATED, marks=pytest.mark.soak),
        pytest.param("mobilenet-v1", 5, *_MIXED, marks=pytest.mark.soak),
        pytest.param("mobilenet-v1", 5, *_DILATED, marks=pytest.mark.soak),
        pytest.param("mobilenet-v2", 3, 3, {}, marks=pytest.mark.soak),
    ],
)
def test_mobilenets_are_rewritten_to_one_partition_with_relu6_fused(name, blocks, kernels, overrides):
    size = 32
    stages, params = get_model_params(name, {**overrides, "depth_multiplier": 0.5, "feature_size": 64})
    # The first blocks alone: each layer of a random network amplifies rounding, which takes even a plain conversion of
    # the whole one 2e-5 from Keras.
    own = build_model(
        blocks_args=stages[:blocks],
        override_params=params._replace(num_classes=7)._asdict(),
        kernel_size=kernels,
        input_shape=(size, size, 3),
    )
    unlike_the_defaults(own, decades=0.5)
    images = tiny.images(3, size, size, 3)
    content = to_tflite(InferenceFunction(own), size)
    np.testing.assert_allclose(runtime.predict(content, images), own(images), rtol=0, atol=1e-5)
    ops, partitions, flex = runtime.operations(content)
    assert (partitions, flex) == (1, 0) and not {"RELU", "RELU6"} & set(ops)
