"""Augments an image after its crop and flip, each image by a seed of its own: RandAugment, color jitter, erasing."""

import math
from typing import Any

import tensorflow as tf

from mixnet_tf.data import byte_operations as on_bytes
from mixnet_tf.data.rand_augment import rand_augment
from mixnet_tf.recipe import Recipe

# Random erasing. Source: huggingface/pytorch-image-models, timm/data/random_erasing.py; the noise is that of
# arXiv:1708.04896, section 3.2.
_ERASED = (0.02, 1 / 3)  # fraction of the image
_LARGEST_RATIO = 1 / 0.3  # of height to width, and of width to height


def augment(image: tf.Tensor, recipe: Recipe, seed: Any) -> tf.Tensor:
    """Augments a training image as a recipe says; one that says nothing leaves it unchanged.

    Args:
        image: float32 (size, size, 3), RGB in [0, 255]. RandAugment and color jitter work on bytes, and truncate it.
        recipe: The `Recipe`.
        seed: int (2,); equal seeds give equal results.

    Returns:
        float32 (size, size, 3), RGB in [0, 255].
    """
    layers, magnitude, jitter = recipe.randaugment_layers, recipe.randaugment_magnitude, recipe.color_jitter
    if layers > 0 or jitter > 0:
        pixels = tf.cast(image, tf.uint8)
        if layers > 0:
            pixels = rand_augment(pixels, layers, magnitude, tf.random.experimental.stateless_fold_in(seed, 3))
        if jitter > 0:
            factors = tf.random.stateless_uniform(
                (3,), tf.random.experimental.stateless_fold_in(seed, 4), 1 - jitter, 1 + jitter
            )
            pixels = jittered(pixels, factors)
        image = tf.ensure_shape(tf.cast(pixels, tf.float32), image.shape)
    if recipe.erasing > 0:
        image = erased(image, recipe.erasing, tf.random.experimental.stateless_fold_in(seed, 5))
    return image


def jittered(image: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Changes brightness, contrast and saturation, in this order.

    Args:
        image: uint8 (height, width, 3), RGB.
        factors: float32 (3,), from 0; 1 changes nothing.

    Returns:
        uint8 (height, width, 3).
    """
    brightness, contrast, color = tf.unstack(factors)
    return on_bytes.color(on_bytes.contrast(on_bytes.brightness(image, brightness), contrast), color)


def erased(image: tf.Tensor, probability: float, seed: Any) -> tf.Tensor:
    """With a probability, fills a random rectangle with uniform noise.

    Args:
        image: float32 (size, size, 3), RGB in [0, 255].
        probability: From 0 to 1.
        seed: int (2,).

    Returns:
        float32 (size, size, 3).
    """
    size = image.shape[0]
    draw, area, ratio, y, x = tf.unstack(tf.random.stateless_uniform((5,), seed))
    area = (_ERASED[0] + area * (_ERASED[1] - _ERASED[0])) * size**2
    ratio = tf.exp((2 * ratio - 1) * math.log(_LARGEST_RATIO))
    height, width = (
        tf.minimum(tf.cast(tf.round(tf.sqrt(side)), tf.int32), size) for side in (area * ratio, area / ratio)
    )
    top, left = (
        tf.cast(place * tf.cast(size - side + 1, tf.float32), tf.int32) for place, side in ((y, height), (x, width))
    )

    def fill():
        noise = tf.random.stateless_uniform(
            (height, width, 3), tf.random.experimental.stateless_fold_in(seed, 1), 0.0, 255.0
        )
        around = ((top, size - top - height), (left, size - left - width), (0, 0))
        box = tf.stack([top, left, top + height, left + width])
        return tf.where(on_bytes.inside(box, image.shape), tf.pad(noise, around), image)

    return tf.ensure_shape(tf.cond(draw < probability, fill, lambda: image), image.shape)
