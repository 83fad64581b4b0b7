import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf.networks.batch_norm import BatchNormalization


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_close(ours, oracle, tolerance=1e-5):
    """Within a float32 sum's rounding of the largest value."""
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=tolerance * np.abs(oracle).max())


@pytest.fixture
def batch_norm():
    layer = BatchNormalization(momentum=0.9, epsilon=1e-2)  # neither is Keras' default
    layer.build((None, 4, 3, 5))
    tiny.randomise(layer)
    return layer


BN_INPUT = random(2, 4, 3, 5) * 3 + 1


def normalized(x, mean, variance, layer):
    return (x - mean) / np.sqrt(variance + 1e-2) * layer.gamma.numpy() + layer.beta.numpy()


def test_batch_norm_infers_with_its_moving_statistics(batch_norm):
    before = tiny.values(batch_norm)
    oracle = normalized(BN_INPUT, batch_norm.moving_mean.numpy(), batch_norm.moving_variance.numpy(), batch_norm)
    assert_close(batch_norm(BN_INPUT, training=False), oracle)
    assert all((a == b).all() for a, b in zip(before, tiny.values(batch_norm), strict=True))


def test_batch_norm_trains_with_the_batch_and_follows_its_unbiased_variance(batch_norm):
    mean, variance = (f(BN_INPUT.astype("float64"), axis=(0, 1, 2)) for f in (np.mean, np.var))
    count = 2 * 4 * 3
    moving_mean = 0.9 * batch_norm.moving_mean.numpy() + 0.1 * mean
    moving_variance = 0.9 * batch_norm.moving_variance.numpy() + 0.1 * variance * count / (count - 1)
    assert_close(batch_norm(BN_INPUT, training=True), normalized(BN_INPUT, mean, variance, batch_norm))
    assert_close(batch_norm.moving_mean.numpy(), moving_mean)
    assert_close(batch_norm.moving_variance.numpy(), moving_variance, 1e-6)  # the biased one is 0.4% away


def test_a_frozen_batch_norm_infers_even_in_training(batch_norm):
    batch_norm.trainable = False
    before = tiny.values(batch_norm)
    np.testing.assert_array_equal(batch_norm(BN_INPUT, training=True), batch_norm(BN_INPUT, training=False))
    assert all((a == b).all() for a, b in zip(before, tiny.values(batch_norm), strict=True))


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_in_bfloat16_keeps_float32_statistics(training):
    narrow, wide = (BatchNormalization(epsilon=1e-3, dtype=d) for d in ("mixed_bfloat16", "float32"))
    for layer in (narrow, wide):
        layer.build(BN_INPUT.shape)
        tiny.randomise(layer)
    x = tf.cast(BN_INPUT, tf.bfloat16)
    ours = narrow(x, training=training)
    assert ours.dtype == tf.bfloat16
    assert {w.dtype for w in narrow.weights} == {"float32"}
    # bfloat16 has 8 bits of mantissa; the statistics are summed in float32.
    assert_close(tf.cast(ours, tf.float32), wide(tf.cast(x, tf.float32), training=training).numpy(), 2**-8)
    for a, b in zip(tiny.values(narrow), tiny.values(wide), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_gradient_of_batch_norm_flows_through_the_batch_statistics(batch_norm):
    x = tf.constant(BN_INPUT)
    weighting = random(*BN_INPUT.shape, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(batch_norm(x, training=True) * weighting)
    # Whatever the weighting, the output does not change when a channel moves or grows as a whole.
    gradient = tape.gradient(loss, x).numpy()
    centerd = BN_INPUT - BN_INPUT.mean((0, 1, 2))
    assert np.abs(gradient).max() > 0.1
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose((gradient * centerd).sum((0, 1, 2)), 0, atol=1e-2)  # epsilon's share
