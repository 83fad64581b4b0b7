"""A split of a dataset, in one form for every kind of dataset."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.class_names import lacking, match
from mixnet_tf.data.hashed_splits import HASH_VERSION
from mixnet_tf.data.rules import NEWEST, Rules
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath

PARALLEL_FILES = 16  # source: imagenet_input.py:ImageNetInput, cycle_length
SPLITS = ("train", "validation", "test", "val", "eval")  # the usual names
# The message, inside an error of TensorFlow, for an example whose label is not a class.
LABEL_ERROR = re.compile(r"The label -?[0-9]+ of .+? is not a whole number from [0-9]+ to [0-9]+\.")


class MissingSplitError(InputError):
    """A dataset does not have the requested split."""


class Split(NamedTuple):
    """One split of a dataset.

    Attributes:
        dataset: Name of the dataset.
        name: Name of the split.
        num_examples: Number of examples.
        label_names: Names of the classes, for ImageNet its WordNet ids; None: not known.
        num_classes: Number of classes.
        read: A function (shuffle_seed, shard, num_shards) to a `tf.data.Dataset` of one pass over a shard: dicts of
            "image" (scalar string, the encoded file), "label" (scalar int64, from 0) and "id" (scalar string, the file
            and position of the example). `shuffle_seed`, an int or a scalar tensor, decides the order of the files;
            None keeps the order. If the split has `ids`, the seed decides the order of the examples, and `read` takes
            two more arguments: `first`, the position in this order to start at, and `places`, int (n,), the indices of
            the examples to read; None: all.
        files: Paths of its TFRecord files, if it has any.
        missing_shards: Names of the shards that were allowed to be missing.
        notes: Sentences to show beside every number measured on the split.
        rules: The `Rules` by which it is read and its images are decoded.
        ids: The "id" of every example, string (num_examples,), if they are known without reading; else None.
        digest: Hexadecimal number that identifies the held-out images; None: no images were held out.
        validation_fraction: Fraction of the images, by a hash of their paths, that are the split "validation"; None:
            the dataset has splits of its own.
        list_path: Path of the list that names the images, as it was given; None: no list does.
        class_counts: Number of examples of each class, if they are known without reading; else None.
        overlaps: What `shares_images` answers, where splits of other names may have images in common; else None.
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
    rules: Rules = NEWEST
    ids: tf.Tensor | None = None
    digest: str | None = None
    validation_fraction: float | None = None
    list_path: str | None = None
    class_counts: tuple[int, ...] | None = None
    overlaps: Callable[[str], bool] | None = None

    @property
    def hash_version(self) -> int | None:
        """The version of the hash that divides the dataset's images; None: the dataset has splits of its own."""
        return None if self.validation_fraction is None else HASH_VERSION

    def shares_images(self, name: str) -> bool:
        """Whether some of its images are in the split of its dataset that has a name, too."""
        return self.name == name if self.overlaps is None else self.overlaps(name)

    def shard_size(self, shard: int, num_shards: int) -> int:
        """The number of examples of one of `num_shards` equal shards; the first ones may have one more."""
        return self.num_examples // num_shards + (shard < self.num_examples % num_shards)

    def matched(self, names: Sequence[str] | None, classes: int) -> "Split":
        """Maps the labels to a model's classes, by their names.

        Args:
            names: Names of the model's classes; None: not known.
            classes: Number of the model's classes.

        Returns:
            A `Split` whose labels are the model's classes and whose notes say what could not be compared. Matching it
            again changes nothing.

        Raises:
            ValueError: As `class_names.match`.
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

        counts = None
        if self.class_counts is not None:
            by_number = dict(zip(found.numbers, self.class_counts, strict=True))
            counts = tuple(by_number.get(number, 0) for number in range(classes))
        return noted._replace(label_names=tuple(names or ()), num_classes=classes, read=read, class_counts=counts)

    def noted(self, *notes: str) -> "Split":
        """Adds notes to the split, each once."""
        return self._replace(notes=(*self.notes, *lacking(notes, self.notes)))


def wanted_splits(train: bool, split: str | None) -> tuple[str, ...]:
    """The names of splits to look for, in order: the requested one, or the usual ones."""
    if split:
        return (split,)
    return SPLITS[:1] if train else SPLITS[1:]


def first_of(wanted: Sequence[str], available: Sequence[str], dataset: str, data_dir: StrPath) -> str:
    """Returns the first of the wanted splits that a dataset has.

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
    """An example of a `Split`; reading it fails with `LABEL_ERROR` if its label is not a class.

    Args:
        image: Scalar string: the encoded image.
        label: Scalar int64, the dataset's label.
        example_id: Scalar string: the file and position of the example.
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
