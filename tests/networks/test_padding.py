"""Symmetric padding, and the number of blocks that timm's networks have."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mixnet_tf
from mixnet_tf.networks import MixConv, SymmetricConv2D, get_model_params, repeats, unroll
from mixnet_tf.networks.block_strings import MixnetDecoder


def _padded(images, kernel, stride, rate=1):
    """A depthwise convolution of an image that `tf.pad` has padded, by its definition."""
    pad = (kernel.shape[0] - 1) * rate // 2
    padded = tf.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    return tf.nn.depthwise_conv2d(padded, kernel, (1, stride, stride, 1), "VALID", dilations=(rate, rate))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [11, 12])
def test_a_mixconv_pads_every_side_by_half_its_kernel_and_has_the_gradients_of_that(stride, size):
    layer = MixConv((3, 5, 9), stride, padding="symmetric")
    images = tf.random.stateless_normal((2, size, size, 9), (1, 2))
    layer.build(images.shape)
    values = {}
    for name in ("ours", "padded"):
        with tf.GradientTape() as tape:
            tape.watch(images)
            if name == "ours":
                result = layer(images)
            else:
                groups = zip(tf.split(images, 3, -1), layer.kernels, strict=True)
                result = tf.concat([_padded(x, kernel.value, stride) for x, kernel in groups], -1)
            loss = tf.reduce_sum(tf.sin(result))
        gradients = tape.gradient(loss, [images, *(kernel.value for kernel in layer.kernels)])
        values[name] = [result, *gradients]
    assert tuple(values["ours"][0].shape) == layer.compute_output_shape(images.shape)
    for ours, padded in zip(*values.values(), strict=True):
        np.testing.assert_allclose(ours, padded, rtol=1e-5, atol=1e-5)
    same = MixConv((3, 5, 9), stride)
    same.build(images.shape)
    same.set_weights(layer.get_weights())
    is_equal = np.allclose(same(images), values["ours"][0], atol=1e-5)
    assert is_equal == (stride == 1 or size % 2 == 1)  # SAME pads an even image one pixel less before


def test_the_stem_pads_every_side_by_one_pixel():
    layer = SymmetricConv2D(4, 3, strides=2, padding="same", use_bias=False)
    images = tf.random.stateless_normal((1, 10, 13, 3), (1, 2))
    found = layer(images)
    expected = tf.nn.conv2d(tf.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)]), layer.kernel.value, 2, "VALID")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape(images.shape) == tuple(found.shape)
    again = SymmetricConv2D.from_config(layer.get_config())
    assert again.strides == (2, 2)


def test_an_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="padding: expected one of .*'symmetric'.*, received 'valid'"):
        MixConv(3, padding="valid")
    with pytest.raises(ValueError, match="padding"):
        mixnet_tf.build_model("mixnet-s", {"padding": "valid"})


@pytest.mark.parametrize(
    ("multiplier", "blocks"),
    [(None, [1, 2, 4, 4, 4, 4]), (1.2, [1, 2, 5, 5, 5, 5]), (1.3, [1, 3, 5, 5, 5, 5]), (0.1, [1, 2, 2, 2, 2, 2])],
)
def test_blocks_are_multiplied_by_stage(multiplier, blocks):
    stages, _ = get_model_params("mixnet-m")
    counts, filters = repeats(stages, multiplier), [stage.output_filters for stage in stages]
    of_stages = {}
    for count, channels in zip(counts, filters, strict=True):
        of_stages[channels] = of_stages.get(channels, 0) + count
    assert list(of_stages.values()) == blocks
    if multiplier == 1.2:  # the additional blocks are repeats of the second string
        assert counts == [1, 1, 1, 1, 4, 1, 4, 1, 4, 1, 4]


def test_a_stage_is_a_run_of_equal_filters_alone():
    strings = ["r2_k3_a1_p1_s11_e1_i8_o8", "r2_k3_a1_p1_s11_e1_i8_o16", "r2_k3_a1_p1_s11_e1_i16_o8"]
    assert repeats(MixnetDecoder.decode(strings), 1.5) == [3, 3, 3]


def test_mixnet_xl_has_timms_parameters():
    stages, params = get_model_params("mixnet-xl")
    assert params.padding == "symmetric" and params.batch_norm_epsilon == 1e-5
    assert len(unroll(stages, params)) == 23
    counts = mixnet_tf.networks.count_parts(stages, params)
    assert sum(count.trainable for count in counts) == 11_896_768
    assert sum(count.multiply_adds for count in counts) == 904_010_880


@pytest.mark.soak
def test_a_network_with_symmetric_padding_trains_under_xla_as_without(two_replicas):
    blocks = ["r1_k3.5_a1_p1_s22_e1_i8_o8", "r1_k3.7_a1.1_p1.1_s22_e2_i8_o8_se0.5_sw"]
    model = mixnet_tf.build_model(
        blocks_args=blocks,
        override_params={"padding": "symmetric", "dropout_rate": 0.0},
        classes=3,
        input_shape=(24, 24, 3),
    )
    images = tf.random.stateless_uniform((2, 24, 24, 3), (0, 1), 0, 255)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(images, training=True)))
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    plain, compiled = (tf.function(step, jit_compile=jit, autograph=False)() for jit in (False, True))
    for one, two in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)
    assert isinstance(model.get_layer("stem_conv"), keras.layers.Conv2D)
