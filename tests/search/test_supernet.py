"""The supernet: each of its networks equals the separate model in outputs, gradients and training, with one trace."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import images, randomise, values

from mixnet_tf.networks import MixConv
from mixnet_tf.search import SearchSpace, build_supernet, extract
from mixnet_tf.search.blocks import SearchableBlock

_SIZE, _CLASSES = 16, 5
_STRINGS = [
    "r1_k3|3.5_a1_p1_s11_e1_i8_o8",
    "r1_k3|3.5|3.5.7|3.5.7.9_a1|1.1_p1|1.1_s22_e3|6_i8_o12_se0|0.25|0.5_sw",
    "r1|2|3_k3|7|5.9|3.5.7.9.11_a1|1.1_p1|1.1_s11_e3|6|4_i12_o12_se0|0.5_sw",
]


@pytest.fixture(scope="module")
def space():
    return SearchSpace.decode(_STRINGS, {"feature_size": 24, "dropout_rate": 0.0})


@pytest.fixture(scope="module")
def model(space):
    built = build_supernet(space, _CLASSES, (_SIZE, _SIZE, 3))
    randomise(built)
    return built


def _choices(space, number):
    """The smallest network, the largest one, and others."""
    sizes = [len(each.values) for each in space.alternatives]
    random = np.random.RandomState(0)
    drawn = [tuple(int(random.randint(size)) for size in sizes) for _ in range(number - 2)]
    return [(0,) * len(sizes), tuple(size - 1 for size in sizes), *drawn]


def _inputs(choice, seed=0):
    return [tf.constant(images(3, _SIZE, _SIZE, 3, seed=seed)), tf.constant([choice], tf.int32)]


def test_every_network_is_the_extracted_one_and_one_trace_serves_all(space, model):
    traces = []

    @tf.function
    def logits(pictures, choice):
        traces.append(None)
        return model([pictures, choice])

    seen = set()
    for choice in _choices(space, 4):
        found = logits(*_inputs(choice)).numpy()
        expected = extract(model, space, choice)(_inputs(choice)[0]).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
        seen.add(found.tobytes())
    assert len(traces) == 1 and len(seen) == 4


@pytest.mark.parametrize("size", [5, 6, 7, 12])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_the_center_of_a_kernel_is_the_smaller_one(strides, size):
    text = f"r1_k3|5|7_a1_p1_s{strides}{strides}_e1_i4_o4"
    space = SearchSpace.decode([text], {"stem_size": 4})
    [part] = [layer for layer in build_supernet(space, 2, (16, 16, 3)).layers if isinstance(layer, SearchableBlock)]
    [run] = part._depthwise_kernels
    x = images(2, size, size, 4)
    for place, taps in enumerate((3, 5, 7)):
        alone = MixConv(taps, strides)
        alone.build((None, size, size, 4))
        border = (7 - taps) // 2
        alone.kernels[0].assign(run[border : 7 - border, border : 7 - border])
        masked = np.zeros((7, 7, 4, 1), np.float32)
        masked[border : 7 - border, border : 7 - border] = alone.kernels[0]
        whole = tf.nn.depthwise_conv2d(x, masked, (1, strides, strides, 1), "SAME")
        np.testing.assert_allclose(whole, alone(x), rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(part.extracted((place,))["mixconv"][0], alone.kernels[0])


def _gradients(model, inputs):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 4], model(inputs, training=True)))
    return loss, tape.gradient(loss, model.trainable_variables)


def test_gradients_are_the_extracted_networks_and_nothing_elsewhere(space, model):
    for choice in _choices(space, 3)[1:]:
        alone = extract(model, space, choice)
        loss, ours = _gradients(model, _inputs(choice))
        expected_loss, theirs = _gradients(alone, _inputs(choice)[0])
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
        # With the gradients as the weights of a supernet, `extract` gives the network's gradients.
        of_gradients = build_supernet(space, _CLASSES, (_SIZE, _SIZE, 3))
        for weight, gradient in zip(of_gradients.trainable_variables, ours, strict=True):
            weight.assign(tf.zeros_like(weight) if gradient is None else gradient)
        found = extract(of_gradients, space, choice).trainable_variables
        largest = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in theirs)
        for gradient, other in zip(found, theirs, strict=True):
            np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-5 * largest)
        totals = [sum(float(tf.reduce_sum(tf.abs(g))) for g in each if g is not None) for each in (ours, theirs)]
        assert totals[0] == pytest.approx(totals[1], rel=1e-4)


def test_five_steps_end_as_those_of_the_network_alone():
    space = SearchSpace.decode(_STRINGS[1:2], {"feature_size": 24, "dropout_rate": 0.0})
    model = build_supernet(space, _CLASSES, (_SIZE, _SIZE, 3))
    choice = _choices(space, 3)[2]
    alone = extract(model, space, choice)
    for trained, inputs in (
        (model, lambda seed: _inputs(choice, seed)),
        (alone, lambda seed: _inputs(choice, seed)[0]),
    ):
        optimizer = keras.optimizers.SGD(0.05, 0.9)
        for seed in range(5):
            _, gradients = _gradients(trained, inputs(seed))
            pairs = zip(gradients, trained.trainable_variables, strict=True)
            optimizer.apply_gradients([(gradient, weight) for gradient, weight in pairs if gradient is not None])
    for value, other in zip(values(extract(model, space, choice)), values(alone), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5)


def test_xla_computes_the_same():
    space = SearchSpace.decode(_STRINGS[1:2], {"feature_size": 24})  # has every kind of alternative but repeats
    model = build_supernet(space, _CLASSES, (_SIZE, _SIZE, 3))
    randomise(model)
    choice = _choices(space, 3)[2]
    compiled = tf.function(model, jit_compile=True)(_inputs(choice))
    expected = model(_inputs(choice))
    np.testing.assert_allclose(compiled, expected, rtol=0, atol=1e-5 * float(tf.reduce_max(tf.abs(expected))))


@pytest.mark.parametrize(
    "text, classes, message",
    [
        ("r1_k3|5_a1_p1_s11_e3_i8_o8_dilated", 2, "no dilated kernels"),
        ("r1_k3|5_a1|3_p1_s11_e3_i8_o8", 2, "groups of 1x1 convolutions; stage 0 has others"),
        ("r1_k3|5_a1_p1_s11_e3_i8_o8", 0, "classes: expected a whole number from 1"),
    ],
)
def test_a_space_that_no_supernet_has_is_refused(text, classes, message):
    with pytest.raises(ValueError, match=message):
        build_supernet(SearchSpace.decode([text]), classes, (16, 16, 3))


def test_a_supernet_drops_no_blocks():
    space = SearchSpace.decode(["r1_k3|5_a1_p1_s11_e3_i8_o8"], {"drop_path": 0.1})
    with pytest.raises(ValueError, match="drop_path=0.1: a supernet drops no blocks"):
        build_supernet(space, 2, (16, 16, 3))
