"""Loads a classification dataset by its name: encoded images and labels, in an order that a seed decides."""

import os

from mixnet_tf.data.folder_splits import folder_split
from mixnet_tf.data.lists import list_split
from mixnet_tf.data.rules import Reading
from mixnet_tf.data.split import Split, wanted_splits
from mixnet_tf.data.tfds_splits import tfds_split
from mixnet_tf.data.tfrecords import tfrecord_split
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath


def load_split(
    dataset: str,
    data_dir: StrPath,
    train: bool,
    split: str | None = None,
    num_images: int | None = None,
    allow_missing_shards: bool = False,
    *,
    reading: Reading | None = None,
) -> Split:
    """Loads a split of a dataset; tfds prepares the dataset first if needed.

    Args:
        dataset: "digits" or "scattered_digits"; "tfrecord": raw shards `train-*` and `validation-*` in `data_dir`, in
            the format of ImageNet's; "folder": images at `data_dir/split/class/*`, or at `data_dir/class/*`, which a
            hash of the path divides into the splits "train" and "validation" ("all" is both); "list": images that
            `reading.list` names, with their classes and, if wanted, splits; or any tfds name.
        data_dir: Where the data is or, for tfds, is prepared.
        train: Whether the split to train on is wanted, or the one to evaluate on.
        split: Name of the split, or an expression of tfds such as "train[:80%]"; None for "train", or for the first of
            "validation", "test", "val", "eval".
        num_images: tfrecord: examples of the split. None: ImageNet's number if the shards are numbered like
            ImageNet's, else they are counted.
        allow_missing_shards: tfrecord: whether files named `*-of-N` may be fewer than N.
        reading: The `Reading`; a run keeps the one in its config.json. None: the newest rules.

    Returns:
        A `Split`. Reading an example whose label is not a class fails with `LABEL_ERROR`.

    Raises:
        MissingSplitError: If the dataset has no such split.
        InputError: If the dataset is unknown or has no images or labels, if shards are missing, or if records that
            have to be counted cannot be read.
        ConnectionError: If tfds cannot download the dataset.
    """
    data_dir = os.path.expanduser(data_dir)
    reading = (reading or Reading()).check(dataset)
    rules = reading.rules()
    if dataset == "tfrecord":
        name = split or ("train" if train else "validation")
        return tfrecord_split(data_dir, name, num_images, allow_missing_shards, reading.num_label_classes, rules)
    if num_images is not None or allow_missing_shards:
        raise InputError(
            f"num_images and allow_missing_shards go with --dataset=tfrecord; {dataset!r} knows its own size and files."
        )
    wanted = wanted_splits(train, split)
    if dataset == "folder":
        return folder_split(data_dir, wanted, reading)
    if dataset == "list":
        return list_split(data_dir, wanted, reading)
    return tfds_split(dataset, data_dir, wanted, rules)
