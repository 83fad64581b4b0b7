"""Counts the images whose EXIF orientation turns them."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

from mixnet_tf.data.orientation import exif_orientation
from mixnet_tf.data.rules import FILE_DATASETS
from mixnet_tf.data.split import Split

_FIRST = 1000  # images that are looked at before the work
_BEGINNING = 1 << 17  # bytes of a file; the EXIF segment, of at most 64 KB, is one of its first ones
_AT_ONCE, _BATCH = 16, 64  # images


def log_turned(split: Split) -> None:
    """Logs how many of the first 1,000 images of a split are turned; of those that are not, if there are any.

    A split that is not of image files is not counted.
    """
    if split.dataset in FILE_DATASETS:
        _log(split, min(_FIRST, split.num_examples))


@contextlib.contextmanager
def counting_turned(split: Split) -> Iterator[Callable[[], None]]:
    """Gives a function that begins to count all images of a split in a thread, which logs the number.

    The thread ends with the `with` block. Images that `log_turned` has counted all, and those of a split that is not
    of image files, are not counted.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_log, args=(split, split.num_examples, ended), name="EXIF", daemon=True)
    is_known = split.dataset not in FILE_DATASETS or split.ids is None or split.num_examples <= _FIRST
    try:
        yield (lambda: None) if is_known else thread.start
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def _log(split, count, ended=None):
    turned = 0
    for orientations in _orientations(split).take(count).batch(_BATCH):
        if ended is not None and ended.is_set():
            return
        turned += int(tf.math.count_nonzero(orientations != 1))
    of = f"{turned:,} of {'all' if count == split.num_examples else 'the first'} {count:,}"
    if split.rules.exif:
        logging.info(f"Images that are turned as their EXIF orientation says: {of}.")
    elif turned:
        logging.info(
            f"Images that are not turned, although their EXIF orientation says so: {of}. A new run with --exif turns "
            "them."
        )


def _orientations(split):
    """A dataset of the EXIF orientations of a split of image files."""
    if split.ids is None:  # by the rules of 0.2.0
        return split.read().map(lambda example: exif_orientation(example["image"]))

    def of_file(path):
        return exif_orientation(tf.ensure_shape(tf.numpy_function(_beginning, [path], tf.string), ()))

    return tf.data.Dataset.from_tensor_slices(split.ids).map(of_file, num_parallel_calls=_AT_ONCE)


def _beginning(path):
    """The first bytes of a file; none if it cannot be read, which reading the split reports."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(_BEGINNING)
    except tf.errors.OpError:
        return b""
