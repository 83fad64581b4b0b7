"""Splits of raw TFRecord shards in the format of ImageNet's; finds missing shards and damaged records."""

import contextlib
import functools
import os
import re
from collections.abc import Iterable

import tensorflow as tf

from mixnet_tf import imagenet
from mixnet_tf.data.rules import Rules
from mixnet_tf.data.split import PARALLEL_FILES, MissingSplitError, Split, labeled_example
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath

_SHARD = re.compile(r"(.+)-([0-9]+)-of-([0-9]+)")


def tfrecord_split(
    data_dir: StrPath,
    name: str,
    num_images: int | None,
    allow_missing_shards: bool,
    num_label_classes: int | None,
    rules: Rules,
) -> Split:
    """A split of raw shards in the format of ImageNet's, the files `name-*` of a folder.

    Args:
        data_dir: The folder.
        name: The split's name.
        num_images: Examples of the split. None: ImageNet's number if the shards are numbered like ImageNet's, else they
            are counted.
        allow_missing_shards: Whether files named `*-of-N` may be fewer than N.
        num_label_classes: Number of classes, which labels count from 1; None: ImageNet's 1000.
        rules: The `Rules`.

    Raises:
        MissingSplitError: If there are no such files.
        InputError: If shards are missing, or if records that have to be counted cannot be read.
    """
    listed = tf.io.gfile.listdir(data_dir) if tf.io.gfile.isdir(data_dir) else ()
    files = sorted(os.path.join(data_dir, file) for file in listed if file.startswith(f"{name}-"))
    if not files:
        raise MissingSplitError(f"data_dir: no files {name}-* in {data_dir}; expected raw ImageNet TFRecord shards.")
    missing = missing_shards(files)
    if missing and not allow_missing_shards:
        shown = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        raise InputError(
            f"data_dir: {data_dir} lacks {len(missing)} shards of split {name!r}: {shown}. Fetch them, or leave "
            "them out with --allow_missing_shards."
        )
    shards, images = imagenet.SPLITS.get(name, (None, None))
    is_imagenet = files[0].endswith(f"-of-{shards:05d}") if shards else False
    if num_images is None and is_imagenet and len(files) == shards:
        num_images = images
    classes = num_label_classes or imagenet.CLASSES
    count = count_records(files) if num_images is None else num_images
    if count < 1:
        raise InputError(f"{data_dir}/{name}-* hold no records.")

    def read(shuffle_seed=None, shard=0, num_shards=1):
        whole_files = shuffle_seed is not None and len(files) >= num_shards
        own = tf.data.Dataset.from_tensor_slices(files[shard::num_shards] if whole_files else files)
        if shuffle_seed is not None:
            own = own.shuffle(len(files), seed=shuffle_seed, reshuffle_each_iteration=False)
        records = own.interleave(numbered_records, cycle_length=PARALLEL_FILES, num_parallel_calls=tf.data.AUTOTUNE)
        if not whole_files:
            records = records.shard(num_shards, shard)
        return records.map(functools.partial(_parse, classes))

    names = imagenet.wordnet_ids() if is_imagenet and classes == imagenet.CLASSES else None
    return Split(
        "tfrecord",
        name,
        count,
        names,
        classes,
        read,
        files=tuple(files),
        missing_shards=missing,
        rules=rules,
    )


def _parse(classes, record, record_id):
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    return labeled_example(parsed["image/encoded"], parsed["image/class/label"], record_id, classes, first_label=1)


def missing_shards(files: Iterable[str]) -> tuple[str, ...]:
    """The names of missing files, if names end in -NUMBER-of-COUNT."""
    found = [match.groups() for file in files if (match := _SHARD.fullmatch(os.path.basename(file)))]
    there = {(stem, int(number), count) for stem, number, count in found}
    return tuple(
        f"{stem}-{number:0{len(count)}d}-of-{count}"
        for stem, count in sorted({(stem, count) for stem, _, count in found})
        for number in range(int(count))
        if (stem, number, count) not in there
    )


def numbered_records(file: tf.Tensor) -> tf.data.Dataset:
    """The records of a file, each with an id: the file and the number of the record."""

    def with_id(index, record):
        return record, tf.strings.join([file, "__", tf.strings.as_string(index)])

    return tf.data.TFRecordDataset(file).enumerate().map(with_id)


def count_records(files: Iterable[str]) -> int:
    """The number of records of TFRecord files.

    Raises:
        ValueError: If a record is damaged or a file is truncated; the message has the file and position.
    """
    return sum(map(_count_records, files))


def _count_records(file):
    records = tf.data.TFRecordDataset(file)
    try:
        return int(records.reduce(0, lambda count, _: count + 1))
    except tf.errors.DataLossError as error:
        readable = 0
        with contextlib.suppress(tf.errors.DataLossError):
            for _ in records:
                readable += 1
        raise InputError(
            f"{file}: record {readable}, counted from 0, cannot be read: the file is damaged or cut short. "
            f"Write it, or fetch it, again."
        ) from error
