"""What an export is verified, calibrated and labelled with: images and names, found by the settings of a command."""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.data import MissingSplitError, label_names, load_split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import matched
from mixnet_tf.export import publish
from mixnet_tf.export.images import ImageStream, folder_images, split_images
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.export.target import target_model
from mixnet_tf.networks import class_names
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import recipe_for
from mixnet_tf.runs import noting_training_images


class Settings(NamedTuple):
    """What a model is exported with; the fields are flags of `export_tflite.py`.

    Attributes:
        output_dir: Where the files go.
        dataset: Images to verify and calibrate with, as `mixnet_tf.data.load_split` names it; None: the run's.
        data_dir: Where the dataset is or, for tensorflow_datasets, is prepared.
        images: A folder of images in place of a dataset; None: a dataset's.
        num_images: Images to verify with, at most.
        calibration_images: Images to calibrate int8 with, at most.
        labels: File of class names; None: the run's, or the dataset's.
        crop: Whether to take the center crop; None: as the run, or the dataset's recipe.
    """

    output_dir: str
    dataset: str | None = None
    data_dir: str = "data"
    images: str | None = None
    num_images: int = 1000
    calibration_images: int = 300
    labels: str | None = None
    crop: bool | None = None

    def check(self) -> "Settings":
        """Checks what can be checked without work, and returns the settings.

        Raises:
            ValueError: For settings that contradict each other, or a folder that is not there.
        """
        if self.dataset is not None and self.images is not None:
            raise InputError("Give --dataset or --images, not both.")
        if self.images is not None and not tf.io.gfile.isdir(self.images):
            raise InputError(f"--images: there is no folder {self.images}.")
        return self


class Inputs(NamedTuple):
    """Arguments of `export_model` beside the model and the options."""

    images: ImageStream
    labels: np.ndarray | None  # (images,), int; None: not known
    calibration_images: np.ndarray | None
    label_names: tuple[str, ...] | None
    crop: bool
    notes: dict[str, Any]


def gather(opened: Any, settings: Settings, options: ExportOptions, progress: Progress = silent) -> Inputs:
    """Finds images and names for a model that is to be exported.

    Args:
        opened: A `mixnet_tf.classifiers.Opened`.
        settings: `Settings`.
        options: `ExportOptions`.
        progress: Shows the phases of the work.

    Returns:
        `Inputs`.

    Raises:
        FileNotFoundError, ValueError: For what is missing or does not fit.
    """
    settings.check()
    publish.check_folder(settings.output_dir, options.formats)
    model, config = opened.model, opened.config
    dataset = settings.dataset
    if dataset is None and settings.images is None:
        if config is None:
            raise InputError("The export is verified on real images: give --dataset=NAME or --images=FOLDER.")
        dataset = config.dataset
    size, classes = target_model(model, options.output).input_shape[1], model.output_shape[-1]
    recipe = config.recipe if config is not None else recipe_for(dataset or "imagenet")
    crop = recipe.crop if settings.crop is None else settings.crop
    labels = label_names(classes, settings.labels)  # before the images are read, as the file may be wrong

    with progress("Reading images"):
        if dataset is None:
            shown, calibration = _of_folder(settings, size, crop, options.calibrates, opened.data_version)
        else:
            load = functools.partial(_of_split, opened, dataset, settings.data_dir, size, crop)
            shown, calibration = _of_dataset(dataset, settings, load, options.calibrates)
    labels = labels or label_names(classes, None, shown.label_names, class_names(model))
    if labels is None:
        logging.info("The class names are not known; the files have none. --labels=FILE gives them.")
    logging.info(f"Verifying on {shown.source}." + (f" Calibrating on {calibration.source}." if calibration else ""))
    return Inputs(
        shown.images,
        shown.labels,
        None if calibration is None else calibration.images.in_memory(),
        labels,
        crop,
        {
            "verified_on": shown.source,
            "calibrated_on": calibration.source if calibration else None,
            "notes": list(shown.notes),
        },
    )


def _of_folder(settings, size, crop, calibrates, data_version):
    """Images to verify with, and others to calibrate with, where that is wanted."""
    count = settings.num_images + (settings.calibration_images if calibrates else 0)
    found = folder_images(settings.images, size, crop, count, data_version)
    return found.halves(settings.calibration_images) if calibrates else (found, None)


def _of_split(opened, dataset, data_dir, size, crop, count, train):
    """The first images of a split, labelled with the model's classes; of a sample no shard has to be there."""
    partly = dataset == "tfrecord"
    split = load_split(dataset, data_dir, train, allow_missing_shards=partly, data_version=opened.data_version)
    if not train:
        split = noting_training_images(split, opened.config)
    return split_images(matched(opened.model, split, opened.model.output_shape[-1]), size, crop, count)


def _of_dataset(dataset, settings, load, calibrates):
    """The same: images of the training split calibrate, or, only if there is none, some of those to evaluate on."""
    if not calibrates:
        return load(settings.num_images, False), None
    try:
        calibration = load(settings.calibration_images, True)
    except MissingSplitError:
        logging.info(f"Dataset {dataset!r} has no training images; int8 is calibrated on some and verified on others.")
        return load(settings.num_images + settings.calibration_images, False).halves(settings.calibration_images)
    return load(settings.num_images, False), calibration
