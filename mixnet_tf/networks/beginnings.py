"""What a model takes as its input: pixels, or what `preprocess_input` makes of them."""

from collections.abc import Callable
from typing import Any

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.networks.layers import Preprocessing
from mixnet_tf.networks.names import PREPROCESSING, part_of
from mixnet_tf.networks.operations import steps

PIXELS, NORMALIZED = INPUTS = ("pixels", "normalized")
NOT_CHECKED = "scaling of the input not checked"
# What is done about it, in words, by what `input_of` finds.
SCALED = {PIXELS: "the model normalizes it itself", NORMALIZED: "normalized before the model", None: NOT_CHECKED}
_STEM = "stem"


def input_of(model: keras.Model) -> str | None:
    """What a model takes, by its layers up to a MixNet's stem.

    Args:
        model: A functional or sequential `keras.Model`; the MixNet may be a model inside it.

    Returns:
        "pixels": RGB in [0, 255], where our `Preprocessing` comes before the stem. "normalized": what
        `preprocess_input` gives, where the input goes straight into the stem; Keras' random layers in between do
        nothing in inference. None where that cannot be told: other layers come first, or it is no MixNet.
    """
    is_straight = True
    for step in steps(model):
        if isinstance(step, Preprocessing):
            return PIXELS
        if isinstance(step, keras.layers.Layer) and part_of(step) == _STEM:
            return NORMALIZED if is_straight else None
        is_straight = is_straight and is_random(step)
    return None


def is_random(step: object) -> bool:
    """Whether an operation is one of Keras' layers of random augmentation, which do nothing in inference."""
    return isinstance(step, keras.layers.Layer) and type(step).__name__.startswith("Random")


def taking_pixels(model: keras.Model, taken: str | None = None) -> keras.Model:
    """A model as a function of RGB images in [0, 255], with `Preprocessing` in front where it takes normalized ones.

    Args:
        model: A `keras.Model` of one input.
        taken: "pixels" or "normalized", what the model takes; None: what `input_of` finds, and pixels where that cannot
            be told.

    Returns:
        The model, or a copy of it behind the layer.

    Raises:
        ValueError: For another `taken`, or "normalized" where the model normalizes its input by itself.
    """
    if taken not in (None, *INPUTS):
        raise InputError(f"input: expected one of {INPUTS}; received {taken!r}.")
    found = input_of(model)
    if taken == NORMALIZED and found == PIXELS:
        raise InputError(f"input: model {model.name!r} normalizes its input by itself; it takes pixels.")
    if taken == PIXELS and found == NORMALIZED:
        return _behind(model, keras.layers.Identity(name="pixels"))  # which `input_of` leaves undecided from now on
    if NORMALIZED in (taken, found):
        return _behind(model, Preprocessing(name=PREPROCESSING))
    return model


def prepare_pixels(model: keras.Model) -> Callable[[Any], Any]:
    """A function of RGB images in [0, 255] to what a model takes: `Preprocessing`, or nothing where it takes pixels."""
    return Preprocessing(dtype="float32") if input_of(model) == NORMALIZED else lambda images: images


def normalizes(model: keras.Model) -> bool:
    """Whether a layer of ours in the model normalizes its images."""
    return any(isinstance(step, Preprocessing) for step in steps(model))


def _behind(model, layer):
    """A layer, and behind it a copy of the model, whose layers stay in the first row as they were."""
    image = keras.Input(model.input_shape[1:], name="image")
    if isinstance(model, keras.Sequential):
        copy = keras.models.clone_model(model)
        copy = keras.Sequential([image, layer, *copy.layers], name=model.name)
    else:

        def call(step, *args, **kwargs):
            return step(*(layer(image) if value is image else value for value in args), **kwargs)

        copy = keras.models.clone_model(model, input_tensors=image, call_function=call)
    copy.set_weights(model.get_weights())
    return copy
