"""Opens saved weights or a training run as the classifier or detector that they hold."""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from absl import logging

from mixnet_tf.data import Reading, Rules
from mixnet_tf.detection import is_detector
from mixnet_tf.errors import InputError, MissingFileError, first_line
from mixnet_tf.files import StrPath, exists, local_copy
from mixnet_tf.models import build_model
from mixnet_tf.named_recipes import recipe_for
from mixnet_tf.networks import (
    PIXELS,
    Resizing,
    carried_resizing,
    class_names,
    gives_probabilities,
    input_of,
    last_operation,
    name_classes,
    taking_pixels,
)
from mixnet_tf.runs import BEST, CHECKPOINTS, CONFIG, FINAL, RunConfig, newest_checkpoint, restore_averages


class Opened(NamedTuple):
    """A model to evaluate or export, with its origin."""

    model: keras.Model
    source: str  # the file or checkpoint that it was loaded from
    config: RunConfig | None  # None: it was not loaded from a run's folder
    exif: bool | None = None  # whether images are turned as their EXIF orientation says; None: as by the run
    resized: Mapping[str, Any] | None = None  # arguments of `networks.Resizing.given`, in place of the model's own

    @property
    def rules(self) -> Rules:
        """The rules by which image files are read: those of the model's run, or the newest with images turned."""
        reading = Reading() if self.config is None else self.config.reading()
        return reading.given(exif=self.exif).rules(exif=True)

    def reading(self, dataset: str | None) -> Reading:
        """How a dataset is read for the model: as by its run, if it has one; TFRecords with the model's classes."""
        reading = (Reading() if self.config is None else self.config.reading(dataset)).given(exif=self.exif)
        if dataset == "tfrecord" and reading.num_label_classes is None and not is_detector(self.model):
            return reading._replace(num_label_classes=self.model.output_shape[-1])
        return reading

    def resizing(self, dataset: str | None, crop: bool | None = None) -> Resizing:
        """How images are cropped and resized: as asked for, else as the model, its run or the dataset's recipe says.

        Args:
            dataset: The dataset's name; None: there is none.
            crop: Whether to take the center crop; None: not asked for.

        Raises:
            ValueError: If what is asked for contradicts itself.
        """
        found = carried_resizing(self.model)
        if found is None:
            found = recipe_for(dataset).resizing if self.config is None else self.config.resizing
        resizing = found.given(crop, **(self.resized or {}))
        if carried_resizing(self.model) is None and self.config is None:
            words = resizing.words(self.model.input_shape[1])
            logging.info(f"{self.source} does not say how its images are cropped and resized: {words}.")
        return resizing

    def split_name(self, dataset: str | None, train: bool) -> str | None:
        """The split of a dataset that the model's run trains on, or is evaluated on; None: there is none."""
        return None if self.config is None else self.config.split_name(dataset, train)


def open_model(
    weights: StrPath | None = None,
    model_dir: StrPath | None = None,
    model_name: StrPath | None = None,
    num_label_classes: int | None = None,
    image_size: int | None = None,
    kernel_size: int | Sequence[int] | None = None,
    input: str | None = None,
) -> Opened:
    """Opens saved weights, or the best model of a training run, as a float32 model of pixels.

    Args:
        weights: A `.keras` file, which holds a whole model; or anything else that `mixnet_tf.load_weights` takes, for
            the network that the following arguments describe.
        model_dir: A training run's folder: its best.keras, else final.keras, else the EMA weights of its newest
            checkpoint. Give either `weights` or `model_dir`.
        model_name: A network's name or the path of a network file, as `mixnet_tf.build_model` takes it.
        num_label_classes: Number of classes; None: 1000, or as in the network file.
        image_size: Height and width, pixels; None: 224, or the size of a `.keras` file. A `.keras` file for any size
            needs it.
        kernel_size: Replaces every depthwise kernel, as in `mixnet_tf.build_model`; None: the network's own.
        input: The model's input, "pixels" or "normalized"; None: what `networks.input_of` finds, else pixels.

    Returns:
        An `Opened`; its model takes square RGB images of a fixed size in [0, 255]. A classifier returns probabilities:
        one that ends in logits gets a softmax. A model that takes normalized images gets `Preprocessing` in front.

    Raises:
        FileNotFoundError: If the file or run does not exist.
        ValueError: If the file does not fit the network, or if the arguments contradict each other.
    """
    opened = _open(weights, model_dir, model_name, num_label_classes, image_size, kernel_size)
    model = taking_pixels(opened.model, input)
    if model is not opened.model and input_of(model) == PIXELS:
        logging.info(f"{opened.source} takes normalized images; `Preprocessing` was put in front of the model.")
    return opened._replace(model=model)


def _open(weights, model_dir, model_name, num_label_classes, image_size, kernel_size):
    described = {"model_name": model_name, "num_label_classes": num_label_classes, "kernel_size": kernel_size}
    given = [name for name, value in described.items() if value is not None]
    if model_dir is not None and weights is None:
        given += [] if image_size is None else ["image_size"]
        if given:
            raise InputError(f"The run in {model_dir} describes its own model; leave out {given}.")
        return _open_run(os.fspath(model_dir))
    if weights is None or model_dir is not None:
        raise InputError(f"Give either weights or model_dir; received weights={weights!r}, model_dir={model_dir!r}.")
    weights = os.fspath(weights)
    if weights.endswith(".keras"):
        if not exists(weights):
            raise MissingFileError(f"weights: there is no file {weights}.")
        if given:
            raise InputError(f"{weights} is a whole model; leave out {given}.")
        model = load_keras_file(weights)
        if is_detector(model):
            if image_size not in (None, model.input_shape[1]):
                raise InputError(f"{weights} is a detector for {model.input_shape[1]} pixels; leave out image_size.")
            return Opened(model, weights, None)
        return Opened(_with_probabilities(_of_fixed_size(model, image_size)), weights, None)
    if exists(os.path.join(weights, CONFIG)):
        raise InputError(f"{weights} is the folder of a training run; give it as model_dir, --model_dir={weights}.")
    if model_name is None:
        raise InputError(f"{weights} holds weights alone; say of which network with model_name, such as mixnet-s.")
    size = 224 if image_size is None else image_size
    shape = (size, size, 3)
    model = build_model(
        model_name, classes=num_label_classes, input_shape=shape, kernel_size=kernel_size, weights=weights
    )
    return Opened(model, weights, None)


def _of_fixed_size(model, image_size):
    """Returns the model for square images of one size, with the same weights."""
    shape = model.input_shape[1:]
    if None in shape[:2] and image_size is None:
        raise InputError(
            f"Model {model.name!r} takes images of any size; give the one to use as image_size, --image_size=PIXELS."
        )
    size = shape[0] if image_size is None else image_size
    wanted = (size, size, 3)
    if any(have not in (None, want) for have, want in zip(shape, wanted, strict=True)):
        raise InputError(
            f"Model {model.name!r} takes images of {shape}; expected {wanted}"
            + (f", for image_size={image_size}." if image_size is not None else ", square and RGB.")
        )
    if shape == wanted:
        return model
    fixed = keras.models.clone_model(model, input_tensors=keras.Input(wanted, name="image"))
    fixed.set_weights(model.get_weights())
    return fixed


def _with_probabilities(model):
    """Returns a classifier unchanged, or with a softmax if it ends in logits."""
    last = last_operation(model)
    if gives_probabilities(last):
        return model
    if getattr(last, "activation", None) is not keras.activations.linear:
        raise InputError(
            f"Model {model.name!r} ends in layer {last.name!r}; expected softmax, sigmoid, or logits, which a dense "
            "layer or an activation layer gives with the activation linear."
        )
    ends_in_activation = last is model.layers[-1] and isinstance(last, keras.layers.Activation)
    logits = last.input if ends_in_activation else model.outputs[0]
    name = last.name if ends_in_activation else "probabilities"
    outputs = keras.layers.Activation("softmax", dtype="float32", name=name)(logits)
    return keras.Model(model.inputs[0], outputs, name=model.name)


def _open_run(model_dir):
    config = RunConfig.read(model_dir)
    for name in (BEST, FINAL):
        path = os.path.join(model_dir, name)
        if exists(path):
            model = load_keras_file(path)
            if class_names(model) is None:  # as version 0.2.0 wrote it
                name_classes(model, config.class_names)
            return Opened(model, path, config)
    checkpoint = newest_checkpoint(os.path.join(model_dir, CHECKPOINTS))
    if checkpoint is None:
        raise MissingFileError(f"model_dir: {model_dir} has neither {BEST} nor {FINAL} nor a checkpoint yet.")
    model = config.build_model()
    restore_averages(model, checkpoint)
    return Opened(model, checkpoint, config)


def load_keras_file(path: StrPath) -> keras.Model:
    """Loads a classifier or a detector from a `.keras` file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a Keras file of an image classifier or a detector.
    """
    if not exists(path):
        raise MissingFileError(f"weights: there is no file {path}.")
    try:
        with local_copy(path) as local:
            if not zipfile.is_zipfile(local):
                raise InputError("it is not a zip file, but cut short or of another kind")
            model = keras.models.load_model(local, compile=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        reason = first_line(error)
        raise InputError(f"{path} is not a readable .keras file: {reason}") from error
    if is_detector(model):
        return model
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if [len(shape) if isinstance(shape, tuple) else None for shape in shapes] != [4, 2]:
        raise InputError(
            f"{path} is neither an image classifier nor an SSDLite detector: it maps {shapes[0]} to {shapes[1]}."
        )
    return model
