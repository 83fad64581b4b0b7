"""Data: from a dataset's name to batches of images and labels.

In: a dataset's name and folder, or encoded images.
Out: `Split`s, `tf.data` batches, images preprocessed as by the reference, and class names.
"""

from mixnet_tf.data.class_names import decode_predictions, label_names
from mixnet_tf.data.corruption import naming_corrupt_images
from mixnet_tf.data.decoding import FORMATS, decode_image
from mixnet_tf.data.folders import images_below, list_images
from mixnet_tf.data.hashed_splits import ALL, VALIDATION, check_hash_version
from mixnet_tf.data.held_out import hold_out
from mixnet_tf.data.object_batches import object_eval_batches, train_object_batches
from mixnet_tf.data.objects import count_left_out, load_objects
from mixnet_tf.data.pipeline import (
    eval_batches,
    measuring_batches,
    report_batches,
    shorter_sides,
    train_batches,
    train_examples,
)
from mixnet_tf.data.preprocessing import center_window, preprocess_for_eval, preprocess_for_train, random_window
from mixnet_tf.data.rules import DATA_VERSION, LIST, NEWEST, UPRIGHT, VALIDATION_FRACTION, Reading, Rules
from mixnet_tf.data.split import MissingSplitError, Split
from mixnet_tf.data.splits import load_split
from mixnet_tf.data.turned_images import counting_turned, log_turned

__all__ = [
    "ALL",
    "DATA_VERSION",
    "FORMATS",
    "LIST",
    "NEWEST",
    "UPRIGHT",
    "MissingSplitError",
    "Reading",
    "Rules",
    "Split",
    "VALIDATION",
    "VALIDATION_FRACTION",
    "center_window",
    "check_hash_version",
    "count_left_out",
    "counting_turned",
    "decode_image",
    "decode_predictions",
    "eval_batches",
    "hold_out",
    "images_below",
    "label_names",
    "list_images",
    "load_objects",
    "load_split",
    "log_turned",
    "measuring_batches",
    "naming_corrupt_images",
    "object_eval_batches",
    "preprocess_for_eval",
    "preprocess_for_train",
    "random_window",
    "report_batches",
    "shorter_sides",
    "train_batches",
    "train_examples",
    "train_object_batches",
]
