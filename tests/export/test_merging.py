"""Channel groups as one convolution."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tiny

from mixnet_tf import build_model
from mixnet_tf.export.merging import block_diagonal, largest_kernel
from mixnet_tf.export.rewrite import InferenceFunction

_RNG = np.random.default_rng(0)


def _depthwise(images, kernel, stride, rate=1):
    """A depthwise convolution by its definition with TensorFlow's SAME padding, on the whole dilated kernel."""
    dilated = np.zeros(((kernel.shape[0] - 1) * rate + 1,) * 2 + kernel.shape[2:], kernel.dtype)
    dilated[::rate, ::rate] = kernel
    return tf.nn.depthwise_conv2d(images, dilated, (1, stride, stride, 1), "SAME").numpy()


@pytest.mark.parametrize("sizes", [(3, 5), (1, 3), (1, 3, 11), (3, 5, 7, 9, 11), (2, 4), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_depthwise_groups_are_one_convolution_of_the_largest_kernel(sizes, stride):
    sums = [2 * size - 1 for size in range(1, len(sizes) + 1)]  # channels of each group
    kernels = [_RNG.normal(size=(k, k, c, 1)) for k, c in zip(sizes, sums, strict=True)]
    for image_size in (1, 2, 5, 6, 7, 12, 13):
        images = _RNG.normal(size=(2, image_size, image_size, sum(sums)))
        groups = np.split(images, np.cumsum(sums)[:-1], axis=-1)
        expected = [_depthwise(x, kernel, stride) for x, kernel in zip(groups, kernels, strict=True)]
        whole = largest_kernel(kernels, [1] * len(sizes), stride, image_size)
        assert whole.shape == (max(sizes), max(sizes), sum(sums), 1)
        np.testing.assert_allclose(_depthwise(images, whole, stride), np.concatenate(expected, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rates", "image_size"), list(itertools.product([(1, 2), (3, 1), (2, 4)], [7, 8])))
def test_a_dilated_kernel_gets_zeros_between_its_taps(rates, image_size):
    kernels = [_RNG.normal(size=(3, 3, 2, 1)) for _ in rates]
    images = _RNG.normal(size=(1, image_size, image_size, 4))
    expected = [
        _depthwise(x, kernel, 1, rate)
        for x, kernel, rate in zip(np.split(images, 2, axis=-1), kernels, rates, strict=True)
    ]
    whole = largest_kernel(kernels, rates, 1, image_size)
    np.testing.assert_allclose(_depthwise(images, whole, 1), np.concatenate(expected, -1), rtol=0, atol=1e-12)


def test_pointwise_groups_are_one_convolution_with_a_block_diagonal_kernel():
    kernels = [_RNG.normal(size=(1, 1, taken, given)) for taken, given in ((3, 5), (1, 2), (4, 1))]
    images = _RNG.normal(size=(2, 4, 4, 8))
    groups = np.split(images, (3, 4), axis=-1)
    expected = np.concatenate([tf.nn.conv2d(x, k, 1, "SAME") for x, k in zip(groups, kernels, strict=True)], -1)
    whole = block_diagonal(kernels)
    assert whole.shape == (1, 1, 8, 8) and np.count_nonzero(whole) == 15 + 2 + 4
    np.testing.assert_allclose(tf.nn.conv2d(images, whole, 1, "SAME"), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [23, 24])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_a_network_with_merged_layers_answers_the_same_with_fewer_ops(padding, size):
    blocks = ["r1_k3.5.7_a1.1_p1.1_s22_e4_i8_o16_se0.5_sw", "r2_k1.3.9_a1.1_p1.1_s11_e2_i16_o16_se0.5"]
    params = {"stem_size": 8, "padding": padding}
    model = build_model(blocks_args=blocks, classes=3, override_params=params, input_shape=(size, size, 3))
    tiny.randomise(model)
    images, counts = tiny.images(2, size, size, 3), []
    for arithmetic in ("int8", "npu", "gpu"):  # none, the pointwise ones, all
        function = tf.function(InferenceFunction(model, "keep", arithmetic=arithmetic), autograph=False)
        np.testing.assert_allclose(function(images), model(images), rtol=0, atol=1e-5)
        ops = function.get_concrete_function(images).graph.get_operations()
        counts.append(sum(op.type in ("Conv2D", "DepthwiseConv2dNative", "ConcatV2", "StridedSlice") for op in ops))
    assert counts[0] > counts[1] > counts[2]
