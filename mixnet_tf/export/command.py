"""From the export's settings to its arguments: which model, which images, which names."""

from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.data import MissingSplitError
from mixnet_tf.export import quantize
from mixnet_tf.export.export import export_model
from mixnet_tf.export.images import dataset_images, folder_images
from mixnet_tf.export.target import target_model
from mixnet_tf.imagenet import CLASSES, imagenet_labels
from mixnet_tf.labels import read_labels
from mixnet_tf.recipe import recipe_for


class Settings(NamedTuple):
    """What a model is exported with; the fields are flags of `export_tflite.py`."""

    output_dir: str
    dataset: str | None = None  # None: the run's
    data_dir: str = "data"
    images: str | None = None  # a folder in place of a dataset
    num_images: int = 1000
    calibration_images: int = 300
    labels: str | None = None

    def check(self):
        """Checks what can be checked without work, and returns the settings.

        Raises:
            ValueError: For settings that contradict each other, or a folder that is not there.
        """
        if self.dataset is not None and self.images is not None:
            raise ValueError("Give --dataset or --images, not both.")
        if self.images is not None and not tf.io.gfile.isdir(self.images):
            raise ValueError(f"--images: there is no folder {self.images}.")
        return self


def export_command(opened, settings, options):
    """Gathers images and labels for a model, and exports it.

    Args:
        opened: A `mixnet_tf.saved.Opened`.
        settings: `Settings`.
        options: An `export.Options`; its crop is the recipe's.

    Returns:
        The report of `export_model`.

    Raises:
        FileNotFoundError, ValueError: For what is missing or does not fit.
    """
    settings.check()
    options.check()
    model, config = opened.model, opened.config
    dataset = settings.dataset
    if dataset is None and settings.images is None:
        if config is None:
            raise ValueError("The export is verified on real images: give --dataset=NAME or --images=FOLDER.")
        dataset = config.dataset
    size, classes = target_model(model, options.output).input_shape[1], model.output_shape[-1]
    print(f"Exporting {opened.source}.")
    crop = config.recipe.crop if config is not None else recipe_for(dataset or "imagenet").crop
    names = None if settings.labels is None else read_labels(settings.labels, classes)
    if names is None and config is not None:
        names = config.label_names

    calibrates = bool(set(options.formats) & set(quantize.NEEDS_CALIBRATION))
    gather = _of_folder if settings.images is not None else _of_dataset
    shown, calibration = gather(dataset, settings, size, crop, calibrates)
    if shown.labels is not None and (
        shown.labels.max() >= classes or (shown.label_names and len(shown.label_names) != classes)
    ):
        raise ValueError(f"The model has {classes} classes; dataset {dataset!r} has others.")
    print(f"Verifying on {shown.source}." + (f" Calibrating on {calibration.source}." if calibration else ""))
    return export_model(
        model,
        settings.output_dir,
        shown.images,
        shown.labels,
        calibration_images=None if calibration is None else calibration.images,
        label_names=names or _names(dataset, shown, classes),
        options=options._replace(crop=crop),
        notes={"verified_on": shown.source, "calibrated_on": calibration.source if calibration else None},
    )


def _of_folder(_, settings, size, crop, calibrates):
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
        print(f"Dataset {dataset!r} has no training images; int8 is calibrated on some and verified on others.")
        return load(settings.num_images + settings.calibration_images, False).halves(settings.calibration_images)
    return load(settings.num_images, False), calibration


def _names(dataset, shown, classes):
    """Names of the classes where neither a file nor a run has any; None if nobody knows them."""
    if shown.label_names is not None:
        return shown.label_names
    if dataset == "imagenet2012" and classes == CLASSES:
        try:
            return imagenet_labels()
        except ConnectionError:
            print("ImageNet's names cannot be had here; the files carry none. --labels=FILE gives them.")
    elif shown.labels is not None:
        print("The names of the classes are not known; the files carry none. --labels=FILE gives them.")
    return None
