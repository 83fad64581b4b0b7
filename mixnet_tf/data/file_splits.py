"""Splits of single image files: which images they have, and the order of reading."""

import array
import itertools
import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.class_names import listed
from mixnet_tf.data.hashed_splits import ALL, HASHED_SPLITS, TRAIN, VALIDATION, is_validation
from mixnet_tf.data.rules import Reading, Rules
from mixnet_tf.data.split import Split, first_of
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath
from mixnet_tf.imagenet import is_imagenet


class ImageFiles(NamedTuple):
    """Images of a dataset, by class.

    Attributes:
        dataset: Name of the dataset.
        source: The folder or list that names them, for messages.
        label_names: Names of the classes.
        paths: For each class the paths of its images.
    """

    dataset: str
    source: StrPath
    label_names: tuple[str, ...]
    paths: Sequence[Sequence[str]]

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(map(len, self.paths))

    def chosen(self, masks: Sequence[np.ndarray]) -> "ImageFiles":
        """The images for which the mask of their class, bool (images,), is true."""
        return self._replace(paths=[list(itertools.compress(*each)) for each in zip(self.paths, masks, strict=True)])

    def log_counts(self, title: str) -> None:
        """Logs how many images the classes have, and which have none."""
        by_name = {name: count for name, count in zip(self.label_names, self.class_counts, strict=True) if count}
        smallest, largest = min(by_name, key=by_name.__getitem__), max(by_name, key=by_name.__getitem__)
        logging.info(
            f"{title}: {sum(by_name.values()):,} images in {len(by_name):,} classes; in a class, smallest "
            f"{by_name[smallest]:,} ({smallest!r}), median {statistics.median(by_name.values()):,.10g}, largest "
            f"{by_name[largest]:,} ({largest!r})."
        )


def own_split(name: str, files: ImageFiles, reading: Reading) -> Split:
    """The split `name` of a dataset that has splits of its own.

    Args:
        name: The split's name.
        files: The images of the split.
        reading: The `Reading`.

    Raises:
        InputError: If the split has no images, or if the reading asks for a fraction of the images to hold out.
    """
    if reading.validation_fraction is not None:
        raise InputError(
            f"validation_fraction={reading.validation_fraction:g}: {files.source} has splits of its own, such as "
            f"{name!r}; leave the fraction out."
        )
    if not any(files.paths):
        raise InputError(
            f"Split {name!r} of dataset {files.dataset!r} has no images; expected {files.source}/{name}/class/*.jpg."
        )
    _log_empty(name, files)
    files.log_counts(f"Split {name!r}")
    return split_of_files(name, files, reading.rules(exif=not is_imagenet(files.label_names)))


def hashed_split(
    wanted: Sequence[str], files: ImageFiles, relative_paths: Sequence[Sequence[str]], reading: Reading
) -> Split:
    """The first of the wanted splits of a dataset without splits, whose images are divided by a hash of their paths.

    Args:
        wanted: Names of splits; the dataset has "train", "validation" and "all".
        files: The images of the dataset.
        relative_paths: For each class the paths of its images relative to the dataset's folder, which are hashed.
        reading: The `Reading`.

    Raises:
        MissingSplitError: If the dataset has none of the wanted splits.
        InputError: If the split "validation" has no images.
    """
    name, fraction = first_of(wanted, HASHED_SPLITS, files.dataset, files.source), reading.fraction
    held = [is_validation(paths, fraction) for paths in relative_paths]
    of_split = {TRAIN: files.chosen([~mask for mask in held]), VALIDATION: files.chosen(held), ALL: files}
    own, held_out = of_split[name], sum(of_split[VALIDATION].class_counts)
    if not any(own.paths):
        raise InputError(
            f"{files.source}: none of the {sum(files.class_counts)} images has a hash below "
            f"validation_fraction={fraction:g}; give a larger one."
        )
    if name == VALIDATION:
        own.log_counts(f"Split {name!r}")
        _log_empty(name, own)
    else:
        files.log_counts(str(files.source))
    if name == TRAIN:
        logging.info(
            f"{fraction:g} of the images, by a hash of their path, are the split {VALIDATION!r}: {held_out:,}."
        )
    split = split_of_files(name, own, reading.rules(exif=not is_imagenet(files.label_names)))
    return split._replace(validation_fraction=fraction, overlaps=lambda other: name == other or ALL in (name, other))


def _log_empty(name, files):
    empty = [label for label, paths in zip(files.label_names, files.paths, strict=True) if not paths]
    if empty:
        logging.info(f"Split {name!r} has no image of class {listed(empty)}.")


def split_of_files(name: str, files: ImageFiles, rules: Rules) -> Split:
    """The split `name`, which consists of all of the images."""
    listing = list(itertools.chain(*files.paths))
    order = array.array("i", range(len(listing)))  # a Python list of ints would take more than half of a split's memory
    random.Random(name).shuffle(order)  # in the order of tfds.ImageFolder
    paths = tf.constant([listing[place] for place in order])
    counts = files.class_counts
    labels = tf.constant(np.repeat(np.arange(len(counts)), counts)[np.frombuffer(order, np.intc)])

    def read(shuffle_seed=None, shard=0, num_shards=1, first=0, places=None):
        places = (tf.range(tf.size(paths)) if places is None else places)[shard::num_shards]
        # Under the old rules a buffer is shuffled, because there are no shards whose order a seed could decide.
        if rules.shuffles_files and shuffle_seed is not None:
            seed = tf.stack([tf.cast(shuffle_seed, tf.int32), 0])
            places = tf.random.experimental.stateless_shuffle(places, seed, alg="philox")
        # The tensors are captured, because constants of the traced function would be copied with it.
        return tf.data.Dataset.from_tensor_slices(places[first:]).map(
            lambda place: {"image": tf.io.read_file(paths[place]), "label": labels[place], "id": paths[place]},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return Split(
        files.dataset,
        name,
        len(order),
        files.label_names,
        len(files.label_names),
        read,
        rules=rules,
        ids=paths if rules.shuffles_files else None,
        class_counts=counts,
    )
