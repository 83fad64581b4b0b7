"""MixNet used like any Keras model: fit, frozen layers, the transfer learning guide, export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf.networks import BatchNormalization

_SIZE = 24
_BLOCKS = ("r1_k3.5_a1_p1_s11_e1_i6_o6_se0.5_sw",)


@pytest.fixture(scope="module")
def two_colors():
    """Images of reddish and bluish noise, and their labels."""
    x, y = tiny.images(48, _SIZE, _SIZE, 3), np.arange(48, dtype="int32") % 2
    x[y == 0, ..., 0] *= 0.2
    x[y == 1, ..., 2] *= 0.2
    return x, y


def _model(**kwargs):
    keras.utils.set_random_seed(0)
    overrides = {"feature_size": 16, "batch_norm_momentum": 0.8, "dropout_rate": 0.0}
    return mixnet_tf.build_model(None, overrides, blocks_args=_BLOCKS, input_shape=(_SIZE, _SIZE, 3), **kwargs)


def _compile(model, from_logits, optimizer=None, run_eagerly=False):
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
    )


def test_fit_with_a_stock_optimizer_learns(two_colors):
    x, y = two_colors
    model = _model(classes=2)
    _compile(model, from_logits=False)
    losses = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}
    probabilities = model.predict(x, verbose=0)
    assert probabilities.dtype == "float32" and probabilities.shape == (48, 2)


def test_what_is_not_trainable_stays_as_it_is_in_fit(two_colors):
    x, y = two_colors
    model = _model(classes=2)
    tiny.randomise(model)
    model.trainable = False
    assert model.trainable_variables == []
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))
    model.trainable = True
    head = model.get_layer("head_dense")
    for layer in model.layers:
        layer.trainable = layer is head
    _compile(model, from_logits=False, run_eagerly=True)
    before = {layer.name: [w.numpy() for w in layer.weights] for layer in model.layers}
    model.fit(x[:16], y[:16], batch_size=16, epochs=1, verbose=0)
    for layer in model.layers:
        for weight, value in zip(layer.weights, before[layer.name], strict=True):
            assert (weight.numpy() == value).all() == (layer is not head), weight.path


def test_the_transfer_code_of_keras_guide_works(two_colors, tmp_path):
    x, y = two_colors
    base = _model(include_top=False)
    base.trainable = False
    before = tiny.values(base)
    inputs = keras.Input((_SIZE, _SIZE, 3))
    features = base(inputs, training=False)
    features = keras.layers.GlobalAveragePooling2D()(features)
    outputs = keras.layers.Dense(2)(keras.layers.Dropout(0.2)(features))
    model = keras.Model(inputs, outputs)
    _compile(model, from_logits=True)
    first = model.fit(x, y, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert first[-1] < first[0]
    np.testing.assert_equal(tiny.values(base), before)

    base.trainable = True
    norms = [layer for layer in base.layers if isinstance(layer, BatchNormalization)]
    for layer in norms:  # Keras 3's fit overrides the guide's training=False (keras-team/keras#20285)
        layer.trainable = False
    _compile(model, from_logits=True, optimizer=keras.optimizers.Adam(1e-3))
    second = model.fit(x, y, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert second[-1] < first[-1]
    after = tiny.values(base)
    moved = {weight.path for weight, old, new in zip(base.weights, before, after, strict=True) if (old != new).any()}
    assert moved == {weight.path for layer in base.layers if layer not in norms for weight in layer.weights}

    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(x), model(x))


def test_an_exported_saved_model_answers_as_the_model_does(two_colors, tmp_path):
    x, _ = two_colors
    model = _model(classes=2)
    tiny.randomise(model)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-6)


def test_an_activation_override_survives_the_keras_file(tmp_path):
    x = tiny.images(1, 32, 32, 3)
    model = tiny.build_small()
    mish = tiny.build_small(override_params={"activation": "mish"})
    mish.set_weights(model.get_weights())
    answer = mish(x).numpy()
    assert (answer != model(x).numpy()).any()
    mish.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), answer)
