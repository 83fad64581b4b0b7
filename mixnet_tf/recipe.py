"""The settings of a training run, frozen; the defaults are the official recipe for ImageNet."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from mixnet_tf.errors import InputError
from mixnet_tf.networks import BILINEAR, CROP_PADDING, INTERPOLATION, GlobalParams, Resizing, override_global_params
from mixnet_tf.settings import Setting, check, documented

CLASSIFICATION, DETECTION = TASKS = ("classification", "detection")
CLASSIFICATION_LOSSES = ("focal", "hard_negatives")
SCHEDULES = ("exponential", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = RMSPROP, SGD, ADAMW = ("rmsprop", "sgd", "adamw")
UNWEIGHTED, BALANCED = "none", "balanced"  # values of `class_weights`; any other one is a file
FREEZES = ("none", "bn", "backbone")


@documented
class Recipe(NamedTuple):
    """The settings that decide what a training run computes; the defaults are the official ImageNet recipe.

    Source: mnasnet_main.py, mnasnet_utils.py:build_learning_rate, build_optimizer.
    """

    train_batch_size: Annotated[
        int, Setting("Images per step over all replicas; the peak learning rate scales with it.", least=1)
    ] = 1024
    train_epochs: Annotated[float, Setting("Passes over the training images.", above=0)] = 350.0
    train_steps: Annotated[
        int | None, Setting("Steps of the run, in place of `train_epochs`; by default the epochs decide.", least=1)
    ] = None
    image_size: Annotated[int, Setting("Height and width of the model's input, pixels.", least=1)] = 224
    base_learning_rate: Annotated[float, Setting("Peak learning rate per 256 images of a batch.", least=0)] = 0.016
    learning_rate_schedule: Annotated[
        str, Setting("Shape of the learning rate after its warm-up.", choices=SCHEDULES)
    ] = "exponential"
    warmup_epochs: Annotated[float, Setting("Epochs of linear warm-up from 0.", least=0)] = 5.0
    decay_factor: Annotated[float, Setting("exponential: factor of each drop.", above=0, most=1)] = 0.97
    decay_epochs: Annotated[float, Setting("exponential: epochs between two drops.", above=0)] = 2.4
    minimum_learning_rate: Annotated[
        float, Setting("Lowest learning rate after the warm-up, whatever the batch size and schedule.", least=0)
    ] = 0.0
    optimizer: Annotated[
        str,
        Setting(
            "rmsprop: TensorFlow 1's RMSProp; sgd: SGD with Nesterov momentum; adamw: Keras' AdamW, usually with a "
            "`base_learning_rate` near 0.00025.",
            choices=OPTIMIZERS,
        ),
    ] = RMSPROP
    rmsprop_decay: Annotated[float, Setting("Decay of RMSProp's mean square.", least=0, below=1)] = 0.9
    momentum: Annotated[float, Setting("Momentum of the optimizer; adamw: its beta_1.", least=0, below=1)] = 0.9
    rmsprop_epsilon: Annotated[float, Setting("Added to the mean square inside the root.", above=0)] = 1e-3
    weight_decay: Annotated[
        float,
        Setting(
            "Factor of the L2 term of the loss; adamw: the decay of the weights themselves, usually 0.05, without such "
            "a term.",
            least=0,
        ),
    ] = 1e-5
    clip_norm: Annotated[
        float | None,
        Setting("Largest global norm of the gradients, to which larger ones are scaled; by default any.", above=0),
    ] = None
    label_smoothing: Annotated[
        float, Setting("Fraction of the target that is spread evenly over all classes.", least=0, below=1)
    ] = 0.1
    class_weights: Annotated[
        str,
        Setting(
            "Weights of the classes in the loss. none: all are equal; balanced: the rarer a class in the training "
            "images, the larger; FILE.json: numbers by class name. Accuracy is then also measured as the mean over "
            "classes, which chooses the best model.",
            is_path=True,
        ),
    ] = UNWEIGHTED
    moving_average_decay: Annotated[
        float, Setting("Decay of the EMA of weights and statistics; 0: no EMA.", least=0, below=1)
    ] = 0.9999
    crop: Annotated[
        bool,
        Setting(
            "Whether to crop: a random area in training, the center in evaluation. If not, the whole image is resized."
        ),
    ] = True
    interpolation: Annotated[str, INTERPOLATION] = BILINEAR
    flip: Annotated[bool, Setting("Whether to flip half of the training images left to right.")] = True
    shift: Annotated[
        float,
        Setting(
            "Largest random shift of a training image along each axis, a fraction of `image_size`; 0: none.",
            least=0,
            most=1,
        ),
    ] = 0.0
    zoom: Annotated[
        float,
        Setting(
            "Largest random change of a training image's size: 0.1 scales by 0.9 to 1.1; 0: none.", least=0, below=1
        ),
    ] = 0.0
    rotation: Annotated[
        float, Setting("Largest random rotation of a training image, degrees either way; 0: none.", least=0, most=180)
    ] = 0.0
    randaugment_layers: Annotated[
        int, Setting("Operations of RandAugment on each training image, usually 2; 0: none.", least=0)
    ] = 0
    randaugment_magnitude: Annotated[
        float, Setting("Strength of RandAugment's operations, usually 9 or 10.", least=0, most=30)
    ] = 10.0
    color_jitter: Annotated[
        float,
        Setting(
            "Largest random change of a training image's brightness, contrast and saturation: 0.4 multiplies each by "
            "0.6 to 1.4; 0: none.",
            least=0,
            most=1,
        ),
    ] = 0.0
    erasing: Annotated[
        float,
        Setting("Probability that a random rectangle of a training image is filled with noise.", least=0, most=1),
    ] = 0.0
    mixup: Annotated[
        float,
        Setting(
            "MixUp's alpha, usually 0.2: two training images are blended, and so are their labels; 0: none.", least=0
        ),
    ] = 0.0
    cutmix: Annotated[
        float,
        Setting(
            "CutMix's alpha, usually 1: a rectangle of a training image comes from another one, and so does that part "
            "of its label; 0: none.",
            least=0,
        ),
    ] = 0.0
    precision: Annotated[
        str, Setting("bfloat16: float32 variables, bfloat16 arithmetic, float32 logits.", choices=PRECISIONS)
    ] = "float32"
    sync_batch_norm: Annotated[bool, Setting("Whether batch normalization takes its moments over all replicas.")] = (
        False
    )
    adapt_batch_norm: Annotated[
        bool, Setting("Whether the momentum of batch normalization is max(1 - 10 / steps per epoch, 0.9).")
    ] = False
    recalibrate_batch_norm: Annotated[
        bool,
        Setting(
            "Whether the statistics of batch normalization are measured again after training, on up to 1,280 images "
            "per replica."
        ),
    ] = False
    freeze: Annotated[
        str,
        Setting(
            "Layers not to train. bn: batch normalization, statistics included; backbone: all but the classifier.",
            choices=FREEZES,
        ),
    ] = "none"
    seed: Annotated[int, Setting("Seed of initial weights, order of images, augmentation and dropout.", least=0)] = 0
    model_overrides: Annotated[
        Mapping[str, Any] | None, Setting("Fields of `GlobalParams` to replace; None: none.")
    ] = None
    name: Annotated[str | None, Setting("Which of `RECIPES` the fields started from; None: not recorded.")] = None

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed with others, so that their labels are soft."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def resizing(self) -> Resizing:
        """How images are cropped and resized in evaluation."""
        return Resizing(CROP_PADDING if self.crop else None, None, self.interpolation)

    def total_steps(self, num_images: int) -> int:
        """Steps of the whole run over `num_images` images."""
        if self.train_steps is not None:
            return self.train_steps
        return max(1, int(self.train_epochs * self.steps_per_epoch(num_images)))

    def steps_per_epoch(self, num_images: int) -> float:
        """Steps of one pass over `num_images` images, a float as in the reference."""
        return num_images / self.train_batch_size

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate at the end of the warm-up, for the recipe's batch size."""
        return self.base_learning_rate * self.train_batch_size / 256

    @property
    def l2_factor(self) -> float:
        """Factor of the L2 term of the loss; AdamW decays the weights instead."""
        return 0.0 if self.optimizer == ADAMW else self.weight_decay

    def model_params(self, num_images: int) -> dict[str, Any]:
        """The model's parameters that the run replaces, for `build_model`'s `override_params`.

        With `adapt_batch_norm`, the time constant of moving statistics is a tenth of an epoch, but at least ten steps,
        unless `model_overrides` sets the momentum. Source: arXiv:1805.08974.
        """
        adapted = {}
        if self.adapt_batch_norm:
            adapted["batch_norm_momentum"] = max(1 - 10 / self.steps_per_epoch(num_images), 0.9)
        return {**adapted, **(self.model_overrides or {})}


@documented
class DetectionRecipe(NamedTuple):
    """The settings of a detector's training, in addition to a `Recipe`, whose `crop` and `flip` are then SSD's."""

    classification_loss: Annotated[
        str,
        Setting(
            "detection: the loss of the classes, by default focal. hard_negatives: cross-entropy of the matches and of "
            "three negatives for each.",
            choices=CLASSIFICATION_LOSSES,
        ),
    ] = "focal"


def validate(recipe: Recipe) -> None:
    """Raises a ValueError for the first field of `recipe` that is out of range, or that another field excludes."""
    check(recipe)
    if recipe.class_weights not in (UNWEIGHTED, BALANCED) and not recipe.class_weights.endswith(".json"):
        raise InputError(
            f"class_weights: expected {UNWEIGHTED}, {BALANCED} or a file that ends in .json; received "
            f"{recipe.class_weights!r}."
        )
    if recipe.minimum_learning_rate > recipe.peak_learning_rate:
        raise InputError(
            f"minimum_learning_rate: {recipe.minimum_learning_rate:g} is above the peak, {recipe.peak_learning_rate:g} "
            f"for batches of {recipe.train_batch_size} images; give a smaller one."
        )
    override_global_params(GlobalParams(), recipe.model_overrides)
