"""Preprocessing against the reference's own results, and numpy."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from tiny import GOLDEN

from mixnet_tf.data import preprocessing
from mixnet_tf.data.preprocessing import preprocess_for_eval, preprocess_for_train


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


def test_resize_is_bilinear_without_half_pixel_centers():
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
def test_center_crop_is_computed_in_float32(height, width, size):
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


def test_the_whole_image_stands_for_a_failed_crop_and_becomes_the_center_crop():
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


def test_windows_and_flips_of_a_seed_are_those_of_version_0_1_0():
    windows = [preprocessing.random_window((427, 640, 3), 48, (7, i)).numpy().tolist() for i in range(3)]
    assert windows == [[166, 176, 260, 308], [98, 266, 324, 251], [147, 205, 209, 184]]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    images = [preprocess_for_train(_png(pixels), 16, (5, i), crop=False) for i in range(16)]
    flipped = [np.array_equal(image, pixels[:, ::-1]) for image in images]
    assert flipped == list(map(bool, [1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 0]))


def test_shift_zoom_and_rotation_leave_crop_and_flip_as_they_were(photograph):
    for i in range(10):
        image, moved = (preprocess_for_train(photograph, 32, (5, i), shift=shift) for shift in (0.0, 1e-6))
        np.testing.assert_allclose(image[1:-1, 1:-1], moved[1:-1, 1:-1], atol=0.05)  # a 30,000th of a pixel


def test_shift_zoom_and_rotation_are_functions_of_the_seed(photograph):
    moves = {"crop": False, "flip": False, "shift": 0.1, "zoom": 0.1, "rotation": 10.0}
    first, again, other = (preprocess_for_train(photograph, 32, s, **moves).numpy() for s in [(1, 2), (1, 2), (1, 3)])
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 10


def _random_image(height=9, width=9):
    return np.random.default_rng(2).uniform(0, 255, (height, width, 3)).astype("float32")


def test_an_affine_of_nothing_keeps_every_bit():
    np.testing.assert_array_equal(preprocessing.affine(tf.constant(_random_image(9, 7))), _random_image(9, 7))


def test_a_shift_by_whole_pixels_moves_them_and_leaves_black():
    image = _random_image(9, 7)
    expected = np.zeros_like(image)
    expected[2:, :-1] = image[:-2, 1:]
    np.testing.assert_allclose(preprocessing.affine(tf.constant(image), down=2.0, right=-1.0), expected, atol=1e-3)


def test_a_rotation_of_90_degrees_is_a_quarter_turn_counterclockwise():
    turned = preprocessing.affine(tf.constant(_random_image()), rotation=90.0)
    np.testing.assert_allclose(turned, np.rot90(_random_image()), atol=1e-2)


def test_half_the_size_takes_every_second_pixel_from_the_center():
    expected = np.zeros((9, 9, 3), "float32")
    expected[2:7, 2:7] = _random_image()[::2, ::2]
    np.testing.assert_allclose(preprocessing.affine(tf.constant(_random_image()), scale=0.5), expected, atol=1e-3)


@pytest.mark.parametrize("down, right, scale, rotation", [(0.7, -1.3, 1.2, 17.0), (-2.4, 0.5, 0.8, -140.0)])
def test_an_affine_is_scipys_with_linear_interpolation_and_black_outside(down, right, scale, rotation):
    image = _random_image(9, 12)
    angle = np.deg2rad(rotation)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # of (row, column)
    middle = np.array([4.0, 5.5])
    back = np.linalg.inv(turn)
    offset = middle - back @ (middle + [down, right])
    options = {"order": 1, "mode": "grid-constant"}
    planes = [scipy.ndimage.affine_transform(image[..., c], back, offset, **options) for c in range(3)]
    ours = preprocessing.affine(tf.constant(image), down, right, scale, rotation)
    np.testing.assert_allclose(ours, np.stack(planes, axis=-1), atol=2e-2)  # float32 places, at up to 255 a pixel


def test_shift_zoom_and_rotation_stay_within_their_limits_and_reach_them():
    size, limits = 65, {"shift": 0.1, "zoom": 0.2, "rotation": 15.0}
    y, x = np.mgrid[:size, :size]
    # Two blobs left and right of the center, told apart by their colors; their middles show what an image underwent.
    blobs = [255 * np.exp(-((y - 32) ** 2 + (x - at) ** 2) / 18) for at in (22, 42)]
    png = _png(np.stack([*blobs, np.zeros_like(blobs[0])], axis=-1))
    prepare = tf.function(lambda seed: preprocess_for_train(png, size, seed, crop=False, flip=False, **limits))
    seen = []
    for seed in tf.stack([tf.fill(200, 9), tf.range(200)], 1):
        image = prepare(seed).numpy()
        left, right = (np.array([(y * c).sum(), (x * c).sum()]) / c.sum() for c in (image[..., 0], image[..., 1]))
        middle, (rise, run) = (left + right) / 2 - 32, right - left
        seen.append([*middle / size, np.hypot(rise, run) / 20 - 1, np.rad2deg(np.arctan2(-rise, run))])
    limit = np.array([0.1, 0.1, 0.2, 15.0])
    seen = np.array(seen) / limit
    assert (np.abs(seen) < 1.02).all()
    assert (seen.min(axis=0) < -0.9).all() and (seen.max(axis=0) > 0.9).all()
    assert (np.abs(np.corrcoef(seen.T) - np.eye(4)) < 0.3).all()  # four draws, not one


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
@pytest.mark.parametrize("crop", [True, False])
def test_an_image_one_pixel_high_or_wide_is_prepared(shape, encode, crop):
    encoded = encode(np.full((*shape, 3), 9, np.uint8))
    for image in (preprocess_for_eval(encoded, 8, crop), preprocess_for_train(encoded, 8, (1, 2), crop)):
        np.testing.assert_array_equal(image, np.full((8, 8, 3), 9))
