"""Bicubic images against Pillow, and crops against timm's arithmetic."""

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.data import preprocess_for_eval, preprocess_for_train
from mixnet_tf.data.preprocessing import center_window, resize
from mixnet_tf.networks import BICUBIC, GOOGLES, TIMMS, Resizing

Image = pytest.importorskip("PIL.Image")


def _png(pixels):
    return tf.io.encode_png(tf.constant(pixels, tf.uint8))


def _pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def pixels(request, photographs):
    """A photograph as TensorFlow decodes it."""
    return tf.io.decode_jpeg(tf.io.read_file(photographs[request.param])).numpy()


def _pillows(pixels, width, height):
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _assert_within_a_level(found, expected, equal=0.999):
    found = found.numpy()
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > equal


@pytest.mark.parametrize("size", [48, 224, 500])
def test_timms_images_are_pillows_within_a_grey_level(pixels, size):
    """As torchvision's Resize and CenterCrop compute, of which timm's evaluation consists."""
    height, width = pixels.shape[:2]
    shorter = int(size / 0.875)
    resized = [int(shorter * side / min(height, width)) for side in (width, height)]
    top, left = (round((side - size) / 2) for side in reversed(resized))
    expected = _pillows(pixels, *resized)[top : top + size, left : left + size]
    _assert_within_a_level(preprocess_for_eval(_png(pixels), size, TIMMS), expected)


def test_a_bicubic_crop_by_padding_is_cut_out_before_it_is_resized(pixels):
    y, x, side, _ = center_window(pixels.shape, 224).numpy()
    expected = _pillows(pixels[y : y + side, x : x + side].copy(), 224, 224)
    _assert_within_a_level(preprocess_for_eval(_png(pixels), 224, GOOGLES.given(interpolation=BICUBIC)), expected)


def test_a_whole_bicubic_image_is_pillows_and_so_is_one_to_train_on(pixels):
    expected = _pillows(pixels, 96, 96)
    whole = Resizing(None, None, BICUBIC)
    _assert_within_a_level(preprocess_for_eval(_png(pixels), 96, whole), expected)
    given = {"crop": False, "flip": False, "interpolation": BICUBIC}
    _assert_within_a_level(preprocess_for_train(_png(pixels), 96, (1, 2), **given), expected)
    bilinear = preprocess_for_train(_png(pixels), 96, (1, 2), crop=False, flip=False)
    assert np.abs(bilinear - expected).max() > 30


def test_colors_past_the_ends_are_cut_after_each_direction_as_pillow_does():
    pixels = np.where(_pixels(40, 56) > 127, 255, 0).astype("uint8")
    for size in ((90, 70), (13, 9), (56, 8), (20, 40)):
        _assert_within_a_level(resize(pixels, size[::-1], BICUBIC), _pillows(pixels, *size), equal=0.99)


def test_a_random_crop_of_bicubic_images_sees_the_same_window(pixels):
    near = [
        preprocess_for_train(_png(pixels), 64, (3, 4), interpolation=name).numpy() for name in (BICUBIC, "bilinear")
    ]
    assert 1 < np.abs(near[0] - near[1]).mean() < 20


@pytest.mark.parametrize("height, width", [(500, 375), (375, 500), (33, 40), (47, 33), (224, 224), (1, 3)])
@pytest.mark.parametrize("size, fraction", [(24, 0.875), (23, 0.9), (24, 1.0), (16, 0.33)])
def test_a_crop_fraction_cuts_the_center_of_the_resized_image(height, width, size, fraction):
    pixels = _pixels(height, width)
    shorter = int(size / fraction)
    resized = [shorter * side // min(height, width) for side in (height, width)]
    top, left = (round((side - size) / 2) for side in resized)
    expected = tf.raw_ops.ResizeBilinear(images=pixels[None], size=resized)[0, top : top + size, left : left + size]
    found = preprocess_for_eval(_png(pixels), size, Resizing(None, fraction, "bilinear"))
    assert found.shape == (size, size, 3)
    np.testing.assert_array_equal(found, expected)


def test_another_crop_padding_takes_another_square():
    pixels = _pixels(64, 64)
    found = preprocess_for_eval(_png(pixels), 48, Resizing(crop_padding=16))
    np.testing.assert_array_equal(found, pixels[8:56, 8:56])
    np.testing.assert_array_equal(
        preprocess_for_eval(_png(pixels[:48, :48]), 48, Resizing(crop_padding=0)), pixels[:48, :48]
    )


def test_what_resizes_is_traced_for_every_size():
    prepare = tf.function(lambda encoded: preprocess_for_eval(encoded, 32, TIMMS))
    for shape in ((40, 60), (60, 40)):
        np.testing.assert_array_equal(
            prepare(_png(_pixels(*shape))), preprocess_for_eval(_png(_pixels(*shape)), 32, TIMMS)
        )
