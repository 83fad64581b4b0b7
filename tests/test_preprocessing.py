"""Preprocessing against the reference's own results, and numpy."""

import numpy as np
import pytest
import tensorflow as tf
from tiny import GOLDEN

from mixnet_tf import preprocessing
from mixnet_tf.preprocessing import preprocess_for_eval, preprocess_for_train


def _png(pixels):
    return tf.io.encode_png(tf.constant(pixels, tf.uint8))


@pytest.fixture(scope="module")
def photograph(photographs):
    return tf.io.read_file(photographs["china.jpg"])


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_eval_preprocessing_is_the_references(photographs, name):
    ours = preprocess_for_eval(tf.io.read_file(photographs[name]), 48)
    golden = np.load(GOLDEN / "preprocessing" / "eval_48.npz")[name]
    np.testing.assert_allclose(ours, golden, atol=1e-4)  # JPEG decoding is exact; the resize rounds


def test_resize_is_bilinear_without_half_pixel_centres():
    ramp = np.repeat(np.arange(16).reshape(4, 4, 1), 3, axis=2)
    resized = preprocess_for_eval(_png(ramp), 2, crop=False)
    assert resized[..., 0].numpy().ravel().tolist() == [0, 2, 8, 10]


def test_an_image_of_the_right_size_keeps_its_values_as_floats():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    image = preprocess_for_eval(_png(pixels), 8, crop=False)
    assert image.dtype == tf.float32
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("height, width, size", [(375, 500, 224), (33, 40, 57), (1, 7, 5), (224, 224, 224)])
def test_the_resize_gives_the_bits_of_the_references_op_on_bytes(height, width, size):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), "uint8")
    expected = tf.raw_ops.ResizeBilinear(images=pixels[None], size=(size, size))[0]
    np.testing.assert_array_equal(preprocess_for_eval(_png(pixels), size, crop=False), expected)


def test_values_between_pixels_are_not_rounded():
    image = preprocess_for_eval(_png([[[0, 0, 0], [1, 1, 1]]]), 4, crop=False)
    assert image[0, :, 0].numpy().tolist() == [0, 0.5, 1, 1]


@pytest.mark.parametrize("size", [12, 48, 224, 299])
@pytest.mark.parametrize("height, width", [(500, 375), (375, 500), (33, 40), (427, 640)])
def test_centre_crop_is_computed_in_float32(height, width, size):
    side = int(np.float32(size / (size + 32)) * np.float32(min(height, width)))
    expected = [(height - side + 1) // 2, (width - side + 1) // 2, side, side]
    assert preprocessing.center_window((height, width, 3), size).numpy().tolist() == expected


def test_float64_would_crop_otherwise_somewhere():
    sides = [(s, m) for s in range(1, 300) for m in range(30, 60) if _side(s, m, np.float32) != _side(s, m, np.float64)]
    size, shorter = sides[0]
    assert preprocessing.center_window((shorter, shorter, 3), size).numpy()[2] == _side(size, shorter, np.float32)


def _side(size, shorter, dtype):
    return int(dtype(size / (size + 32)) * dtype(shorter))


def test_png_and_jpeg_paths_crop_alike(photograph):
    as_png = _png(tf.io.decode_jpeg(photograph))
    np.testing.assert_array_equal(preprocess_for_eval(photograph, 40), preprocess_for_eval(as_png, 40))
    seed = (3, 4)
    np.testing.assert_array_equal(preprocess_for_train(photograph, 40, seed), preprocess_for_train(as_png, 40, seed))


def test_a_grey_png_becomes_rgb():
    image = preprocess_for_eval(_png(np.full((8, 8, 1), 7)), 8, crop=False)
    np.testing.assert_array_equal(image, np.full((8, 8, 3), 7))


def test_random_windows_keep_to_the_areas_and_aspect_ratios():
    height, width = 427, 640
    windows = np.array([preprocessing.random_window((height, width, 3), 48, (7, i)).numpy() for i in range(200)])
    y, x, h, w = windows.T
    assert (y >= 0).all() and (x >= 0).all() and (y + h <= height).all() and (x + w <= width).all()
    area, aspect = h * w / (height * width), w / h
    assert 0.07 < area.min() < 0.2 and 0.7 < area.max() <= 1  # pixels are whole: a little under 0.08
    assert 0.74 < aspect.min() < 0.85 and 1.2 < aspect.max() < 1.35


def test_the_whole_image_stands_for_a_failed_crop_and_becomes_the_centre_crop():
    shape = (1, 100, 3)  # no window of one row has an aspect ratio of 3/4 to 4/3 and 8% of the area
    window = preprocessing.random_window(shape, 48, (0, 0))
    assert window.numpy().tolist() == preprocessing.center_window(shape, 48).numpy().tolist()


def test_augmentation_is_a_function_of_the_seed(photograph):
    first, again, other = (preprocess_for_train(photograph, 32, seed).numpy() for seed in [(1, 2), (1, 2), (1, 3)])
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 10


def test_half_of_the_images_are_flipped(photograph):
    straight = preprocess_for_train(photograph, 16, (0, 0), crop=False, flip=False).numpy()
    flips = 0
    for i in range(60):
        image = preprocess_for_train(photograph, 16, (5, i), crop=False).numpy()
        flipped = np.array_equal(image, straight[:, ::-1])
        assert flipped or np.array_equal(image, straight)
        flips += flipped
    assert 15 < flips < 45
