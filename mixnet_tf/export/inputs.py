"""The images and class names that an export needs, found by the settings of a command."""

from typing import Annotated, Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.data import (
    LIST,
    VALIDATION_FRACTION,
    MissingSplitError,
    Split,
    label_names,
    load_objects,
    load_split,
    object_eval_batches,
)
from mixnet_tf.detection import classes_of, is_detector
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import matched, noting_origin
from mixnet_tf.export import publish
from mixnet_tf.export.images import ImageStream, folder_images, split_images
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.export.target import target_model
from mixnet_tf.files import check_can_be_made
from mixnet_tf.networks import Resizing, class_names
from mixnet_tf.progress import Progress, silent
from mixnet_tf.settings import Setting, check, documented

_COMPARED = 32  # images on which a detector's outputs are compared with Keras' one by one


@documented
class ExportSettings(NamedTuple):
    """Where an export finds images and class names, and where its files go."""

    output_dir: Annotated[str, Setting("Folder of the files; made if it is missing.", is_path=True)]
    dataset: Annotated[
        str | None,
        Setting("Dataset to verify and calibrate with, as `train.py` takes it; by default the run's."),
    ] = None
    data_dir: Annotated[
        str, Setting("Folder of the dataset or, for tensorflow_datasets, where it is prepared.", is_path=True)
    ] = "data"
    list: Annotated[str | None, LIST] = None
    validation_fraction: Annotated[float | None, VALIDATION_FRACTION] = None
    split: Annotated[str | None, Setting("Split to verify with; by default the run's, or validation or test.")] = None
    images: Annotated[
        str | None,
        Setting(
            "Folder of images to verify and calibrate with, in place of a dataset; their classes are not known. "
            "Classifiers only.",
            is_path=True,
        ),
    ] = None
    num_images: Annotated[int, Setting("Images to verify with, at most.", least=1)] = 1000
    calibration_images: Annotated[int, Setting("Images to calibrate int8 with, at most.", least=1)] = 300
    labels: Annotated[
        str | None,
        Setting(
            "File of class names, one in each line, or JSON keyed by number; by default the run's, or the dataset's.",
            is_path=True,
        ),
    ] = None
    crop: Annotated[
        bool | None,
        Setting("Whether to take the center crop of images; by default as the model or the dataset's recipe."),
    ] = None

    def check(self) -> "ExportSettings":
        """Checks what can be checked without work, and returns the settings.

        Raises:
            ValueError: For a value out of its range, settings that contradict each other, a folder of images that is
                missing, or one of files that cannot be made.
        """
        check(self)
        check_can_be_made("output_dir", self.output_dir)
        given = [
            f"--{name}"
            for name in ("dataset", "split", "list", "validation_fraction")
            if getattr(self, name) is not None
        ]
        if given and self.images is not None:
            raise InputError(f"--images is in place of a dataset; leave out {' and '.join(given)}.")
        if self.images is not None and not tf.io.gfile.isdir(self.images):
            raise InputError(f"--images: there is no folder {self.images}.")
        return self


class Inputs(NamedTuple):
    """Arguments of `export_model` besides the model and the options."""

    images: ImageStream | np.ndarray
    labels: np.ndarray | None  # (images,), int; None: not known
    calibration_images: np.ndarray | None
    label_names: tuple[str, ...] | None
    resizing: Resizing | None  # None: a detector, which sees whole images
    notes: dict[str, Any]
    objects: Split | None = None


def gather(opened: Any, settings: ExportSettings, options: ExportOptions, progress: Progress = silent) -> Inputs:
    """Finds images and names for a model that is to be exported.

    Args:
        opened: A `mixnet_tf.saved_models.Opened`.
        settings: `ExportSettings`.
        options: `ExportOptions`.
        progress: Shows the phases of the work.

    Returns:
        `Inputs`.

    Raises:
        FileNotFoundError, ValueError: For what is missing or does not fit.
    """
    settings.check()
    publish.check_loadable(settings.output_dir, options.formats)
    model, config = opened.model, opened.config
    if is_detector(model):
        return _of_detector(opened, settings, options.calibrates)
    dataset = settings.dataset
    if dataset is None and settings.images is None:
        if config is None:
            raise InputError("The export is verified on real images: give --dataset=NAME or --images=FOLDER.")
        dataset = config.dataset
    size, classes = target_model(model, options.output).input_shape[1], model.output_shape[-1]
    resizing = opened.resizing(dataset or "imagenet", settings.crop)
    labels = label_names(classes, settings.labels)  # before the images are read, as the file may be wrong

    with progress("Reading images"):
        if dataset is None:
            shown, calibration = _of_folder(settings, size, resizing, options.calibrates, opened.rules)
        else:
            shown, calibration = _of_dataset(opened, dataset, settings, size, resizing, options.calibrates)
    labels = labels or label_names(classes, None, shown.label_names, class_names(model))
    if labels is None:
        logging.info("The class names are not known; the files have none. --labels=FILE gives them.")
    logging.info(f"Verifying on {shown.source}." + (f" Calibrating on {calibration.source}." if calibration else ""))
    return Inputs(
        shown.images,
        shown.labels,
        None if calibration is None else calibration.images.in_memory(),
        labels,
        resizing,
        {
            "verified_on": shown.source,
            "calibrated_on": calibration.source if calibration else None,
            "notes": list(shown.notes),
        },
    )


def _of_detector(opened, settings, calibrates):
    """Inputs of a detector: images of the split to evaluate on, and others, that it learned, to calibrate with."""
    model, config = opened.model, opened.config
    size, classes = model.input_shape[1], classes_of(model)
    dataset = settings.dataset or (config.dataset if config else "digit_scenes")
    whole = _split(load_objects, opened, dataset, settings, train=False)
    number = min(settings.num_images, whole.num_examples)
    first = whole._replace(num_examples=number, read=lambda *place: whole.read(*place).take(number))
    split = matched(model, first, classes)
    calibration_images = None
    if calibrates:
        learned = _split(load_objects, opened, dataset, settings, train=True)
        _check_apart(whole, learned)
        calibration_images = _first_images(learned, size, min(settings.calibration_images, learned.num_examples))
    labels = label_names(classes, settings.labels, class_names(model), split.label_names)
    notes = {"source": opened.source, "dataset": dataset, "split": split.name, "notes": list(split.notes)}
    images = _first_images(split, size, min(number, _COMPARED))
    return Inputs(images, None, calibration_images, labels, None, notes, split)


def _first_images(split, size, number):
    return next(iter(object_eval_batches(split, size, number)))[0].numpy()


def _of_folder(settings, size, resizing, calibrates, rules):
    """Images to verify with, and others to calibrate with, where that is wanted."""
    count = settings.num_images + (settings.calibration_images if calibrates else 0)
    found = folder_images(settings.images, size, resizing, count, rules)
    return found.halves(settings.calibration_images) if calibrates else (found, None)


def _of_dataset(opened, dataset, settings, size, resizing, calibrates):
    """The same: images of the training split calibrate, or, only if there is none, some of those to evaluate on."""

    def first(split, count):
        return split_images(matched(opened.model, split, opened.model.output_shape[-1]), size, resizing, count)

    split, wanted = _split(load_split, opened, dataset, settings, train=False), settings.calibration_images
    if not calibrates:
        return first(split, settings.num_images), None
    try:
        learned = _split(load_split, opened, dataset, settings, train=True)
    except MissingSplitError:
        logging.info(f"Dataset {dataset!r} has no training images; int8 is calibrated on some and verified on others.")
        return first(split, settings.num_images + wanted).halves(wanted)
    _check_apart(split, learned)
    return first(split, settings.num_images), first(learned, wanted)


def _split(load, opened, dataset, settings, train):
    """A split of the run, or of another dataset, loaded by `load_split` or `load_objects`."""
    name = opened.split_name(dataset, train) if train or settings.split is None else settings.split
    partly = dataset == "tfrecord"  # a sample is read, so no shard has to be there
    reading = opened.reading(dataset).given(list=settings.list, validation_fraction=settings.validation_fraction)
    split = load(dataset, settings.data_dir, train, split=name, allow_missing_shards=partly, reading=reading)
    return split if train else noting_origin(split, opened)


def _check_apart(split, learned):
    """Refuses to calibrate on images that verify, too."""
    if split.shares_images(learned.name):
        raise InputError(
            f"Int8 would be verified on images that it is calibrated on: split {split.name!r} of dataset "
            f"{split.dataset!r} has images of split {learned.name!r}. Name another one with --split."
        )
