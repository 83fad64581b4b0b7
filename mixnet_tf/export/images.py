"""The images that an export is calibrated and verified on, and ImageNet's names."""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, naming_corrupt_images, preprocess_for_eval
from mixnet_tf.errors import InputError

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class Images(NamedTuple):
    """Images as the evaluation prepares them."""

    images: np.ndarray  # (images, size, size, 3), float32 in [0, 255]
    labels: np.ndarray | None  # (images,), int; None: not known
    label_names: tuple[str, ...] | None
    source: str  # in words
    notes: tuple[str, ...] = ()  # what belongs beside a number measured on them

    def halves(self, num_calibration: int) -> tuple["Images", "Images"]:
        """Two sets of different images: to verify with, and to calibrate with.

        Every second image calibrates, up to `num_calibration`, so that images that lie in the order of their classes
        are spread over both.

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
        return self._replace(images=self.images[mask], labels=labels, source=f"{mask.sum()} of {self.source}")


def split_images(split: Split, image_size: int, crop: bool, count: int | None = None) -> Images:
    """The first images of a split.

    Args:
        split: A `data.Split`.
        image_size: Pixels.
        crop: Whether to take the center crop, as `preprocess_for_eval`.
        count: Images at most; None for all.

    Raises:
        ValueError: If an image cannot be read.
    """
    examples = split.read().take(-1 if count is None else count)
    examples = examples.map(lambda e: (preprocess_for_eval(e["image"], image_size, crop), e["label"]))
    with naming_corrupt_images(split):
        images, labels = zip(*examples.as_numpy_iterator(), strict=True)
    source = f"{len(images)} images of {split.dataset}, split {split.name}"
    return Images(np.stack(images), np.array(labels), split.label_names, source, split.notes)


def folder_images(folder: str, image_size: int, crop: bool, count: int | None) -> Images:
    """The first images in a folder, by name; their classes are not known.

    Raises:
        ValueError: If there is no such folder, no image in it, or one that cannot be read, naming it.
    """
    if not tf.io.gfile.isdir(folder):
        raise InputError(f"There is no folder {folder}.")
    names = sorted(name for name in tf.io.gfile.listdir(folder) if name.lower().endswith(_EXTENSIONS))[:count]
    if not names:
        raise InputError(f"{folder} holds no images; expected files that end in one of {_EXTENSIONS}.")
    images = []
    for name in names:
        path = os.path.join(folder, name)
        try:
            images.append(preprocess_for_eval(tf.io.read_file(path), image_size, crop).numpy())
        except tf.errors.OpError as error:
            raise InputError(f"{path} cannot be read as an image: {error.message.splitlines()[0]}") from error
    return Images(np.stack(images), None, None, f"{len(images)} images of {folder}")
