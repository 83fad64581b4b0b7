"""Training settings: the official ImageNet recipe and the others, frozen."""

import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

from mixnet_tf.errors import InputError, is_count
from mixnet_tf.networks import GlobalParams, override_global_params


class Recipe(NamedTuple):
    """Everything that decides what a training run computes; the defaults are the official ImageNet recipe.

    Attributes:
        train_batch_size: Images per step over all replicas; the peak learning rate scales with it.
        train_epochs: Passes over the training images.
        train_steps: Steps of the run in place of `train_epochs`; None: the epochs decide.
        image_size: Height and width of the model's input, pixels.
        base_learning_rate: Peak learning rate per 256 images of a batch.
        learning_rate_schedule: One of `SCHEDULES`: its shape after the warm-up.
        warmup_epochs: Epochs of linear warm-up from 0.
        decay_factor: Of the exponential schedule: factor of each drop.
        decay_epochs: Of the exponential schedule: epochs between two drops.
        optimizer: One of `OPTIMIZERS`: "rmsprop" is TensorFlow 1's, "sgd" has Nesterov's momentum.
        rmsprop_decay: Decay of RMSProp's mean square.
        momentum: Momentum of the optimizer.
        rmsprop_epsilon: Added to the mean square inside the root.
        weight_decay: Factor of the L2 term of the loss.
        label_smoothing: Fraction of the target that is spread evenly over all classes.
        moving_average_decay: Decay of the EMA of weights and statistics; 0: there is none.
        crop: Whether to crop: a random area in training, the center in evaluation. If not, the image is resized.
        flip: Whether to flip half of the training images left to right.
        shift: Largest random shift of a training image along each axis, a fraction of `image_size`; 0: none.
        zoom: Largest random change of a training image's size: 0.1 scales by 0.9 to 1.1; 0: none.
        rotation: Largest random rotation of a training image, degrees either way; 0: none.
        precision: One of `PRECISIONS`: "bfloat16" keeps float32 variables and logits.
        sync_batch_norm: Whether batch normalization takes its moments over all replicas.
        adapt_batch_norm: Whether its momentum is max(1 - 10 / steps per epoch, 0.9).
        recalibrate_batch_norm: Whether its statistics are measured again after training.
        freeze: One of `FREEZES`: "bn" keeps batch normalization as loaded, "backbone" all but the classifier.
        seed: Seed of initial weights, order of images, augmentation and dropout.
        model_overrides: Fields of `GlobalParams` to replace; None: none.
        name: Which of `RECIPES` its fields started from; None: not recorded.

    Source: mnasnet_main.py, mnasnet_utils.py:build_learning_rate, build_optimizer.
    """

    train_batch_size: int = 1024
    train_epochs: float = 350.0
    train_steps: int | None = None
    image_size: int = 224
    base_learning_rate: float = 0.016
    learning_rate_schedule: str = "exponential"
    warmup_epochs: float = 5.0
    decay_factor: float = 0.97
    decay_epochs: float = 2.4
    optimizer: str = "rmsprop"
    rmsprop_decay: float = 0.9
    momentum: float = 0.9
    rmsprop_epsilon: float = 1e-3
    weight_decay: float = 1e-5
    label_smoothing: float = 0.1
    moving_average_decay: float = 0.9999
    crop: bool = True
    flip: bool = True
    shift: float = 0.0
    zoom: float = 0.0
    rotation: float = 0.0
    precision: str = "float32"
    sync_batch_norm: bool = False
    adapt_batch_norm: bool = False
    recalibrate_batch_norm: bool = False
    freeze: str = "none"
    seed: int = 0
    model_overrides: Mapping[str, Any] | None = None
    name: str | None = None

    def total_steps(self, num_images: int) -> int:
        """Steps of the whole run over `num_images` images."""
        if self.train_steps is not None:
            return self.train_steps
        return max(1, int(self.train_epochs * self.steps_per_epoch(num_images)))

    def steps_per_epoch(self, num_images: int) -> float:
        """Steps of one pass over `num_images` images, a float as in the reference."""
        return num_images / self.train_batch_size

    def model_params(self, num_images: int) -> dict[str, Any]:
        """The model's parameters that the run replaces, as `build_model`'s `override_params`.

        With `adapt_batch_norm`, moving statistics forget within a tenth of an epoch or ten steps, the longer of
        the two, unless `model_overrides` says otherwise. Source: arXiv:1805.08974.
        """
        adapted = {}
        if self.adapt_batch_norm:
            adapted["batch_norm_momentum"] = max(1 - 10 / self.steps_per_epoch(num_images), 0.9)
        return {**adapted, **(self.model_overrides or {})}


class DetectionRecipe(NamedTuple):
    """What decides a detector's training beside a `Recipe`, of which `crop` and `flip` are SSD's there.

    Attributes:
        classification_loss: "focal", or "hard_negatives": cross-entropy of the matches and of three others for each.
    """

    classification_loss: str = "focal"


CLASSIFICATION, DETECTION = TASKS = ("classification", "detection")
CLASSIFICATION_LOSSES = ("focal", "hard_negatives")
SCHEDULES = ("exponential", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("rmsprop", "sgd")
FREEZES = ("none", "bn", "backbone")

# field: (help text of its flag, test of a value, what the test expects)
FIELDS = {
    "train_batch_size": (
        "Images per step over all replicas; the peak learning rate scales with it.",
        lambda v: v >= 1,
        "a whole number from 1",
    ),
    "train_epochs": ("Passes over the training images.", lambda v: v > 0, "a number above 0"),
    "train_steps": (
        "Steps of the run, in place of --train_epochs.",
        lambda v: v is None or is_count(v),
        "a whole number from 1",
    ),
    "image_size": ("Height and width of the model's input, pixels.", lambda v: v >= 1, "a whole number from 1"),
    "base_learning_rate": ("Peak learning rate per 256 images of a batch.", lambda v: v >= 0, "a number from 0"),
    "learning_rate_schedule": (
        "Shape of the learning rate after its warm-up.",
        lambda v: v in SCHEDULES,
        f"one of {SCHEDULES}",
    ),
    "warmup_epochs": ("Epochs of linear warm-up from 0.", lambda v: v >= 0, "a number from 0"),
    "decay_factor": ("exponential: factor of each drop.", lambda v: 0 < v <= 1, "a number above 0, up to 1"),
    "decay_epochs": ("exponential: epochs between two drops.", lambda v: v > 0, "a number above 0"),
    "optimizer": (
        "rmsprop: TensorFlow 1's; sgd: with Nesterov's momentum.",
        lambda v: v in OPTIMIZERS,
        f"one of {OPTIMIZERS}",
    ),
    "rmsprop_decay": ("Decay of RMSProp's mean square.", lambda v: 0 <= v < 1, "a number from 0 to below 1"),
    "momentum": ("Momentum of the optimizer.", lambda v: 0 <= v < 1, "a number from 0 to below 1"),
    "rmsprop_epsilon": ("Added to the mean square inside the root.", lambda v: v > 0, "a number above 0"),
    "weight_decay": ("Factor of the L2 term of the loss.", lambda v: v >= 0, "a number from 0"),
    "label_smoothing": (
        "Fraction of the target that is spread evenly over all classes.",
        lambda v: 0 <= v < 1,
        "a number from 0 to below 1",
    ),
    "moving_average_decay": (
        "Decay of the EMA of weights and statistics; 0: there is none.",
        lambda v: 0 <= v < 1,
        "a number from 0 to below 1",
    ),
    "crop": (
        "Whether to crop: a random area in training, the center in evaluation. If not, the whole image is resized.",
        lambda v: isinstance(v, bool),
        "true or false",
    ),
    "flip": (
        "Whether to flip half of the training images left to right.",
        lambda v: isinstance(v, bool),
        "true or false",
    ),
    "shift": (
        "Largest random shift of a training image along each axis, a fraction of image_size; 0: none.",
        lambda v: 0 <= v <= 1,
        "a number from 0 to 1",
    ),
    "zoom": (
        "Largest random change of a training image's size: 0.1 scales by 0.9 to 1.1; 0: none.",
        lambda v: 0 <= v < 1,
        "a number from 0 to below 1",
    ),
    "rotation": (
        "Largest random rotation of a training image, degrees either way; 0: none.",
        lambda v: 0 <= v <= 180,
        "a number from 0 to 180",
    ),
    "precision": (
        "bfloat16: float32 variables, bfloat16 arithmetic, float32 logits.",
        lambda v: v in PRECISIONS,
        f"one of {PRECISIONS}",
    ),
    "sync_batch_norm": (
        "Whether batch normalization takes its moments over all replicas.",
        lambda v: isinstance(v, bool),
        "true or false",
    ),
    "adapt_batch_norm": (
        "Whether the momentum of batch normalization is max(1 - 10 / steps per epoch, 0.9).",
        lambda v: isinstance(v, bool),
        "true or false",
    ),
    "recalibrate_batch_norm": (
        "Whether batch normalization's statistics are measured again after training, on up to 1,280 images a replica.",
        lambda v: isinstance(v, bool),
        "true or false",
    ),
    "freeze": (
        "What stays as loaded. bn: batch normalization, statistics included; backbone: all but the classifier.",
        lambda v: v in FREEZES,
        f"one of {FREEZES}",
    ),
    "seed": (
        "Seed of initial weights, order of images, augmentation and dropout.",
        lambda v: v >= 0,
        "a whole number from 0",
    ),
}

RECIPES = {
    "imagenet": Recipe(name="imagenet"),
    # Chosen by cross-validation within the training digits, with benchmarks/cross_validate.py; docs/TRAINING.md has
    # what was tried. Batch normalization needs the large batch: statistics of 32 images do not hold in evaluation.
    "digits": Recipe(
        name="digits",
        train_batch_size=128,
        train_epochs=48.0,
        image_size=32,
        base_learning_rate=0.0006,
        learning_rate_schedule="cosine",
        warmup_epochs=2.0,
        rmsprop_epsilon=1e-6,
        weight_decay=0.0,
        crop=False,
        flip=False,
        shift=0.1,
        zoom=0.1,
        rotation=10.0,
        model_overrides={"batch_norm_momentum": 0.9, "dropout_rate": 0.0},
    ),
    # For small networks and short runs, as studies of many of them need; chosen with studies/v1_stride4.json on the
    # validation images. docs/STUDIES.md has what was tried.
    "scattered_digits": Recipe(
        name="scattered_digits",
        train_batch_size=64,
        train_epochs=7.0,
        image_size=64,
        base_learning_rate=0.08,
        learning_rate_schedule="cosine",
        warmup_epochs=1.0,
        weight_decay=0.0,
        crop=False,
        flip=False,
        model_overrides={"batch_norm_momentum": 0.9, "dropout_rate": 0.0},
    ),
    # For detectors; chosen on the validation scenes, docs/DETECTION.md has what was tried.
    "digit_scenes": Recipe(
        name="digit_scenes",
        train_batch_size=16,
        train_epochs=4.0,
        image_size=128,
        base_learning_rate=0.008,
        learning_rate_schedule="cosine",
        warmup_epochs=0.3,
        rmsprop_epsilon=1e-6,
        weight_decay=0.0,
        crop=False,
        flip=False,
        moving_average_decay=0.99,
        model_overrides={"batch_norm_momentum": 0.9},
    ),
    # For detectors. Source: tensorflow/models,
    # object_detection/samples/configs/ssdlite_mobilenet_v3_large_320x320_coco.config, whose momentum is not Nesterov's
    # and whose warm-up begins at a third of the rate; the paper names no recipe.
    "coco": Recipe(
        name="coco",
        train_batch_size=512,
        train_steps=400_000,
        image_size=320,
        base_learning_rate=0.2,
        learning_rate_schedule="cosine",
        warmup_epochs=8.73,  # 2,000 steps of COCO 2014's 117,266 images
        optimizer="sgd",
        weight_decay=4e-5,
        moving_average_decay=0.0,
        model_overrides={"batch_norm_momentum": 0.97},
    ),
    # Source: arXiv:1805.08974, which chooses rate and weight decay for each dataset; these two are
    # a point of its grid.
    "transfer": Recipe(
        name="transfer",
        train_batch_size=256,
        train_epochs=50.0,
        base_learning_rate=0.01,
        learning_rate_schedule="cosine",
        warmup_epochs=0.0,
        optimizer="sgd",
        label_smoothing=0.0,
        moving_average_decay=0.0,
        adapt_batch_norm=True,
    ),
    # The official optimizer and average at a tenth of the rate.
    "finetune": Recipe(
        name="finetune",
        train_batch_size=256,
        train_epochs=30.0,
        base_learning_rate=0.0016,
        learning_rate_schedule="cosine",
        warmup_epochs=1.0,
        adapt_batch_norm=True,
    ),
}


_OWN = ("digits", "scattered_digits", "digit_scenes")  # datasets with a recipe of their name


def recipe_for(dataset: str | None, task: str = CLASSIFICATION) -> Recipe:
    """The recipe that a dataset is trained with unless another one is named."""
    return RECIPES[dataset if dataset in _OWN else "coco" if task == DETECTION else "imagenet"]


def validate(recipe: Recipe) -> None:
    """Raises a ValueError that names the first field of `recipe` out of its range."""
    for field, (_, accepts, expected) in FIELDS.items():
        value = getattr(recipe, field)
        if not (_is_of_type(value, getattr(Recipe(), field)) and accepts(value)):
            raise InputError(f"{field}: expected {expected}, received {value!r}.")
    override_global_params(GlobalParams(), recipe.model_overrides)


def validate_detection(recipe: DetectionRecipe) -> None:
    """Raises a ValueError if a field of `recipe` is out of its range."""
    if recipe.classification_loss not in CLASSIFICATION_LOSSES:
        raise InputError(
            f"classification_loss: expected one of {CLASSIFICATION_LOSSES}, received {recipe.classification_loss!r}."
        )


def _is_of_type(value, default):
    """Whether `value` is of the kind of a field's default: a bool, a whole or a finite number, or a text."""
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, numbers.Integral)
    if isinstance(default, float):
        return isinstance(value, numbers.Real) and math.isfinite(value)
    return isinstance(value, str)
