"""Stochastic depth: what a layer drops, which blocks have one, and what becomes of it in inference."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import build_small, images, randomise

from mixnet_tf.networks import DropPath, call, walk

# Blocks 1, 2 and 4 of six have a residual connection, and so has block 0, whose rate is 0.
_BLOCKS = (
    "r3_k3_a1_p1_s11_e1_i8_o8",
    "r2_k3.5_a1.1_p1.1_s22_e3_i8_o8_se0.5_sw",
    "r1_k3_a1_p1_s11_e1_i8_o8_noskip",
)


@pytest.fixture(scope="module")
def model():
    """A network that drops up to 30% of its last block; a test may not change it."""
    model = build_small(blocks_args=_BLOCKS, override_params={"drop_path": 0.3}, input_shape=(16, 16, 3))
    randomise(model)
    return model


def test_an_image_is_dropped_as_a_whole_or_scaled():
    layer = DropPath(0.4, seed=1)
    x = np.random.default_rng(0).normal(size=(500, 2, 3, 4)).astype("float32")
    dropped = layer(tf.constant(x), training=True).numpy()
    is_kept = dropped.any(axis=(1, 2, 3))
    np.testing.assert_allclose(dropped, is_kept[:, None, None, None] * x / np.float32(0.6), rtol=1e-6)
    assert 0.5 < is_kept.mean() < 0.7  # 300 of 500 expected, standard deviation 11
    assert not np.array_equal(layer(tf.constant(x), training=True).numpy().any(axis=(1, 2, 3)), is_kept)
    np.testing.assert_array_equal(layer(tf.constant(x)), x)


def test_the_rate_grows_linearly_over_all_blocks_and_only_residual_ones_are_dropped(model):
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, DropPath)}
    assert rates == pytest.approx({f"block_{number}_drop_path": 0.3 * number / 6 for number in (1, 2, 4)})
    plain = build_small(blocks_args=_BLOCKS, input_shape=(16, 16, 3))
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers if layer.name not in rates]


def test_a_dropped_block_returns_its_input_and_the_others_add_more():
    model = build_small(blocks_args=_BLOCKS[:1], override_params={"drop_path": 0.9}, input_shape=(16, 16, 3))
    randomise(model)
    add = model.get_layer("block_2_add")
    residual = model.get_layer("block_2_drop_path").input
    outputs = [residual, *add.input, add.output]
    residual, path, shortcut, output = (
        part.numpy() for part in keras.Model(model.input, outputs)(images(64, 16, 16, 3), training=True)
    )
    is_kept = path.any(axis=(1, 2, 3))
    assert 0 < is_kept.sum() < 64
    np.testing.assert_array_equal(output[~is_kept], shortcut[~is_kept])
    np.testing.assert_allclose(output[is_kept], (shortcut + residual / 0.4)[is_kept], rtol=1e-4, atol=1e-4)


def test_in_inference_and_in_exports_nothing_is_dropped(model, tmp_path):
    plain = build_small(blocks_args=_BLOCKS, input_shape=(16, 16, 3))
    plain.set_weights(model.get_weights())
    x = images(2, 16, 16, 3)
    np.testing.assert_array_equal(model(x), plain(x))
    computed = []
    walk(model, [tf.constant(x)], lambda step, inputs: computed.append(step.name) or call(step, inputs))
    assert "block_4_add" in computed and not any("drop_path" in name for name in computed)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert [(layer.name, layer.get_config()) for layer in again.layers if isinstance(layer, DropPath)] == [
        (layer.name, layer.get_config()) for layer in model.layers if isinstance(layer, DropPath)
    ]
    np.testing.assert_array_equal(again(x), model(x))
