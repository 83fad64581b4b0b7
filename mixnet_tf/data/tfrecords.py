"""TFRecord files: their records by number, and which of them are missing or damaged."""

import contextlib
import os
import re
from collections.abc import Iterable

import tensorflow as tf

from mixnet_tf.errors import InputError

_SHARD = re.compile(r"(.+)-([0-9]+)-of-([0-9]+)")


def missing_shards(files: Iterable[str]) -> tuple[str, ...]:
    """Names of the files that are not there, where names end in -NUMBER-of-COUNT."""
    found = [match.groups() for file in files if (match := _SHARD.fullmatch(os.path.basename(file)))]
    there = {(stem, int(number), count) for stem, number, count in found}
    return tuple(
        f"{stem}-{number:0{len(count)}d}-of-{count}"
        for stem, count in sorted({(stem, count) for stem, _, count in found})
        for number in range(int(count))
        if (stem, number, count) not in there
    )


def numbered_records(file: tf.Tensor) -> tf.data.Dataset:
    """The records of a file, each with an id: the file and the record's number."""

    def with_id(index, record):
        return record, tf.strings.join([file, "__", tf.strings.as_string(index)])

    return tf.data.TFRecordDataset(file).enumerate().map(with_id)


def count_records(files: Iterable[str]) -> int:
    """The number of records of TFRecord files.

    Raises:
        ValueError: If a record is damaged or a file cut short, naming the file and the place.
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
