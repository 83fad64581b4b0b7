"""Batches of images with boxes: decoding, SSD's augmentation, padding."""

from typing import Any

import tensorflow as tf

from mixnet_tf.data.decoding import image_shape
from mixnet_tf.data.pipeline import prefetched, train_examples
from mixnet_tf.data.preprocessing import decode_and_resize, whole_window
from mixnet_tf.data.rules import NEWEST, Rules
from mixnet_tf.data.split import Split
from mixnet_tf.recipe import Recipe

MAX_OBJECTS = 100  # largest number of objects of an image; further ones are left out
# SSD's random crop. Source: arXiv:1512.02325, section 2.2; tensorflow/models,
# object_detection/core/preprocessor.py:ssd_random_crop, which has the areas and ratios.
_MIN_COVERED = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # minimum fraction of some object in the crop; drawn for each image
_AREA_RANGE, _ASPECT_RATIO_RANGE = (0.1, 1.0), (0.5, 2.0)
_WHOLE = 1 / 7  # probability of no crop


def augment_objects(
    example: dict[str, tf.Tensor],
    image_size: int,
    seed: Any,
    crop: bool = True,
    flip: bool = True,
    rules: Rules = NEWEST,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Crops an image at random, resizes and perhaps flips it; keeps the objects whose centers are in the crop.

    Args:
        example: Of a `load_objects` split.
        image_size: Pixels.
        seed: int (2,); equal seeds give equal results.
        crop: Whether to crop; one image in seven stays whole.
        flip: Whether to flip left to right with probability 1/2.
        rules: The `Rules` by which the image is decoded.

    Returns:
        (float32 (image_size, image_size, 3), RGB in [0, 255]; dict of "boxes", float32 (100, 4), and "labels", int32
        (100,), -1 for padding).
    """
    boxes, labels, shape = example["boxes"], example["labels"], image_shape(example["image"], rules)
    window = random_object_window(shape, boxes, seed) if crop else whole_window(shape)
    image = decode_and_resize(example["image"], lambda _: window, image_size, rules)
    boxes, labels = _inside(boxes, labels, tf.cast(window, tf.float32) / tf.tile(tf.cast(shape[:2], tf.float32), [2]))
    if flip:
        draw = tf.random.stateless_uniform((), tf.random.experimental.stateless_fold_in(seed, 1))
        image = tf.where(draw < 0.5, image[:, ::-1], image)
        y0, x0, y1, x1 = tf.unstack(boxes, axis=-1)
        boxes = tf.where(draw < 0.5, tf.stack([y0, 1 - x1, y1, 1 - x0], -1), boxes)
    return image, _padded(boxes, labels)


def random_object_window(shape: tf.Tensor, boxes: tf.Tensor, seed: Any) -> tf.Tensor:
    """A window that covers a random fraction of some object, or in one of seven cases the whole image.

    Args:
        shape: int32 (height, width, 3) of the image, pixels.
        boxes: float32 (objects, 4).
        seed: int (2,).

    Returns:
        int32 (4,): offset y, offset x, height and width, pixels.
    """
    seeds = [tf.random.experimental.stateless_fold_in(seed, number) for number in (2, 3)]
    # An image without objects is cropped as if an object filled it.
    boxes = tf.cond(tf.size(boxes) > 0, lambda: boxes, lambda: tf.constant([[0.0, 0.0, 1.0, 1.0]]))
    whole, choice = tf.unstack(tf.random.stateless_uniform((2,), seeds[0]))

    def window(covered):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, boxes[tf.newaxis], seeds[1], covered, _ASPECT_RATIO_RANGE, _AREA_RANGE
        )
        return tf.concat([begin[:2], size[:2]], 0)

    place = tf.cast(choice * len(_MIN_COVERED), tf.int32)
    drawn = tf.switch_case(place, [lambda covered=covered: window(covered) for covered in _MIN_COVERED])
    return tf.where(whole < _WHOLE, whole_window(shape), drawn)


def _inside(boxes, labels, window):
    """The objects whose centers are in a window (offset y, offset x, height, width), fractions of the image."""
    offset, size = window[:2], window[2:]
    boxes = (boxes - tf.tile(offset, [2])) / tf.tile(size, [2])
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept = tf.reduce_all((centers > 0) & (centers < 1), -1)
    return tf.clip_by_value(boxes[kept], 0.0, 1.0), labels[kept]


def _padded(boxes, labels):
    boxes, labels = boxes[:MAX_OBJECTS], labels[:MAX_OBJECTS]
    missing = MAX_OBJECTS - tf.size(labels)
    return {
        "boxes": tf.ensure_shape(tf.pad(boxes, [[0, missing], [0, 0]]), (MAX_OBJECTS, 4)),
        "labels": tf.ensure_shape(tf.pad(labels, [[0, missing]], constant_values=-1), (MAX_OBJECTS,)),
    }


def train_object_batches(
    split: Split,
    recipe: Recipe,
    batch_size: int,
    first_image: int = 0,
    shard: int = 0,
    num_shards: int = 1,
    use_cache: bool = False,
) -> tf.data.Dataset:
    """An endless dataset of training batches of a `load_objects` split; arguments as for `train_batches`.

    Returns:
        A dataset of batches of the results of `augment_objects`.
    """
    batches = (
        train_examples(split, recipe, first_image, shard, num_shards, use_cache)
        .map(
            lambda example, seed: augment_objects(
                example, recipe.image_size, seed, recipe.crop, recipe.flip, split.rules
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(batch_size, drop_remainder=True)
    )
    return prefetched(batches)


def object_eval_batches(split: Split, image_size: int, batch_size: int) -> tf.data.Dataset:
    """A dataset of every whole image of a `load_objects` split once; the last batch may be smaller.

    Returns:
        A dataset of (float32 (batch, size, size, 3), dict of the example's "boxes" (batch, objects, 4) and "labels"
        (batch, objects), all of them, -1 for padding; "shape", int32 (batch, 3), of the encoded image; and "image_id"
        where the dataset has one).
    """

    def prepare(example):
        described = {name: example[name] for name in ("boxes", "labels", "image_id") if name in example}
        image = decode_and_resize(example["image"], whole_window, image_size, split.rules)
        return image, {**described, "shape": image_shape(example["image"], split.rules)}

    read = split.read().map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
    nothing = tf.nest.map_structure(lambda spec: tf.zeros((), spec.dtype), read.element_spec)
    padding = (nothing[0], {**nothing[1], "labels": tf.constant(-1)})
    return prefetched(read.padded_batch(batch_size, padding_values=padding))
