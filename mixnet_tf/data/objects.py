"""Loads datasets for object detection: encoded images with boxes and labels, which are checked."""

import re
from typing import NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf.data.decoding import image_shape
from mixnet_tf.data.rules import NEWEST, Reading
from mixnet_tf.data.split import Split, wanted_splits
from mixnet_tf.data.tfds_splits import prepared_builder, split_name, split_of_builder
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath

_OVERSHOOT = 1.0  # pixels that a box may reach past its image; it is clipped
# The message, inside an error of TensorFlow, for an example with an impossible box or label.
OBJECT_ERROR = re.compile(r"Object [0-9]+ of .+? has the box .+?; expected .+? from 0 to [0-9]+\.")


class LeftOut(NamedTuple):
    """The numbers of objects that are left out.

    Attributes:
        crowds: Regions of many objects (`is_crowd`).
        difficult: Objects marked as difficult (`is_difficult`).
        empty: Boxes without area.
    """

    crowds: int
    difficult: int
    empty: int


def load_objects(
    dataset: str,
    data_dir: StrPath,
    train: bool,
    split: str | None = None,
    num_images: int | None = None,
    allow_missing_shards: bool = False,
    *,
    reading: Reading | None = None,
) -> Split:
    """Loads a split of a dataset with boxes; tfds prepares the dataset first if needed.

    Args:
        dataset: "digit_scenes", or any name of tensorflow_datasets whose features have boxes and labels, such as
            "coco/2017" or "voc/2007".
        data_dir: Where the data is prepared.
        train: Whether the split to train on is wanted, or the one to evaluate on.
        split: Name of the split, or an expression of tfds such as "train[:80%]"; None for "train", or for the first of
            "validation", "test", "val", "eval".
        num_images: Has to be None; `load_split` takes it for "tfrecord", which has no boxes.
        allow_missing_shards: Has to be False, for the same reason.
        reading: The `Reading`, of which only the rules are for detection; None: the newest.

    Returns:
        A `Split` whose examples have, in place of "label":

        - "boxes", float32 (objects, 4): y0, x0, y1, x1 as fractions of the image;
        - "labels", int32 (objects,);
        - "left_out", int32 (3,): the `LeftOut` of the example, objects that are not in the other two;
        - "image_id", a scalar int64, if there is a feature "image/id".

        A box that reaches up to a pixel past its image is clipped; reading a worse one fails with `OBJECT_ERROR`.

    Raises:
        MissingSplitError: If the dataset has no such split.
        InputError: If the dataset is unknown, or has no boxes.
        ConnectionError: If tfds cannot download the dataset.
    """
    if num_images is not None or allow_missing_shards:
        raise InputError("num_images and allow_missing_shards go with --dataset=tfrecord, which has no boxes.")
    rules = (reading or Reading()).check(dataset).rules()
    builder = prepared_builder(dataset, data_dir)
    name = split_name(builder, wanted_splits(train, split), dataset, data_dir)
    image_key, objects_key, box_key, label_key = _keys(dataset, builder.info.features)
    label = builder.info.features[objects_key].feature[label_key]

    def example(read):
        objects = read[objects_key]
        flags = [objects.get(flag) for flag in ("is_crowd", "is_difficult")]
        found = _example(
            read[image_key],
            objects[box_key],
            objects[label_key],
            flags,
            read["tfds_id"],
            label.num_classes,
            rules,
        )
        return {**found, "image_id": read["image/id"]} if "image/id" in read else found

    return split_of_builder(dataset, builder, name, image_key, label, example, rules)


def count_left_out(split: Split) -> LeftOut:
    """Reads a whole split, checks each box, and counts what is left out.

    Raises:
        tf.errors.InvalidArgumentError: With `OBJECT_ERROR`, if a box or label is impossible.
    """
    counts = split.read().map(lambda example: example["left_out"], num_parallel_calls=tf.data.AUTOTUNE)
    total = counts.reduce(tf.zeros(len(LeftOut._fields), tf.int32), tf.add)
    return LeftOut(*total.numpy().tolist())


def _keys(dataset, features):
    """The names of the features: image, objects, and in the objects box and label."""
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    for key, feature in features.items():
        inside = dict(getattr(getattr(feature, "feature", None), "items", dict)())
        boxes = [name for name, each in inside.items() if _is_relative_box(each)]
        labels = [name for name, each in inside.items() if isinstance(each, tfds.features.ClassLabel)]
        if images and len(boxes) == 1 and labels:
            return images[0], key, boxes[0], "label" if "label" in labels else labels[0]
    raise InputError(
        f"Dataset {dataset!r} has no image with a sequence of boxes and class labels; its features are "
        f"{list(features)}."
    )


def _is_relative_box(feature):
    """Whether a feature is y0, x0, y1, x1 as fractions of the image, the only format of older versions of tfds."""
    is_box = isinstance(feature, tfds.features.BBoxFeature)
    return is_box and getattr(getattr(feature, "bbox_format", None), "name", "REL_YXYX") == "REL_YXYX"


def _example(image, boxes, labels, flags, example_id, num_classes, rules=NEWEST):
    """An example of a split, without the objects that are left out."""
    boxes, labels = tf.cast(boxes, tf.float32), tf.cast(labels, tf.int32)
    pixels = tf.tile(tf.cast(image_shape(image, rules)[:2], tf.float32), [2])
    fits = tf.reduce_all((boxes * pixels >= -_OVERSHOOT) & (boxes * pixels <= pixels + _OVERSHOOT), -1)  # false for NaN
    is_right = fits & tf.reduce_all(boxes[:, :2] <= boxes[:, 2:], -1) & (labels >= 0) & (labels < num_classes)
    first = tf.argmin(tf.cast(tf.concat([is_right, [False]], 0), tf.int32))  # adds zeros if all are right
    wrong_box, wrong_label = tf.concat([boxes, tf.zeros((1, 4))], 0)[first], tf.concat([labels, [0]], 0)[first]
    parts = [
        "Object ",
        tf.as_string(first),
        " of ",
        example_id,
        " has the box ",
        tf.strings.reduce_join(tf.as_string(wrong_box, precision=4), separator=", "),
        " and the label ",
        tf.as_string(wrong_label),
        "; expected y0 <= y1 and x0 <= x1 as fractions of the image, at most a pixel past it, and a label from 0 to "
        f"{num_classes - 1}.",
    ]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(is_right), [tf.strings.join(parts)])]):
        boxes = tf.clip_by_value(boxes, 0.0, 1.0)
    nothing = tf.zeros_like(labels, tf.bool)
    crowd, difficult = (nothing if flag is None else tf.cast(flag, tf.bool) for flag in flags)
    empty = tf.reduce_any(boxes[:, :2] >= boxes[:, 2:], -1)
    reasons = [crowd, difficult & ~crowd, empty & ~difficult & ~crowd]
    kept = ~tf.reduce_any(reasons, 0)
    return {
        "image": image,
        "boxes": boxes[kept],
        "labels": labels[kept],
        "left_out": tf.reduce_sum(tf.cast(reasons, tf.int32), 1),
        "id": example_id,
    }
