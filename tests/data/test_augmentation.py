"""Operations on bytes against Pillow; erasing and mixing against numpy."""

import re

import numpy as np
import pytest
import tensorflow as tf
from scripts import ROOT

from mixnet_tf.data.augmentation import augment, erased, jittered
from mixnet_tf.data.mixing import mix, own_part
from mixnet_tf.data.rand_augment import OPERATIONS, distorted
from mixnet_tf.recipe import Recipe

Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")
ImageEnhance = pytest.importorskip("PIL.ImageEnhance")
ImageOps = pytest.importorskip("PIL.ImageOps")

_SIZE = 32
_Y, _X = 0.3, 0.9  # the center of Cutout


@pytest.fixture(scope="module")
def pixels():
    """Random bytes from 20 to 219, more of them dark."""
    return (20 + 200 * np.random.default_rng(0).random((_SIZE, _SIZE, 3)) ** 2).astype("uint8")


def _pillow(name, image, magnitude, sign):
    """What Pillow makes of an image by the table of docs/TRAINING.md."""
    level, grey = magnitude / 10, (128, 128, 128)
    pixels = sign * level * 100 * _SIZE / 224
    shear = sign * level * 0.3
    affine = {  # of the centers of pixels
        "ShearX": (1, shear, -shear / 2, 0, 1, 0),
        "ShearY": (1, 0, 0, shear, 1, -shear / 2),
        "TranslateX": (1, 0, pixels, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, pixels),
    }
    if name in affine:
        return image.transform(image.size, Image.Transform.AFFINE, affine[name], fillcolor=grey)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return getattr(ImageEnhance, name)(image).enhance(0.1 + 1.8 * level)
    if name == "Cutout":
        half, y, x = int(level * 40 * _SIZE / 224), int(_Y * _SIZE), int(_X * _SIZE)
        if half > 0:
            ImageDraw.Draw(image).rectangle((x - half, y - half, x + half - 1, y + half - 1), grey)
        return image
    return {
        "AutoContrast": ImageOps.autocontrast,
        "Equalize": ImageOps.equalize,
        "Invert": ImageOps.invert,
        "Rotate": lambda image: image.rotate(sign * level * 30, fillcolor=grey),
        "Posterize": lambda image: ImageOps.posterize(image, min(max(int(level * 4), 1), 8)),
        "Solarize": lambda image: ImageOps.solarize(image, int(level * 256)),
        "SolarizeAdd": lambda image: image.point(lambda v: min(v + int(level * 110), 255) if v < 128 else v),
    }[name](image)


def _distorted(image, name, magnitude, sign):
    number = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    draws = tf.constant([number, 0.2 if sign == 1 else 0.8, _Y, _X])
    return distorted(image, magnitude, draws).numpy()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_randaugment_is_pillows(name, pixels):
    changed = 0
    for magnitude, sign in ((3.0, 1), (9.0, -1), (25.0, 1)):
        found = _distorted(pixels, name, magnitude, sign)
        np.testing.assert_array_equal(found, _pillow(name, Image.fromarray(pixels), magnitude, sign))
        changed += (found != pixels).any()
    assert changed > 0


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Contrast", "Sharpness"])
def test_an_image_of_one_color_is_what_pillow_makes_of_it(name):
    image = np.full((_SIZE, _SIZE, 3), (7, 128, 255), "uint8")
    np.testing.assert_array_equal(_distorted(image, name, 9.0, 1), _pillow(name, Image.fromarray(image), 9.0, 1))


def test_the_guides_table_has_every_operation():
    [table] = re.findall(r"\| operation \|.*?\n\n", (ROOT / "docs" / "TRAINING.md").read_text(), re.DOTALL)
    assert set(re.findall(r"\w+", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[1:]))) == set(OPERATIONS)


def test_jitter_is_pillows_brightness_contrast_and_color_in_turn(pixels):
    for factors in ((0.6, 1.3, 1.4), (1.4, 0.7, 0.0)):
        expected = Image.fromarray(pixels)
        for name, factor in zip(("Brightness", "Contrast", "Color"), factors, strict=True):
            expected = getattr(ImageEnhance, name)(expected).enhance(factor)
        np.testing.assert_array_equal(jittered(pixels, factors), expected)


def _of_seeds(function, count=100):
    """What a function of a seed gives for many seeds, as an array."""
    seeds = tf.stack([tf.range(count), tf.zeros(count, tf.int32)], 1)
    return tf.function(lambda: tf.map_fn(function, seeds, fn_output_signature=tf.float32))().numpy()


def test_the_recipe_decides_the_augmentation_and_the_seed_each_image(pixels):
    image = tf.constant(pixels, tf.float32)
    assert augment(image, Recipe(), (1, 2)) is image
    recipe = Recipe(randaugment_layers=2, color_jitter=0.3, erasing=0.5)
    found = _of_seeds(lambda seed: augment(image, recipe, seed), 20)
    assert len({each.tobytes() for each in found}) == 20 and found.min() >= 0 and found.max() <= 255
    np.testing.assert_array_equal(found[3], augment(image, recipe, (3, 0)))
    # Of grey only the brightness changes.
    greys = _of_seeds(lambda seed: augment(tf.fill((4, 4, 3), 100.5), Recipe(color_jitter=0.3), seed))
    assert np.ptp(greys.reshape(100, -1), 1).max() == 0
    assert 70 <= greys.min() < 80 and 120 < greys.max() <= 130


def test_erasing_fills_a_rectangle_of_a_random_place_and_shape_with_noise():
    found = _of_seeds(lambda seed: erased(tf.fill((40, 40, 3), -1.0), 0.7, seed))
    erasures = [image for image in found if image.max() >= 0]
    assert 55 <= len(erasures) <= 85
    heights, widths = [], []
    for image in erasures:
        is_noise = image >= 0
        rows, columns = (np.flatnonzero(is_noise[..., 0].any(axis)) for axis in (1, 0))
        heights.append(np.ptp(rows) + 1)
        widths.append(np.ptp(columns) + 1)
        box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert is_noise.sum() == box.size and box.min() >= 0 and box.max() < 255
        assert len(np.unique(box)) > 0.9 * box.size, "each value is drawn"
    heights, widths = np.array(heights), np.array(widths)
    # Sides are rounded to pixels, and no longer than the image.
    assert ((heights + 0.5) * (widths + 0.5)).min() >= 0.02 * 1600
    assert ((heights - 0.5) * (widths - 0.5)).max() <= 1600 / 3
    assert (heights / widths).min() < 0.7 and (heights / widths).max() > 1.5
    everywhere = _of_seeds(lambda seed: erased(tf.fill((40, 40, 3), -1.0), 1.0, seed)) >= 0
    assert all(everywhere.any(axes).all() for axes in ((1, 2, 3), (0, 2, 3), (0, 1, 3)))  # images, rows, columns


def test_the_parts_of_mixup_are_drawn_from_a_beta_distribution():
    own = _of_seeds(lambda seed: own_part(6, 0.2, 0.0, seed), 2000)
    assert (own == own[:, :1, :1]).all()
    parts = own[:, 0, 0, 0]
    assert abs(parts.mean() - 0.5) < 0.03
    assert parts.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.06)
    assert np.isfinite(_of_seeds(lambda seed: own_part(2, 1e-3, 0.0, seed))).all()


def test_cutmix_takes_a_box_whose_area_is_uniform_within_the_image():
    own = _of_seeds(lambda seed: own_part(40, 0.0, 1.0, seed), 400)[..., 0]
    assert set(np.unique(own)) == {0, 1}
    squares = []
    for part in own:
        rows, columns = (np.flatnonzero((part == 0).any(axis)) for axis in (1, 0))
        assert (part == 0).sum() == len(rows) * len(columns)
        if len(rows) and 0 < rows[0] and rows[-1] < 39 and 0 < columns[0] and columns[-1] < 39:
            squares.append(len(rows) / len(columns))
    assert len(squares) > 20 and set(squares) == {1}
    assert 0.5 < own.mean() < 0.8  # 0.5, if boxes were not cut off at the border
    both = _of_seeds(lambda seed: own_part(8, 0.2, 1.0, seed), 400).reshape(400, -1)
    is_box = ((both == 0) | (both == 1)).all(1)
    assert 0.4 < is_box.mean() < 0.75  # half, and those that MixUp leaves whole


def test_two_images_are_mixed_by_their_parts_and_so_are_their_labels():
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 255, (2, 6, 6, 3)).astype("float32")
    own = np.stack([np.full((6, 6, 1), 0.25), rng.integers(0, 2, (6, 6, 1))]).astype("float32")
    mixed, labels = mix(tf.constant(images), tf.constant([3, 1]), tf.constant(own), 4)
    np.testing.assert_allclose(mixed[0], 0.25 * images[0] + 0.75 * images[1], rtol=1e-5)
    np.testing.assert_array_equal(mixed[1], np.where(own[1] == 1, images[1], images[0]))
    part = own[1].mean()
    np.testing.assert_allclose(labels, [[0, 0.75, 0, 0.25], [0, part, 0, 1 - part]], rtol=1e-6)
    _, alike = mix(tf.constant(images), tf.constant([2, 2]), tf.constant(own), 4)
    np.testing.assert_allclose(alike, [[0, 0, 1, 0]] * 2, rtol=1e-6)
