"""One split of a dataset: what every kind of dataset gives, whatever it is read from."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.class_names import lacking, match
from mixnet_tf.data.rules import DATA_VERSION
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath

PARALLEL_FILES = 16  # source: imagenet_input.py:ImageNetInput, cycle_length
# What an example whose label is no class fails with, inside an error of TensorFlow.
LABEL_ERROR = re.compile(r"The label -?[0-9]+ of .+? is not a whole number from [0-9]+ to [0-9]+\.")


class MissingSplitError(InputError):
    """A dataset does not have the split that was asked for."""


class Split(NamedTuple):
    """One split of a dataset.

    `read(shuffle_seed, shard, num_shards)` gives a `tf.data.Dataset` of one pass over a shard of the
    split: dicts of "image" (scalar string: the encoded file), "label" (scalar int64, from 0) and "id"
    (scalar string: the file and place to look for it). `shuffle_seed`, an int or a scalar tensor,
    decides the order of the files; None leaves it. `label_names` are the names of the classes, of ImageNet its WordNet
    ids; None where they are not known. `files` are the TFRecord files behind it, if it has such; `missing_shards` the
    names of those that were allowed to be missing. `notes` are sentences that belong beside every number measured on
    the split. `data_version` is that of the `Rules` by which it is read, its images decoded.

    `ids`, string (num_examples,), are those of all examples where they are known without reading any. There
    `shuffle_seed` decides the order of the examples, and `read` takes two arguments more: `first`, the place in that
    order to start at, and `places`, int (n,), which of the examples there are; None: all.

    `digest` is a number in hexadecimal digits that stands for the ids of images that were held out.
    """

    dataset: str
    name: str
    num_examples: int
    label_names: tuple[str, ...] | None
    num_classes: int
    read: Callable
    files: tuple[str, ...] = ()
    missing_shards: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    data_version: int = DATA_VERSION
    ids: tf.Tensor | None = None
    digest: str | None = None

    def shard_size(self, shard: int, num_shards: int) -> int:
        """Examples of one of `num_shards` equal shards, the first ones larger by one where needed."""
        return self.num_examples // num_shards + (shard < self.num_examples % num_shards)

    def matched(self, names: Sequence[str] | None, classes: int) -> "Split":
        """The split with a model's classes in place of its own, found by their names.

        Args:
            names: Of the model's classes; None: not known.
            classes: Their number.

        Returns:
            A `Split` whose labels are the model's and whose notes say what could not be compared; to match it once more
            changes nothing.

        Raises:
            ValueError: What `class_names.match` raises.
        """
        found = match(names, classes, self.label_names, self.num_classes, f"dataset {self.dataset!r}")
        noted = self.noted(*found.notes)
        if found.numbers is None:
            return noted
        numbers = tf.constant(found.numbers, tf.int64)

        def renumbered(example):
            labels = {key: example[key] for key in ("label", "labels") if key in example}
            return {
                **example,
                **{key: tf.cast(tf.gather(numbers, value), value.dtype) for key, value in labels.items()},
            }

        def read(*args, **kwargs):
            return self.read(*args, **kwargs).map(renumbered)

        return noted._replace(label_names=tuple(names or ()), num_classes=classes, read=read)

    def noted(self, *notes: str) -> "Split":
        """The split with more notes, each once."""
        return self._replace(notes=(*self.notes, *lacking(notes, self.notes)))


def wanted_splits(train: bool, split: str | None) -> tuple[str, ...]:
    """The names of splits to look for, in this order: the one asked for, else the usual ones."""
    if split:
        return (split,)
    return ("train",) if train else ("validation", "test", "val", "eval")


def first_of(wanted: Sequence[str], available: Sequence[str], dataset: str, data_dir: StrPath) -> str:
    """The first of the wanted splits that a dataset has.

    Raises:
        MissingSplitError: If it has none.
    """
    name = next((name for name in wanted if name in available), None)
    if name is None:
        raise MissingSplitError(
            f"Dataset {dataset!r} in {data_dir} has no split {' or '.join(wanted)}; it has {list(available)}."
        )
    return name


def labeled_example(
    image: tf.Tensor, label: tf.Tensor, example_id: tf.Tensor, num_classes: int, first_label: int = 0
) -> dict[str, tf.Tensor]:
    """An example of a `Split`; reading it fails with `LABEL_ERROR` if its label is no class.

    Args:
        image: Scalar string: the encoded image.
        label: Scalar int64, as the dataset has it.
        example_id: Scalar string: the file and place of the example.
        num_classes: Number of classes.
        first_label: The label of class 0.
    """
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
