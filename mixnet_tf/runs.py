"""The files in a run's folder: config.json, the saved models, the checkpoints."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.class_names import lacking, listed
from mixnet_tf.data import ALL, VALIDATION, Reading, Split, check_hash_version
from mixnet_tf.detection import SSDLite
from mixnet_tf.errors import InputError, MissingFileError, first_line
from mixnet_tf.files import UNREADABLE, StrPath, publishing, read_json, readable_checkpoint, write_json
from mixnet_tf.imagenet import SPLITS, wordnet_ids
from mixnet_tf.models import build_model
from mixnet_tf.networks import (
    CROP_PADDING,
    Forms,
    Resizing,
    carry_resizing,
)
from mixnet_tf.recipe import CLASSIFICATION, DETECTION, DetectionRecipe, Recipe
from mixnet_tf.run_differences import compared
from mixnet_tf.settings import check

TRAINING_IMAGES = "measured on images of the training split"  # a note of a `data.Split`
SOME_TRAINING_IMAGES = "some of the images are those that the run trained on, if this is its data"  # another note
CONFIG, BEST, FINAL, CHECKPOINTS = "config.json", "best.keras", "final.keras", "checkpoints"
BEST_METRICS = "best.json"


class RunConfig(NamedTuple):
    """The configuration of a run: enough to build its model again, and to compare it with another run."""

    model_name: str
    num_label_classes: int
    dataset: str
    num_train_images: int
    recipe: Recipe
    label_names: tuple[str, ...] | None = None
    weights: str | None = None  # the weights that the run started from
    # The following fields are None in a config written by 0.1.0.
    train_split: str | None = None
    eval_split: str | None = None
    train_shards: int | None = None  # number of TFRecord files; 0: the data is in other files
    missing_shards: tuple[str, ...] | None = None  # of both splits, if --allow_missing_shards was given
    network: Mapping[str, Any] | None = None  # content of its network file; None: the released network of that name
    task: str = CLASSIFICATION
    detection: DetectionRecipe | None = None  # None: a classifier
    data_version: int = 0  # version of the rules by which its data is read, see `data.Reading`; 0.2.0 wrote none
    exif: bool = False  # whether images are turned as their EXIF orientation says
    validation_fraction: float | None = None  # fraction of the images held out; None: the dataset has splits
    hash_version: int | None = None  # version of the hash that holds them out
    list: str | None = None  # path of the file that lists the images
    eval_every: float | None = None  # epochs between evaluations; None: an older version's run, which has none
    early_stopping: int | None = None  # evaluations without a better one after which the run ends
    stopped_at: int | None = None  # the step at which early stopping ended the run
    weights_params: Mapping[str, Any] | None = None  # fields of `GlobalParams` that the network has from the weights
    class_weights: tuple[float, ...] | None = None  # weight of each class in the loss; None: they are equal
    crop_padding: int = CROP_PADDING  # of the center crop in evaluation, if the recipe crops
    forms: Forms = Forms()  # in which layers compute in training; 0.2.0 wrote none

    @property
    def last_step(self) -> int:
        """The step at which the run ends, or at which early stopping has ended it."""
        return self.recipe.total_steps(self.num_train_images) if self.stopped_at is None else self.stopped_at

    @property
    def evaluates_itself(self) -> bool:
        """Whether the run evaluates its averages while it trains."""
        return self.eval_every is not None and self.eval_every > 0

    @property
    def weights_classes(self) -> bool:
        """Whether classes have weights in the loss, so that accuracy is also measured as the mean over classes."""
        return self.class_weights is not None

    @property
    def resizing(self) -> Resizing:
        """How images are cropped and resized in evaluation."""
        resizing = self.recipe.resizing
        return resizing._replace(crop_padding=self.crop_padding) if resizing.crops else resizing

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the run's classes; None if they are not known.

        Version 0.2.0 recorded no names for a run on ImageNet's own shards; they follow from the classes' numbers.
        """
        shards, _ = SPLITS.get(self.train_split or "", (None, None))
        is_imagenet = self.dataset == "tfrecord" and shards is not None and self.train_shards == shards
        return wordnet_ids() if self.label_names is None and is_imagenet else self.label_names

    def reading(self, dataset: str | None = None) -> Reading:
        """How the run reads a dataset; None: its own. Of another one, only the rules are the run's."""
        rules = Reading(self.data_version, self.exif)
        if dataset not in (None, self.dataset):
            return rules
        classes = self.num_label_classes if self.dataset == "tfrecord" else None
        own = rules.given(default_fraction=self.validation_fraction)
        return own._replace(list=self.list, num_label_classes=classes)

    def split_name(self, dataset: str | None, train: bool) -> str | None:
        """The name of the split that the run trains on, or is evaluated on; None for another dataset than the run's."""
        if dataset not in (None, self.dataset):
            return None
        return self.train_split if train else self.eval_split

    def write(self, model_dir: StrPath) -> None:
        """Writes `model_dir`/config.json."""
        recipes = {
            "recipe": _plain(self.recipe._asdict()),
            "detection": None if self.detection is None else self.detection._asdict(),
            "forms": self.forms._asdict(),
        }
        write_json(os.path.join(model_dir, CONFIG), {**_plain(self._asdict()), **recipes})

    @classmethod
    def read(cls, model_dir: StrPath) -> "RunConfig":
        """Reads `model_dir`/config.json.

        Raises:
            FileNotFoundError: If `model_dir` is not the folder of a training run.
            ValueError: If `write` did not write the file.
        """
        path = os.path.join(model_dir, CONFIG)
        try:
            fields = read_json(path)
        except FileNotFoundError as error:
            raise MissingFileError(f"model_dir: {model_dir} holds no training run; there is no {path}.") from error
        if not isinstance(fields, dict):
            raise InputError(f"{path} is not the configuration of a training run: it is no JSON object.")
        try:
            lists = {name: fields.get(name) for name in ("label_names", "missing_shards", "class_weights")}
            tuples = {name: None if value is None else tuple(value) for name, value in lists.items()}
            detection = fields.get("detection")
            recipes = {
                "recipe": Recipe(**fields["recipe"]),
                "detection": None if detection is None else DetectionRecipe(**detection),
                "forms": Forms(**fields.get("forms", {})),
            }
            config = cls(**{**fields, **tuples, **recipes})
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is not the configuration of a training run: {error}") from error
        try:
            config.reading().check(config.dataset)
            check_hash_version(config.hash_version)
            check(config.forms)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return config

    @classmethod
    def read_if_any(cls, model_dir: StrPath) -> "RunConfig | None":
        """Reads `model_dir`/config.json; None if there is none. Raises the other errors of `read`."""
        try:
            return cls.read(model_dir)
        except FileNotFoundError:
            return None

    @classmethod
    def wait_for(cls, model_dir: StrPath, seconds: float, timeout: float | None = None) -> "RunConfig":
        """Waits until a run has written its configuration, and reads it.

        Args:
            model_dir: The run's folder.
            seconds: Poll interval.
            timeout: Seconds to wait at most; None: without limit.

        Raises:
            FileNotFoundError: If the configuration was not written in time.
        """
        start = time.monotonic()
        while True:
            try:
                return cls.read(model_dir)
            except FileNotFoundError:
                if timeout is not None and time.monotonic() - start > timeout:
                    raise
                time.sleep(seconds)

    def build_model(self, classifier_activation: str | None = "softmax") -> keras.Model:
        """Builds the run's model at its image size: a classifier that ends in an activation, or a detector."""
        if self.task == DETECTION:
            network = self._network(include_top=False)
            return SSDLite(network, self.num_label_classes, network.input_shape[1:], class_names=self.class_names)
        classes = {"classes": self.num_label_classes, "class_names": self.class_names}
        model = self._network(**classes, classifier_activation=classifier_activation)
        carry_resizing(model, self.resizing)
        return model

    def _network(self, **kwargs):
        size = self.recipe.image_size
        overrides = {**(self.weights_params or {}), **self.recipe.model_params(self.num_train_images)}
        common = {"input_shape": (size, size, 3), **kwargs}
        if self.network is None:
            return build_model(self.model_name, overrides, **common)
        params = {name: value for name, value in self.network["params"].items() if name != "num_classes"}
        blocks = self.network["blocks"]
        return build_model(override_params={**params, **overrides}, blocks_args=blocks, name=self.model_name, **common)

    def check_resumes(self, model_dir: StrPath) -> None:
        """Raises a ValueError if the folder holds a run of another configuration; the message lists the differences."""
        there = RunConfig.read_if_any(model_dir)
        differences = [] if there is None else there.differences(self)
        if differences:
            listing = "\n".join(f"  {line}" for line in differences)
            raise InputError(
                f"{os.path.join(model_dir, CONFIG)} is of another configuration; name another model_dir, or resume "
                f"with --allow_config_change.\n{listing}"
            )

    def differences(self, other: "RunConfig") -> Sequence[str]:
        """Returns one line for each field in which `other` differs."""
        lines = []
        for name, ours, theirs in compared(self, other):
            if ours != theirs:
                lines.append(f"{name}: {ours!r} there, {theirs!r} now")
        names, other_names = self.class_names, other.class_names
        if names is not None and other_names is not None and names != other_names:
            gone, new = lacking(names, other_names), lacking(other_names, names)
            lines.append(f"class names: {listed(gone) or 'none'} only there, {listed(new) or 'none'} only now")
        return lines


def _plain(value):
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in value.items()}


def save_model(model: keras.Model, path: StrPath) -> None:
    """Writes a `.keras` file; an older file at `path` is kept until the new one is complete."""
    with publishing(path) as local:
        model.save(local)


def inference_model(config: RunConfig, weights: Sequence[np.ndarray]) -> keras.Model:
    """Builds the run's model in float32, a classifier with softmax, with the given arrays as its weights."""
    model = config.build_model()
    model.set_weights(weights)
    return model


def noting_training_images(split: Split, config: RunConfig | None) -> Split:
    """Adds a note to a split whose images a model was trained on.

    Args:
        split: A `data.Split` to evaluate on.
        config: The `RunConfig` of the model's run. None: unknown; then a split named "train" gets the note.
    """
    dataset, name = (split.dataset, None) if config is None else (config.dataset, config.train_split)
    if split.dataset != dataset:
        return split
    # The name does not say whether it is the run's folder: "all" is for folders of new images.
    own = None if config is None else config.validation_fraction
    larger = own is not None and split.name == VALIDATION and (split.validation_fraction or 0) > own
    if split.validation_fraction is not None and (split.name == ALL or larger):
        return split.noted(SOME_TRAINING_IMAGES)
    return split.noted(TRAINING_IMAGES) if split.shares_images(name or "train") else split


def newest_checkpoint(folder: StrPath) -> str | None:
    """The newest checkpoint of a folder of checkpoints; None if there is none.

    `tf.train.latest_checkpoint` interprets brackets in the folder's name as a pattern, and finds no checkpoint then.
    """
    state = tf.train.get_checkpoint_state(os.fspath(folder))
    path = None if state is None else state.model_checkpoint_path
    return path if path and tf.io.gfile.exists(f"{path}.index") else None


def step_of(checkpoint: str) -> int:
    """The step of a training checkpoint, by its name."""
    return int(checkpoint.rsplit("-", 1)[1])


def restore_averages(model: keras.Model, checkpoint: str) -> None:
    """Loads the EMA weights of a training checkpoint into the run's model.

    Raises:
        ValueError: If the checkpoint is missing or damaged.
    """
    variables = [variable.value for variable in model.weights]
    try:
        with readable_checkpoint(checkpoint) as prefix:
            tf.train.Checkpoint(averages=variables).read(prefix).expect_partial().assert_existing_objects_matched()
    except (*UNREADABLE, AssertionError) as error:
        raise InputError(f"Checkpoint {checkpoint} cannot be read: {first_line(error)}") from error
