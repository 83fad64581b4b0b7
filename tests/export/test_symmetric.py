"""Export of networks with symmetric padding."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf import build_model
from mixnet_tf.export import runtime
from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.kernels import depthwise_conv2d
from mixnet_tf.export.rewrite import InferenceFunction

_SIZES = (3, 5, 7, 9, 11)


def _expected(images, kernel, stride):
    pad = kernel.shape[0] // 2
    padded = tf.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    return tf.nn.depthwise_conv2d(padded, kernel, (1, stride, stride, 1), "VALID")


class _Every(tf.Module):
    """Depthwise convolutions of every kernel size, stride and arithmetic, side by side."""

    def __init__(self):
        rng = np.random.default_rng(0)
        cases = list(itertools.product(_SIZES, (1, 2), ["float32", "int8", None]))
        self.cases = [
            (rng.normal(0, 1 / k, (k, k, 3, 1)).astype(np.float32), stride, arithmetic)
            for k, stride, arithmetic in cases
        ]
        self.bias = rng.normal(size=3).astype(np.float32)

    def __call__(self, images):
        maps = [
            depthwise_conv2d(images, kernel, stride, 1, self.bias, arithmetic, "symmetric")
            for kernel, stride, arithmetic in self.cases
        ]
        return tf.concat([tf.reshape(each, (1, -1)) for each in maps], -1)


@pytest.mark.parametrize("size", [14, 15, pytest.param(8, marks=pytest.mark.soak)])
def test_every_kernel_is_exact_at_both_strides_on_even_and_odd_images(size):
    every = _Every()
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    expected = [
        tf.reshape(_expected(images, kernel, stride) + every.bias, (2, -1)) for kernel, stride, _ in every.cases
    ]
    found = runtime.predict(to_tflite(every, size), images)
    np.testing.assert_allclose(found, np.concatenate(expected, -1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [32, 33])
def test_a_network_is_one_partition_and_answers_as_keras(size):
    blocks = ["r1_k3.5.7.9_a1.1_p1.1_s22_e4_i8_o16_se0.5_sw", "r1_k3.11_a1.1_p1.1_s22_e2_i16_o16_se0.5"]
    params = {"stem_size": 8, "padding": "symmetric", "batch_norm_epsilon": 1e-5}
    model = build_model(blocks_args=blocks, classes=3, override_params=params, input_shape=(size, size, 3))
    tiny.randomise(model)
    images = tiny.images(2, size, size, 3)
    content = to_tflite(InferenceFunction(model), size)
    np.testing.assert_allclose(runtime.predict(content, images), model(images), rtol=0, atol=1e-5)
    assert runtime.operations(content)[1] == 1
    other = build_model(
        blocks_args=blocks, classes=3, override_params={**params, "padding": "same"}, input_shape=(size, size, 3)
    )
    other.set_weights(model.get_weights())
    assert np.allclose(other(images), model(images), atol=1e-5) == (size == 33)  # 33, 17 and 9 pixels are odd
