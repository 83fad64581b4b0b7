"""A dataset by its name: what it holds, and its encoded examples in an order that a seed decides."""

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds

from mixnet_tf import digits  # noqa: F401 (registers the builder with tfds)

_IMAGENET = {"train": (1024, 1281167), "validation": (128, 50000)}  # split: (shards, images)
_IMAGENET_CLASSES = 1000
_EVAL_SPLITS = ("validation", "test", "val", "eval")
_PARALLEL_FILES = 16  # source: imagenet_input.py:ImageNetInput, cycle_length


class MissingSplitError(ValueError):
    """A dataset does not have the split that was asked for."""


class Split(NamedTuple):
    """One split of a dataset.

    `read(shuffle_seed, shard, num_shards)` gives a `tf.data.Dataset` of one pass over a share of the
    split: dicts of "image" (scalar string: the encoded file), "label" (scalar int64, from 0) and "id"
    (scalar string: the file and place to look for it). `shuffle_seed`, an int or a scalar tensor,
    decides the order of the files; None leaves it. `files` are the TFRecord files behind it, if it has such.
    """

    dataset: str
    name: str
    num_examples: int
    label_names: tuple[str, ...] | None
    num_classes: int
    read: Callable
    files: tuple[str, ...] = ()

    def share(self, shard, num_shards):
        """Examples of one of `num_shards` equal shares, the first ones larger by one where needed."""
        return self.num_examples // num_shards + (shard < self.num_examples % num_shards)


def load_split(dataset, data_dir, train, split=None, num_images=None):
    """Finds a split of a dataset, and prepares the dataset first where tfds has to.

    Args:
        dataset: "digits"; "tfrecord": ImageNet's raw shards `train-*` and `validation-*` in `data_dir`;
            "folder": images at `data_dir`/split/class/*; or any tfds name.
        data_dir: Where the data is or, for tfds, is prepared.
        train: Whether the split to train on is wanted, or the one to evaluate on.
        split: Name of the split; None for "train", or for the first of "validation", "test", "val", "eval".
        num_images: tfrecord: examples of the split; None for ImageNet's own where the shards are
            numbered as ImageNet's, else they are counted.

    Returns:
        A `Split`.

    Raises:
        MissingSplitError: If the dataset has no such split.
        ValueError: For an unknown dataset, one without images or labels, or records that are to be counted and cannot
            be read.
    """
    data_dir = os.fspath(data_dir)
    if dataset == "tfrecord":
        return _tfrecord_split(data_dir, split or ("train" if train else "validation"), num_images)
    if num_images is not None:
        raise ValueError(f"num_images goes with --dataset=tfrecord; {dataset!r} knows its own size.")
    builder = _folder_builder(data_dir) if dataset == "folder" else _tfds_builder(dataset, data_dir)
    available = list(builder.info.splits)
    wanted = [split] if split else (["train"] if train else _EVAL_SPLITS)
    name = next((name for name in wanted if name in available), None)
    if name is None:
        raise MissingSplitError(
            f"Dataset {dataset!r} in {data_dir} has no split {' or '.join(wanted)}; it has {available}."
        )
    return _tfds_split(dataset, builder, name)


def _tfds_builder(dataset, data_dir):
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"Unknown dataset {dataset!r}: expected 'digits', 'tfrecord', 'folder' or a name of tensorflow_datasets "
            f"({str(error).strip().splitlines()[0]})."
        ) from error
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # tfds says so where files must be fetched by hand
        raise ValueError(f"Dataset {dataset!r} cannot be prepared in {data_dir}: {error}") from error
    return builder


def _folder_builder(data_dir):
    if not tf.io.gfile.isdir(data_dir):
        raise ValueError(f"data_dir: there is no folder {data_dir}; expected data_dir/split/class/image files.")
    return tfds.ImageFolder(data_dir)


def _tfds_split(dataset, builder, name):
    image_key, label_key = _image_and_label(dataset, builder.info)
    info = builder.info.splits[name]
    if info.num_examples == 0:
        raise ValueError(f"Split {name!r} of dataset {dataset!r} has no images.")
    by_files = dataset != "folder"  # ImageFolder takes no sub-splits; tfds' files are shuffled by seed

    def read(shuffle_seed=None, shard=0, num_shards=1):
        config = tfds.ReadConfig(
            try_autocache=False,
            shuffle_seed=shuffle_seed,
            add_tfds_id=by_files,
            interleave_cycle_length=_PARALLEL_FILES,
            skip_prefetch=True,
        )
        examples = tf.autograph.experimental.do_not_convert(builder.as_dataset)(
            split=tfds.even_splits(name, num_shards)[shard] if by_files else name,
            decoders={image_key: tfds.decode.SkipDecoding()},
            shuffle_files=by_files and shuffle_seed is not None,
            read_config=config,
        )
        if not by_files:
            examples = examples.shard(num_shards, shard)
        id_key = "tfds_id" if by_files else "image/filename"
        return examples.map(lambda e: {"image": e[image_key], "label": e[label_key], "id": e[id_key]})

    label = builder.info.features[label_key]
    files = tuple(map(os.fspath, info.filepaths)) if by_files else ()
    return Split(dataset, name, info.num_examples, tuple(label.names), label.num_classes, read, files)


def _image_and_label(dataset, info):
    keys = [
        [key for key, feature in info.features.items() if isinstance(feature, kind)]
        for kind in (tfds.features.Image, tfds.features.ClassLabel)
    ]
    supervised = info.supervised_keys or ()
    chosen = [next((key for key in found if key in supervised), found[0] if found else None) for found in keys]
    if None in chosen:
        raise ValueError(
            f"Dataset {dataset!r} has no image with a class label; its features are {list(info.features)}."
        )
    return chosen


def _tfrecord_split(data_dir, name, num_images):
    files = sorted(tf.io.gfile.glob(os.path.join(data_dir, f"{name}-*")))
    if not files:
        raise MissingSplitError(f"data_dir: no files {name}-* in {data_dir}; expected raw ImageNet TFRecord shards.")
    if num_images is None:
        shards, images = _IMAGENET.get(name, (None, None))
        numbered = files[0].endswith(f"-of-{shards:05d}") if shards else False
        num_images = images if numbered and len(files) == shards else count_records(files)
    if num_images < 1:
        raise ValueError(f"{data_dir}/{name}-* hold no records.")

    def read(shuffle_seed=None, shard=0, num_shards=1):
        whole_files = shuffle_seed is not None and len(files) >= num_shards
        own = tf.data.Dataset.from_tensor_slices(files[shard::num_shards] if whole_files else files)
        if shuffle_seed is not None:
            own = own.shuffle(len(files), seed=shuffle_seed, reshuffle_each_iteration=False)
        records = own.interleave(_records, cycle_length=_PARALLEL_FILES, num_parallel_calls=tf.data.AUTOTUNE)
        if not whole_files:
            records = records.shard(num_shards, shard)
        return records.map(_parse_imagenet)

    return Split("tfrecord", name, num_images, None, _IMAGENET_CLASSES, read, tuple(files))


def _records(file):
    def with_id(index, record):
        return record, tf.strings.join([file, "__", tf.strings.as_string(index)])

    return tf.data.TFRecordDataset(file).enumerate().map(with_id)


def _parse_imagenet(record, record_id):
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    return {"image": parsed["image/encoded"], "label": parsed["image/class/label"] - 1, "id": record_id}


def count_records(files):
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
        raise ValueError(
            f"{file}: record {readable}, counted from 0, cannot be read: the file is damaged or cut short. "
            f"Write it, or fetch it, again."
        ) from error
