"""The images that an export is calibrated and verified on."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mixnet_tf.data import UPRIGHT, Rules, Split, list_images, naming_corrupt_images, preprocess_for_eval
from mixnet_tf.errors import InputError, first_line
from mixnet_tf.networks import Resizing

_AT_ONCE = 4  # images to decode ahead


class ImageStream:
    """Images that are read and prepared at each use, so that only one batch is in memory.

    Args:
        image_size: Pixels.
        places: (images,) ints, the position of each image in its source.
        read: A function from ascending positions to an iterator over their images, float32 in [0, 255].
    """

    def __init__(self, image_size: int, places: np.ndarray, read: Callable[[np.ndarray], Iterator[np.ndarray]]) -> None:
        self._places, self._read = places, read
        self.shape = (len(places), image_size, image_size, 3)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._read(self._places)

    def chosen(self, mask: np.ndarray) -> "ImageStream":
        """The images where a mask is true."""
        return ImageStream(self.shape[1], self._places[mask], self._read)

    def in_memory(self) -> np.ndarray:
        """All images, (images, size, size, 3)."""
        images = np.empty(self.shape, np.float32)
        for place, image in enumerate(self):
            images[place] = image
        return images


def in_batches(images: np.ndarray | ImageStream, size: int) -> Iterator[np.ndarray]:
    """Yields float32 arrays of `size` images in order; the last one may be smaller."""
    one_by_one = iter(images)
    for _ in range(0, len(images), size):
        yield np.stack(list(itertools.islice(one_by_one, size)), dtype=np.float32, casting="unsafe")


def first(images: np.ndarray | ImageStream, count: int) -> np.ndarray | ImageStream:
    """The first images, or all if there are fewer."""
    return images.chosen(np.arange(len(images)) < count) if isinstance(images, ImageStream) else images[:count]


class Images(NamedTuple):
    """Images prepared as for evaluation."""

    images: ImageStream
    labels: np.ndarray | None  # (images,), int; None: not known
    label_names: tuple[str, ...] | None
    source: str  # origin, in words
    notes: tuple[str, ...] = ()  # notes to show beside every number measured on them

    def halves(self, num_calibration: int) -> tuple["Images", "Images"]:
        """Divides the images into two sets: to verify with, and to calibrate with.

        Every second image calibrates, up to `num_calibration`, so that images in the order of their classes are spread
        over both.

        Raises:
            ValueError: If there are fewer than 2 images.
        """
        if len(self.images) < 2:
            raise InputError(f"Int8 is calibrated and verified on different images; received {self.source}.")
        calibrating = np.zeros(len(self.images), bool)
        calibrating[1::2][:num_calibration] = True
        return self._chosen(~calibrating), self._chosen(calibrating)

    def _chosen(self, mask):
        labels = None if self.labels is None else self.labels[mask]
        return self._replace(images=self.images.chosen(mask), labels=labels, source=f"{mask.sum()} of {self.source}")


def split_images(split: Split, image_size: int, crop: bool | Resizing, count: int | None = None) -> Images:
    """Reads the first images of a split.

    Args:
        split: A `data.Split`.
        image_size: Pixels.
        crop: How images are cropped and resized, as for `preprocess_for_eval`.
        count: Largest number of images; None: all.

    Raises:
        ValueError: If an image cannot be read.
    """
    examples = split.read().take(-1 if count is None else count)
    with naming_corrupt_images(split):
        labels = np.array(list(examples.map(lambda example: example["label"]).as_numpy_iterator()))

    def prepared(_, example):
        return preprocess_for_eval(example["image"], image_size, crop, split.rules)

    def read(places):
        wanted = np.isin(np.arange(len(labels)), places)
        found = examples.enumerate().filter(lambda place, _: tf.gather(wanted, place))
        with naming_corrupt_images(split):
            yield from found.map(prepared, num_parallel_calls=_AT_ONCE).as_numpy_iterator()

    stream = ImageStream(image_size, np.arange(len(labels)), read)
    source = f"{len(labels)} images of {split.dataset}, split {split.name}"
    return Images(stream, labels, split.label_names, source, split.notes)


def folder_images(
    folder: str, image_size: int, crop: bool | Resizing, count: int | None, rules: Rules = UPRIGHT
) -> Images:
    """The first images in a folder, sorted by name; their classes are not known.

    Raises:
        ValueError: If there is no such folder or no image in it, or if an image cannot be read.
    """
    if not tf.io.gfile.isdir(folder):
        raise InputError(f"There is no folder {folder}.")
    paths = list_images(folder, rules)[:count]

    def read(places):
        for place in places:
            path = paths[place]
            try:
                yield preprocess_for_eval(tf.io.read_file(path), image_size, crop, rules).numpy()
            except tf.errors.OpError as error:
                raise InputError(f"{path} cannot be read as an image: {first_line(error.message)}") from error

    stream = ImageStream(image_size, np.arange(len(paths)), read)
    return Images(stream, None, None, f"{len(paths)} images of {folder}")
