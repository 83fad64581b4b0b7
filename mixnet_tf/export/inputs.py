"""What an export is verified, calibrated and labelled with: images and names, found by the settings of a command."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.data import MissingSplitError, imagenet_labels, read_labels
from mixnet_tf.errors import InputError
from mixnet_tf.export.images import ImageStream, dataset_images, folder_images
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.export.target import target_model
from mixnet_tf.imagenet import CLASSES
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import recipe_for


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
    model, config = opened.model, opened.config
    dataset = settings.dataset
    if dataset is None and settings.images is None:
        if config is None:
            raise InputError("The export is verified on real images: give --dataset=NAME or --images=FOLDER.")
        dataset = config.dataset
    size, classes = target_model(model, options.output).input_shape[1], model.output_shape[-1]
    recipe = config.recipe if config is not None else recipe_for(dataset or "imagenet")
    crop = recipe.crop if settings.crop is None else settings.crop
    names = None if settings.labels is None else read_labels(settings.labels, classes)
    if names is None and config is not None:
        names = config.label_names

    find = _of_folder if settings.images is not None else _of_dataset
    with progress("Reading images"):
        shown, calibration = find(dataset, settings, size, crop, options.calibrates)
    if shown.labels is not None and (
        shown.labels.max() >= classes or (shown.label_names and len(shown.label_names) != classes)
    ):
        raise InputError(f"The model has {classes} classes; dataset {dataset!r} has others.")
    logging.info(f"Verifying on {shown.source}." + (f" Calibrating on {calibration.source}." if calibration else ""))
    return Inputs(
        shown.images,
        shown.labels,
        None if calibration is None else calibration.images.in_memory(),
        names or _names(dataset, shown, classes),
        crop,
        {"verified_on": shown.source, "calibrated_on": calibration.source if calibration else None},
    )


def _of_folder(_dataset, settings, size, crop, calibrates):
    """Images to verify with, and others to calibrate with, where that is wanted."""
    count = settings.num_images + (settings.calibration_images if calibrates else 0)
    found = folder_images(settings.images, size, crop, count)
    return found.halves(settings.calibration_images) if calibrates else (found, None)


def _of_dataset(dataset, settings, size, crop, calibrates):
    """The same: images of the training split calibrate, or, only if there is none, some of those to evaluate on."""

    def load(count, train):
        return dataset_images(dataset, settings.data_dir, size, crop, count, train)

    if not calibrates:
        return load(settings.num_images, False), None
    try:
        calibration = load(settings.calibration_images, True)
    except MissingSplitError:
        logging.info(f"Dataset {dataset!r} has no training images; int8 is calibrated on some and verified on others.")
        return load(settings.num_images + settings.calibration_images, False).halves(settings.calibration_images)
    return load(settings.num_images, False), calibration


def _names(dataset, shown, classes):
    """Names of the classes where neither a file nor a run has any; None if they are not known."""
    if shown.label_names is not None:
        return shown.label_names
    if dataset == "imagenet2012" and classes == CLASSES:
        try:
            return imagenet_labels()
        except ConnectionError:
            logging.info(
                "ImageNet's class names could not be downloaded; the files have none. --labels=FILE gives them."
            )
    elif shown.labels is not None:
        logging.info("The class names are not known; the files have none. --labels=FILE gives them.")
    return None
