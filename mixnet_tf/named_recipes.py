"""The recipes that have a name: the official one for ImageNet, and those for other datasets."""

import math

from mixnet_tf.recipe import CLASSIFICATION, DETECTION, Recipe

RECIPES = {
    "imagenet": Recipe(name="imagenet"),
    # Chosen by cross-validation within the training digits, with benchmarks/cross_validate.py; docs/TRAINING.md lists
    # what was tried. Batch normalization needs the large batch: statistics of 32 images do not fit in evaluation.
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
    # For studies of many small networks in short runs; chosen with studies/v1_stride4.json on the validation images.
    # docs/STUDIES.md lists what was tried.
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
    # For detectors; chosen on the validation scenes. docs/DETECTION.md lists what was tried.
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
    # Source: arXiv:1805.08974, which searches rate and weight decay for each dataset; these two are a point of its
    # grid.
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
    # The official optimizer and EMA at a tenth of the learning rate.
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


OWN_IMAGES = "own_images"


def own_images(num_images: int, pretrained: bool, shorter_side: int | None = None) -> Recipe:
    """The recipe of `train.py` for images of one's own; not measured on photographs.

    Optimizer, label smoothing, warm-up and, for pretrained weights, learning rate and epsilon are those by which
    MediaPipe Model Maker fine-tunes image classifiers. From random weights, rate and epsilon are those that short runs
    on digits need (docs/TRAINING.md). Batch and epochs are bounded for few images: at least 500 steps, or 2,000 from
    random weights, but at most 100 or 400 epochs.

    Args:
        num_images: Number of training images.
        pretrained: Whether the run starts from pretrained weights.
        shorter_side: Typical shorter side of the images, pixels. Images below 64 pixels are shifted by up to an eighth,
            not cropped, as is usual for CIFAR. A run from random weights takes no larger input than the next multiple
            of 32 pixels. None: not known.

    Source: google-ai-edge/mediapipe, model_maker/python/vision/image_classifier/hyperparameters.py and
    train_image_classifier_lib.py; arXiv:1512.03385, section 4.2 (shifts).
    """
    batch_size = min(max(16, min(128, 2 ** int(math.log2(max(1, num_images / 40))))), num_images)
    epochs, steps = (10, 500) if pretrained else (40, 2000)
    is_small, image_size = shorter_side is not None and shorter_side < 64, 224
    if not pretrained and shorter_side is not None:
        image_size = min(224, max(32, 32 * math.ceil(shorter_side / 32)))
    return Recipe(
        name=OWN_IMAGES,
        train_batch_size=batch_size,
        train_epochs=float(max(epochs, min(10 * epochs, math.ceil(steps * batch_size / num_images)))),
        image_size=image_size,
        base_learning_rate=0.005 if pretrained else 0.0016,
        learning_rate_schedule="cosine",
        warmup_epochs=2.0,
        rmsprop_epsilon=1e-3 if pretrained else 1e-6,
        crop=not is_small,
        shift=0.125 if is_small else 0.0,
        adapt_batch_norm=True,
    )


_OWN = ("digits", "scattered_digits", "digit_scenes")  # datasets with a recipe of the same name


def recipe_for(dataset: str | None, task: str = CLASSIFICATION) -> Recipe:
    """The recipe of a dataset, if no other one is chosen."""
    return RECIPES[dataset if dataset in _OWN else "coco" if task == DETECTION else "imagenet"]
