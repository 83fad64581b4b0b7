"""Mixes training images and their labels in pairs: MixUp and CutMix."""

from typing import Any

import tensorflow as tf

from mixnet_tf.data.byte_operations import inside

GROUP = 2  # images that are mixed with each other: neighbors in the order of training


def own_part(image_size: int, mixup: float, cutmix: float, seed: Any) -> tf.Tensor:
    """Draws which part of a mixed image is the image itself; the rest is its partner.

    Args:
        image_size: Pixels.
        mixup: MixUp's alpha; 0: none.
        cutmix: CutMix's alpha; 0: none. With both, half of the images are drawn from each.
        seed: int (2,); equal seeds give equal results.

    Returns:
        float32 (image_size, image_size, 1), from 0 to 1.

    Source: arXiv:1710.09412, section 2; arXiv:1905.04899, section 3.1.
    """
    kind, y, x = tf.unstack(tf.random.stateless_uniform((3,), seed))
    cuts = kind < (0.5 if mixup > 0 else 1.0) if cutmix > 0 else tf.constant(False)
    # Of Beta(alpha, alpha). Where both numbers are too small for a float32, it is 0, as likely as 1.
    one, other = tf.unstack(
        tf.random.stateless_gamma(
            (2,), tf.random.experimental.stateless_fold_in(seed, 1), alpha=tf.where(cuts, cutmix, mixup)
        )
    )
    fraction = tf.math.divide_no_nan(one, one + other)
    half = tf.cast(tf.where(cuts, image_size * tf.sqrt(1 - fraction), 0.0), tf.int32) // 2
    center_y, center_x = (tf.cast(place * image_size, tf.int32) for place in (y, x))
    box = tf.stack([center_y - half, center_x - half, center_y + half, center_x + half])
    return tf.where(inside(box, (image_size, image_size)), 0.0, tf.where(cuts, 1.0, fraction))


def mix(images: tf.Tensor, labels: tf.Tensor, own: tf.Tensor, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes two images with each other.

    Args:
        images: float32 (2, size, size, 3).
        labels: int32 (2,).
        own: float32 (2, size, size, 1): the part of each that stays, as `own_part` draws it.
        classes: Number of classes.

    Returns:
        (float32 (2, size, size, 3), float32 (2, classes)): images, and soft labels, whose fractions are the parts that
        the two images have in each.
    """
    targets = tf.one_hot(labels, classes)
    fraction = tf.reduce_mean(own, (1, 2))
    mixed = own * images + (1 - own) * tf.reverse(images, [0])
    return mixed, fraction * targets + (1 - fraction) * tf.reverse(targets, [0])


def mixed_examples(examples: tf.data.Dataset, classes: int) -> tf.data.Dataset:
    """Mixes the images of a dataset in pairs: the first with the second, the third with the fourth, and so on.

    Args:
        examples: A dataset of (image float32 (size, size, 3), label int32, own float32 (size, size, 1)).
        classes: Number of classes.

    Returns:
        A dataset of (image float32 (size, size, 3), soft label float32 (classes,)).
    """

    def mixed(images, labels, own):
        return mix(images, labels, own, classes)

    pairs = examples.batch(GROUP, drop_remainder=True)
    return pairs.map(mixed, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
