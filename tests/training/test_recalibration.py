"""Batch normalization's statistics, measured anew after training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import SMALL_NETWORK

from mixnet_tf import build_model
from mixnet_tf.data import load_split
from mixnet_tf.data.pipeline import measuring_batches
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import BatchNormalization
from mixnet_tf.training import recalibration
from mixnet_tf.training.recalibration import recalibrate

_RECIPE = RECIPES["digits"]._replace(image_size=16)


@pytest.fixture
def split(data_dir):
    return load_split("digits", data_dir, True)


def _model(strategy=None):
    keras.utils.set_random_seed(0)
    with (strategy or tf.distribute.get_strategy()).scope():
        blocks, params = SMALL_NETWORK["blocks"], SMALL_NETWORK["params"]
        return build_model(None, params, blocks_args=blocks, classes=10, input_shape=(16, 16, 3))


def _normalizations(model):
    return [layer for layer in model.layers if isinstance(layer, BatchNormalization)]


@pytest.mark.soak
def test_the_statistics_are_the_mean_moments_of_batches_each_normalized_by_its_own(split, monkeypatch):
    monkeypatch.setattr(recalibration, "_BATCH", 100)
    monkeypatch.setattr(recalibration, "_MAX_BATCHES", 3)
    model = _model()
    first, second = _normalizations(model)[:2]
    batches = [batch.numpy() for batch in measuring_batches(split, 16, 100, crop=False).take(3)]
    recalibrate(model, split, _RECIPE)
    before_first = keras.Model(model.input, first.input)
    maps = [before_first(batch).numpy().astype(np.float64) for batch in batches]
    np.testing.assert_allclose(first.moving_mean, np.mean([m.mean((0, 1, 2)) for m in maps], 0), rtol=1e-4, atol=1e-5)
    variances = [m.reshape(-1, m.shape[-1]).var(0, ddof=1) for m in maps]
    np.testing.assert_allclose(first.moving_variance, np.mean(variances, 0), rtol=1e-4)
    # Behind the first, in training mode: each batch by its own moments.
    before_second = keras.Model(first.output, second.input)
    normalized = [
        (m - m.mean((0, 1, 2))) / np.sqrt(m.var((0, 1, 2)) + first.epsilon) * first.gamma.numpy() + first.beta.numpy()
        for m in maps
    ]
    maps = [before_second(m.astype("float32")).numpy() for m in normalized]
    np.testing.assert_allclose(second.moving_mean, np.mean([m.mean((0, 1, 2)) for m in maps], 0), rtol=1e-3, atol=1e-4)


def test_weights_momentum_and_frozen_statistics_stay(split, monkeypatch):
    monkeypatch.setattr(recalibration, "_MAX_BATCHES", 1)
    model = _model()
    frozen, *others = _normalizations(model)
    frozen.trainable = False
    trained = [variable.numpy() for variable in model.trainable_variables]
    before = [frozen.moving_mean.numpy(), others[0].moving_mean.numpy()]
    recalibrate(model, split, _RECIPE)
    np.testing.assert_equal([variable.numpy() for variable in model.trainable_variables], trained)
    np.testing.assert_array_equal(frozen.moving_mean, before[0])
    assert not np.array_equal(others[0].moving_mean, before[1])
    assert {layer.momentum for layer in _normalizations(model)} == {0.99}


def test_two_replicas_measure_images_of_their_own(split, two_replicas, monkeypatch):
    monkeypatch.setattr(recalibration, "_BATCH", 50)
    monkeypatch.setattr(recalibration, "_MAX_BATCHES", 2)
    alone, both = _model(), _model(two_replicas)
    recalibrate(both, split, _RECIPE, two_replicas)
    monkeypatch.setattr(recalibration, "_MAX_BATCHES", 4)
    recalibrate(alone, split, _RECIPE)
    for ours, theirs in zip(_normalizations(both), _normalizations(alone), strict=True):
        np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-4, atol=1e-6)


def test_a_split_smaller_than_a_batch_is_measured_whole(split, monkeypatch):
    small = split._replace(num_examples=7, read=lambda *where: split.read().take(7))
    model = _model()
    recalibrate(model, small, _RECIPE)
    first = _normalizations(model)[0]
    [batch] = list(measuring_batches(small, 16, 7, crop=False))
    maps = keras.Model(model.input, first.input)(batch).numpy()
    np.testing.assert_allclose(first.moving_mean, maps.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
