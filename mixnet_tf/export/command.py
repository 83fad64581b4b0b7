"""From the export's settings to its arguments: which model, which images, which names."""

from typing import NamedTuple

import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.export import quantize
from mixnet_tf.export.export import export_model
from mixnet_tf.export.images import dataset_images, folder_images
from mixnet_tf.export.target import target_model
from mixnet_tf.imagenet import imagenet_labels
from mixnet_tf.labels import read_labels
from mixnet_tf.recipe import recipe_for

_IMAGENET = ("imagenet2012", "tfrecord")


class Settings(NamedTuple):
    """What a model is exported with; the fields are flags of `export_tflite.py`."""

    output_dir: str
    dataset: str | None = None  # None: the run's
    data_dir: str = "data"
    images: str | None = None  # a folder in place of a dataset
    num_images: int = 1000
    calibration_images: int = 300
    labels: str | None = None
    crop: bool | None = None  # None: the run's, or the dataset's recipe's

    def check(self):
        """Itself.

        Raises:
            ValueError: For settings that contradict each other, or a folder that is not there.
        """
        if self.dataset is not None and self.images is not None:
            raise InputError("Give --dataset or --images, not both.")
        if self.images is not None and not tf.io.gfile.isdir(self.images):
            raise InputError(f"--images: there is no folder {self.images}.")
        return self


def export_command(opened, settings, options):
    """Gathers images and labels for a model, and exports it.

    Args:
        opened: A `mixnet_tf.saved.Opened`.
        settings: `Settings`.
        options: An `export.Options`; its crop is that of the settings.

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
            raise InputError("The export is verified on real images: give --dataset=NAME or --images=FOLDER.")
        dataset = config.dataset
    size, classes = target_model(model, options.output).input_shape[1], model.output_shape[-1]
    print(f"Exporting {opened.source}.")
    recipe = config.recipe if config is not None else recipe_for(dataset or "imagenet")
    crop = recipe.crop if settings.crop is None else settings.crop
    names = None if settings.labels is None else read_labels(settings.labels, classes)
    if names is None and config is not None:
        names = config.label_names
    if names is None and dataset in _IMAGENET:
        names = imagenet_labels()

    wants_calibration = bool(set(options.formats) & set(quantize.NEEDS_CALIBRATION))
    calibration = None
    if settings.images is not None:
        shown = folder_images(settings.images, size, crop, settings.num_images)
        if wants_calibration:
            calibration = folder_images(settings.images, size, crop, settings.calibration_images)
    else:
        shown = dataset_images(dataset, settings.data_dir, size, crop, settings.num_images, train=False)
        if shown.labels.max() >= classes or (shown.label_names and len(shown.label_names) != classes):
            raise InputError(f"The model has {classes} classes; dataset {dataset!r} has others.")
        if wants_calibration:
            calibration = _calibration(dataset, settings, size, crop)
        names = names or shown.label_names
    print(f"Verifying on {shown.source}." + (f" Calibrating on {calibration.source}." if calibration else ""))
    return export_model(
        model,
        settings.output_dir,
        shown.images,
        shown.labels,
        calibration_images=None if calibration is None else calibration.images,
        label_names=names,
        options=options._replace(crop=crop),
    )


def _calibration(dataset, settings, size, crop):
    """Images to train on, so that the accuracy is measured on others; where there are none, of the evaluation."""
    for train in (True, False):
        try:
            return dataset_images(dataset, settings.data_dir, size, crop, settings.calibration_images, train)
        except ValueError:
            if not train:
                raise
    return None
