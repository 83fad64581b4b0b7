"""Splits of datasets of tensorflow_datasets, which are downloaded and prepared first if needed."""

import contextlib
import importlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import requests  # tensorflow_datasets downloads with it, and passes on its errors
import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf.class_names import checked_names
from mixnet_tf.data import digits, scenes  # noqa: F401 (registers the builders with tfds)
from mixnet_tf.data.rules import Rules
from mixnet_tf.data.split import PARALLEL_FILES, MissingSplitError, Split, first_of, labeled_example
from mixnet_tf.errors import InputError, first_line
from mixnet_tf.files import StrPath

_RETRIES = 4  # retries of tfds for each file; with its pauses about 6 seconds


def tfds_split(dataset: str, data_dir: StrPath, wanted: Sequence[str], rules: Rules) -> Split:
    """Returns the first of the wanted splits that a dataset has; its examples need images and class labels.

    Args:
        dataset: A name of tensorflow_datasets.
        data_dir: Where the data is prepared.
        wanted: Names of splits, or expressions of tensorflow_datasets such as "train[:80%]".
        rules: The `Rules`.

    Raises:
        MissingSplitError: If the dataset has none of them.
        InputError: If the dataset is unknown, or has no images or labels.
        ConnectionError: If it cannot be downloaded.
    """
    builder = prepared_builder(dataset, data_dir)
    name = split_name(builder, wanted, dataset, data_dir)
    image_key, label_key = _image_and_label(dataset, builder.info)
    label = builder.info.features[label_key]

    def example(read):
        return labeled_example(read[image_key], read[label_key], read["tfds_id"], label.num_classes)

    return split_of_builder(dataset, builder, name, image_key, label, example, rules)


def prepared_builder(dataset: str, data_dir: StrPath) -> tfds.core.DatasetBuilder:
    """Downloads and prepares a dataset of tfds, and returns its builder.

    Raises:
        InputError: If the dataset is unknown, or if its files have to be downloaded by hand.
        ConnectionError: If it cannot be downloaded.
    """
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise InputError(
            f"Unknown dataset {dataset!r}: expected 'digits', 'scattered_digits', 'tfrecord', 'folder', 'list' or a "
            f"name of tensorflow_datasets ({first_line(error)})."
        ) from error
    try:
        # tfds announces it on standard output; its progress bars are on standard error.
        with contextlib.redirect_stdout(io.StringIO()), _few_retries():
            builder.download_and_prepare()
    except AssertionError as error:  # raised by tfds if files have to be downloaded by hand
        raise InputError(f"Dataset {dataset!r} cannot be prepared in {data_dir}: {error}") from error
    except (tfds.download.DownloadError, requests.RequestException) as error:
        by_hand = os.path.join(os.fspath(data_dir), "downloads", "manual")
        raise ConnectionError(
            f"Dataset {dataset!r} cannot be downloaded to {data_dir}: {error}. Prepare it where there is a network and "
            f"copy the folder there, or place the files that tensorflow_datasets asks for in {by_hand}."
        ) from error
    except FileExistsError:  # another worker has prepared it in the meantime
        builder = tfds.builder(dataset, data_dir=data_dir)
    return builder


@contextlib.contextmanager
def _few_retries():
    """Within its `with` block, tfds gives up on a silent server after seconds, not minutes, without messages."""
    module: Any = importlib.import_module("tensorflow_datasets.core.download.downloader")
    log = logging.getLogger("urllib3")
    retries, level = getattr(module, "MAX_RETRIES", None), log.level
    module.MAX_RETRIES = _RETRIES
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        module.MAX_RETRIES = retries
        log.setLevel(level)


def split_name(builder: tfds.core.DatasetBuilder, wanted: Sequence[str], dataset: str, data_dir: StrPath) -> str:
    """Returns the first of the wanted splits that a prepared dataset has.

    Args:
        builder: The dataset's builder.
        wanted: Names of splits, or one expression of tensorflow_datasets, such as "train[:80%]" or "train+test".
        dataset: Name of the dataset, for the error.
        data_dir: Where it is prepared, for the error.

    Raises:
        MissingSplitError: If it has none of them; if it has a single split, the message says how to divide it.
        InputError: If an expression cannot be read, or takes no images.
    """
    available = list(builder.info.splits)
    expression = next((name for name in wanted if "[" in name or "+" in name or name == "all"), None)
    if expression is None or expression in available:
        if len(available) == 1 and not set(wanted) & set(available):
            [only] = available
            raise MissingSplitError(
                f"Dataset {dataset!r} in {data_dir} has no split {' or '.join(wanted)}; its only split is {only!r}. "
                f"Divide it: --train_split='{only}[:80%]' --eval_split='{only}[80%:]'."
            )
        return first_of(wanted, available, dataset, data_dir)
    try:
        images = builder.info.splits[expression].num_examples
    except ValueError as error:
        raise InputError(
            f"Split {expression!r} of dataset {dataset!r}: {first_line(error)} Expected one of {available}, or a part "
            "such as 'train[:80%]'."
        ) from error
    if images < 1:
        raise InputError(f"Split {expression!r} of dataset {dataset!r} has no images; it is an empty part.")
    return expression


def _parts(builder, expression):
    """The (split, first, end) places that an expression of tfds takes."""
    for part in tfds.core.ReadInstruction.from_spec(expression).to_absolute(builder.info.splits):
        end = builder.info.splits[part.splitname].num_examples if part.to is None else part.to
        yield part.splitname, part.from_ or 0, end


def _overlaps(builder, name):
    """The function that says whether the split `name` has images in common with the split of another name."""

    def overlaps(other):
        try:
            theirs = list(_parts(builder, other))
        except ValueError:  # the dataset has no such split
            return False
        return any(
            one == two and max(first, start) < min(last, end)
            for one, first, last in _parts(builder, name)
            for two, start, end in theirs
        )

    return overlaps


def split_of_builder(
    dataset: str,
    builder: tfds.core.DatasetBuilder,
    name: str,
    image_key: str,
    label: tfds.features.ClassLabel,
    example: Callable,
    rules: Rules,
) -> Split:
    """A split of a prepared builder; its images stay encoded.

    Args:
        dataset: Name of the dataset.
        builder: The builder.
        name: The split's name.
        image_key: Name of the image feature.
        label: The feature of the class label.
        example: A function from an example of tfds, with "tfds_id", to an example of the split.
        rules: The `Rules`.

    Raises:
        InputError: If the split is empty.
    """
    info = builder.info.splits[name]
    if info.num_examples == 0:
        raise InputError(f"Split {name!r} of dataset {dataset!r} has no images.")
    if getattr(builder.info.file_format, "value", None) == "array_record":
        raise InputError(
            f"Dataset {dataset!r} in {builder.data_path} is prepared as array_record, which tensorflow_datasets does "
            "not read with tf.data; name another data_dir, where it is prepared as TFRecords."
        )

    # The shards of one part are equal; those of a sum of parts are not, so hosts divide its examples.
    by_tfds = len(list(_parts(builder, name))) == 1

    def read(shuffle_seed=None, shard=0, num_shards=1):
        config = tfds.ReadConfig(
            try_autocache=False,
            shuffle_seed=shuffle_seed,
            add_tfds_id=True,
            interleave_cycle_length=PARALLEL_FILES,
            skip_prefetch=True,
        )
        examples = tf.autograph.experimental.do_not_convert(builder.as_dataset)(
            split=tfds.even_splits(name, num_shards)[shard] if by_tfds else name,
            decoders={image_key: tfds.decode.SkipDecoding()},
            shuffle_files=shuffle_seed is not None,
            read_config=config,
        )
        return (examples if by_tfds else examples.shard(num_shards, shard)).map(example)

    return Split(
        dataset,
        name,
        info.num_examples,
        _names(label, dataset),
        label.num_classes,
        read,
        files=tuple(map(os.fspath, info.filepaths)),
        rules=rules,
        overlaps=_overlaps(builder, name),
    )


def _names(label, dataset):
    """The class names of a tfds label; None if it only counts its classes, which tfds then names "0", "1", ..."""
    # Not public, but there is no public way to distinguish the two.
    return checked_names(label.names, f"Dataset {dataset!r}") if getattr(label, "_int2str", True) else None


def _image_and_label(dataset, info):
    keys = [
        [key for key, feature in info.features.items() if isinstance(feature, kind)]
        for kind in (tfds.features.Image, tfds.features.ClassLabel)
    ]
    supervised = info.supervised_keys or ()
    chosen = [next((key for key in found if key in supervised), found[0] if found else None) for found in keys]
    if None in chosen:
        raise InputError(
            f"Dataset {dataset!r} has no image with a class label; its features are {list(info.features)}."
        )
    return chosen
