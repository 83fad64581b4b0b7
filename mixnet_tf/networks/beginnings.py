"""What a model takes: pixels or normalized images, and how they are cropped and resized."""

from collections.abc import Callable
from typing import Any

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.networks.names import PREPROCESSING, part_of
from mixnet_tf.networks.operations import is_idle, steps
from mixnet_tf.networks.resizing import GOOGLES, Preprocessing, Resizing

PIXELS, NORMALIZED = INPUTS = ("pixels", "normalized")
NOT_CHECKED = "scaling of the input not checked"
# How images are normalized, in words, for each answer of `input_of`.
SCALED = {PIXELS: "the model normalizes it itself", NORMALIZED: "normalized before the model", None: NOT_CHECKED}
_STEM = "stem"


def input_of(model: keras.Model) -> str | None:
    """Tells from a model's layers whether it takes pixels or normalized images.

    Args:
        model: A functional or sequential `keras.Model`; the MixNet may be a model inside it.

    Returns:
        "pixels" (RGB in [0, 255]) if our `Preprocessing` comes before the stem. "normalized" (the output of
        `preprocess_input`) if the input goes straight into the stem; Keras' random layers in between are ignored,
        because they do nothing in inference. None if this cannot be told, because other layers come first or the
        model is not a MixNet.
    """
    is_straight = True
    for step in steps(model):
        if isinstance(step, Preprocessing):
            return PIXELS
        if isinstance(step, keras.layers.Layer) and part_of(step) == _STEM:
            return NORMALIZED if is_straight else None
        is_straight = is_straight and is_idle(step) and not isinstance(step, _SaidToTakePixels)
    return None


class _SaidToTakePixels(keras.layers.Layer):
    """An identity layer that marks a model as taking pixels, whatever its other layers suggest."""

    def call(self, inputs):
        return inputs


def taking_pixels(model: keras.Model, taken: str | None = None) -> keras.Model:
    """Returns a model of RGB images in [0, 255]; adds `Preprocessing` in front if the model takes normalized images.

    Args:
        model: A `keras.Model` of one input.
        taken: What the model takes, "pixels" or "normalized"; None: the answer of `input_of`, or pixels if that is
            None.

    Returns:
        The model, or a copy of it after the new layer.

    Raises:
        ValueError: If `taken` is unknown, or is "normalized" although the model normalizes its input itself.
    """
    if taken not in (None, *INPUTS):
        raise InputError(f"input: expected one of {INPUTS}; received {taken!r}.")
    found = input_of(model)
    if taken == NORMALIZED and found == PIXELS:
        raise InputError(f"input: model {model.name!r} normalizes its input itself; it takes pixels.")
    if taken == PIXELS and found == NORMALIZED:
        return _behind(model, _SaidToTakePixels(name="pixels"))
    if NORMALIZED in (taken, found):
        return _behind(model, Preprocessing(name=PREPROCESSING))
    return model


def prepare_pixels(model: keras.Model) -> Callable[[Any], Any]:
    """Returns a function from RGB images in [0, 255] to a model's input: `Preprocessing`, or the identity."""
    return Preprocessing(dtype="float32") if input_of(model) == NORMALIZED else lambda images: images


def normalizes(model: keras.Model) -> bool:
    """Whether a layer of ours in the model normalizes its images."""
    return any(isinstance(step, Preprocessing) for step in steps(model))


def carried_resizing(model: keras.Model) -> Resizing | None:
    """How a model's images are cropped and resized, as its `Preprocessing` says; None: it does not say it."""
    for step in steps(model):
        if isinstance(step, Preprocessing) and step.resizing is not None:
            return step.resizing
    return None


def carry_resizing(model: keras.Model, resizing: Resizing) -> None:
    """Has a model's `Preprocessing` say how images are cropped and resized; a model without that layer stays."""
    for step in steps(model):
        if isinstance(step, Preprocessing):
            step.crop_padding, step.crop_fraction, step.interpolation = resizing


def resizing_of(model: keras.Model, crop: "bool | Resizing | None" = None, **given: Any) -> Resizing:
    """How images are cropped and resized for a model.

    Args:
        model: A functional or sequential `keras.Model`.
        crop: A `Resizing` in place of the model's own; or whether to take the center crop; None: as the model says.
        **given: Further arguments of `Resizing.given`.
    """
    if isinstance(crop, Resizing):
        return crop.given(**given)
    return (carried_resizing(model) or GOOGLES).given(crop, **given)


def _behind(model, layer):
    """A model of a layer followed by a copy of the model, whose layers stay at the top level."""
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
