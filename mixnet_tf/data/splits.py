"""A dataset by its name: what it holds, and its encoded examples in an order that a seed decides."""

import contextlib
import importlib
import io
import logging
import os
import re
from collections.abc import Callable
from typing import Any

import requests  # what tensorflow_datasets downloads with, and whose errors it passes on
import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf import imagenet
from mixnet_tf.class_names import checked_names
from mixnet_tf.data import digits  # noqa: F401 (registers the builders with tfds)
from mixnet_tf.data.folders import folder_split
from mixnet_tf.data.rules import DATA_VERSION, rules_of
from mixnet_tf.data.split import MissingSplitError, Split, first_of
from mixnet_tf.data.tfrecords import count_records, missing_shards, numbered_records
from mixnet_tf.errors import InputError, first_line
from mixnet_tf.files import StrPath

EVAL_SPLITS = ("validation", "test", "val", "eval")
_RETRIES = 4  # of tfds for each file; with its pauses some 6 seconds
PARALLEL_FILES = 16  # source: imagenet_input.py:ImageNetInput, cycle_length
# What an example whose label is no class fails with, inside an error of TensorFlow.
LABEL_ERROR = re.compile(r"The label -?[0-9]+ of .+? is not a whole number from [0-9]+ to [0-9]+\.")


def load_split(
    dataset: str,
    data_dir: StrPath,
    train: bool,
    split: str | None = None,
    num_images: int | None = None,
    allow_missing_shards: bool = False,
    *,
    data_version: int = DATA_VERSION,
) -> Split:
    """Finds a split of a dataset, and prepares the dataset first where tfds has to.

    Args:
        dataset: "digits" or "scattered_digits"; "tfrecord": ImageNet's raw shards `train-*` and `validation-*` in
            `data_dir`; "folder": images at `data_dir/split/class/*`; or any tfds name.
        data_dir: Where the data is or, for tfds, is prepared.
        train: Whether the split to train on is wanted, or the one to evaluate on.
        split: Name of the split; None for "train", or for the first of "validation", "test", "val", "eval".
        num_images: tfrecord: examples of the split; None for ImageNet's own where the shards are
            numbered as ImageNet's, else they are counted.
        allow_missing_shards: tfrecord: whether files named `*-of-N` may be fewer than N.
        data_version: Of the `Rules` by which the data is read; a run keeps the one in its config.json.

    Returns:
        A `Split`. Reading an example whose label is no class fails with `LABEL_ERROR`.

    Raises:
        MissingSplitError: If the dataset has no such split.
        InputError: For an unknown dataset, one without images or labels, shards that are missing, or records that
            are to be counted and cannot be read.
        ConnectionError: If tfds cannot download the dataset.
    """
    data_dir = os.path.expanduser(data_dir)
    rules_of(data_version)  # an unknown one is refused
    if dataset == "tfrecord":
        name = split or ("train" if train else "validation")
        return _tfrecord_split(data_dir, name, num_images, allow_missing_shards)._replace(data_version=data_version)
    if num_images is not None or allow_missing_shards:
        raise InputError(
            f"num_images and allow_missing_shards go with --dataset=tfrecord; {dataset!r} knows its own size and files."
        )
    wanted = [split] if split else (["train"] if train else EVAL_SPLITS)
    if dataset == "folder":
        return folder_split(data_dir, wanted, data_version)
    builder = prepared_builder(dataset, data_dir)
    name = first_of(wanted, list(builder.info.splits), dataset, data_dir)
    return _tfds_split(dataset, builder, name)._replace(data_version=data_version)


def prepared_builder(dataset: str, data_dir: StrPath) -> tfds.core.DatasetBuilder:
    """The builder of a dataset of tfds, downloaded and prepared.

    Raises:
        InputError: For an unknown dataset, or one whose files must be fetched by hand.
        ConnectionError: If it cannot be downloaded.
    """
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise InputError(
            f"Unknown dataset {dataset!r}: expected 'digits', 'scattered_digits', 'tfrecord', 'folder' or a name of "
            f"tensorflow_datasets ({first_line(error)})."
        ) from error
    try:
        # tfds announces it on standard output; its bars are on standard error.
        with contextlib.redirect_stdout(io.StringIO()), _few_retries():
            builder.download_and_prepare()
    except AssertionError as error:  # tfds says so where files must be fetched by hand
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
    """Within its `with` block tfds asks a server that does not answer for seconds, not for minutes, and in silence."""
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


def _tfds_split(dataset, builder, name):
    image_key, label_key = _image_and_label(dataset, builder.info)
    label = builder.info.features[label_key]

    def example(read):
        return _example(read[image_key], read[label_key], read["tfds_id"], label.num_classes)

    return split_of_builder(dataset, builder, name, image_key, label, example)


def split_of_builder(
    dataset: str,
    builder: tfds.core.DatasetBuilder,
    name: str,
    image_key: str,
    label: tfds.features.ClassLabel,
    example: Callable,
) -> Split:
    """A split of a prepared builder, its images left encoded.

    Args:
        dataset: Its name.
        builder: The builder.
        name: The split's name.
        image_key: Which feature is the image.
        label: What the classes are.
        example: A function of an example as tfds gives it, with "tfds_id", to one of the split.

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

    def read(shuffle_seed=None, shard=0, num_shards=1):
        config = tfds.ReadConfig(
            try_autocache=False,
            shuffle_seed=shuffle_seed,
            add_tfds_id=True,
            interleave_cycle_length=PARALLEL_FILES,
            skip_prefetch=True,
        )
        examples = tf.autograph.experimental.do_not_convert(builder.as_dataset)(
            split=tfds.even_splits(name, num_shards)[shard],
            decoders={image_key: tfds.decode.SkipDecoding()},
            shuffle_files=shuffle_seed is not None,
            read_config=config,
        )
        return examples.map(example)

    files = tuple(map(os.fspath, info.filepaths))
    return Split(dataset, name, info.num_examples, _names(label, dataset), label.num_classes, read, files)


def _names(label, dataset):
    """The names of a tfds label; None where it counts its classes alone, which tfds then calls "0", "1" and so on."""
    # Not public, but nothing public tells the two apart.
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


def _example(image, label, example_id, num_classes, first_label=0):
    """An example of a split; `first_label` is what its dataset calls class 0."""
    received = tf.strings.as_string(label)
    last_label = first_label + num_classes - 1
    message = [
        "The label ",
        received,
        " of ",
        example_id,
        f" is not a whole number from {first_label} to {last_label}.",
    ]
    is_class = (label >= first_label) & (label <= last_label)
    with tf.control_dependencies([tf.debugging.Assert(is_class, [tf.strings.join(message)])]):
        return {"image": image, "label": label - first_label, "id": example_id}


def _tfrecord_split(data_dir, name, num_images, allow_missing_shards):
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
    if num_images is None:
        num_images = images if is_imagenet and len(files) == shards else count_records(files)
    if num_images < 1:
        raise InputError(f"{data_dir}/{name}-* hold no records.")

    def read(shuffle_seed=None, shard=0, num_shards=1):
        whole_files = shuffle_seed is not None and len(files) >= num_shards
        own = tf.data.Dataset.from_tensor_slices(files[shard::num_shards] if whole_files else files)
        if shuffle_seed is not None:
            own = own.shuffle(len(files), seed=shuffle_seed, reshuffle_each_iteration=False)
        records = own.interleave(numbered_records, cycle_length=PARALLEL_FILES, num_parallel_calls=tf.data.AUTOTUNE)
        if not whole_files:
            records = records.shard(num_shards, shard)
        return records.map(_parse_imagenet)

    names = imagenet.wordnet_ids() if is_imagenet else None
    return Split("tfrecord", name, num_images, names, imagenet.CLASSES, read, tuple(files), missing)


def _parse_imagenet(record, record_id):
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    return _example(parsed["image/encoded"], parsed["image/class/label"], record_id, imagenet.CLASSES, first_label=1)
