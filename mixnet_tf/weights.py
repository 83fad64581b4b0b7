"""Saved weights of any kind into a built model."""

import contextlib
import os
import warnings
import zipfile

import h5py
import keras
import tensorflow as tf

from mixnet_tf.checkpoints import checkpoint_classes, checkpoint_prefix, load_official_checkpoint
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import local_copy
from mixnet_tf.imagenet import CLASSES
from mixnet_tf.pretrained import imagenet_weights
from mixnet_tf.timm import load_timm_weights, timm_classes

_KERAS, _TIMM = (".keras", ".weights.h5"), (".safetensors", ".npz")


def load_weights(model, weights, skip_head=False):
    """Reads weights into a model.

    Args:
        model: A MixNet.
        weights: "imagenet" for Google's published ones, downloaded at first; a `.keras` or `.weights.h5` file
            of the same architecture; an official checkpoint (a folder or prefix; its moving averages are
            read); or a `.safetensors` or `.npz` file of timm's tf_mixnet.
        skip_head: Whether to leave the model's dense layer as it is, for other classes.

    Raises:
        ConnectionError: If "imagenet" cannot be downloaded; it says how to place the file by hand.
        FileNotFoundError: If there is nothing at `weights`.
        ValueError: If it is of another kind or does not fit the model.
    """
    path = _checked(weights)
    if path == "imagenet":
        path = imagenet_weights(model, skip_head)
    if path.endswith(_TIMM):
        load_timm_weights(model, path, skip_head)
    elif path.endswith(_KERAS):
        _load_keras_file(model, path, skip_head)
    else:
        load_official_checkpoint(model, checkpoint_prefix(path), skip_head=skip_head)


def saved_classes(weights):
    """Number of classes of the classifier in saved weights; None where they have none.

    Args:
        weights: What `load_weights` takes. "imagenet" is not downloaded for this.

    Raises:
        FileNotFoundError: If there is nothing at `weights`.
        ValueError: If it is of another kind, or cannot be read.
    """
    path = _checked(weights)
    if path == "imagenet":
        return CLASSES
    if path.endswith(_TIMM):
        return timm_classes(path)
    if not path.endswith(_KERAS):
        return checkpoint_classes(checkpoint_prefix(path))
    try:
        with local_copy(path) as local, contextlib.ExitStack() as stack:
            if path.endswith(".keras"):
                local = stack.enter_context(stack.enter_context(zipfile.ZipFile(local)).open("model.weights.h5"))
            file = stack.enter_context(h5py.File(local, "r"))
            bias = file.get("layers/dense/vars/1")  # Keras names by class; a MixNet has one dense layer
            return None if bias is None else bias.shape[0]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable file of Keras 3: {error}") from error


def _checked(weights):
    if not isinstance(weights, str | os.PathLike):
        raise InputError(f"weights: expected 'imagenet', or the path of a file or a checkpoint; received {weights!r}.")
    path = os.fspath(weights)
    if path.endswith(".h5") and not path.endswith(_KERAS):
        raise InputError(f"weights: {path} is named neither .keras nor .weights.h5; save it anew with Keras 3.")
    if path.endswith(_KERAS) and not tf.io.gfile.exists(path):
        raise MissingFileError(f"weights: there is no file {path}.")
    return path


def _load_keras_file(model, path, skip_head):
    skipped = [layer for layer in model.layers if layer.name == "head_dense"] if skip_head else []
    try:
        with local_copy(path) as local:
            if path.endswith(".keras"):
                _copy_weights(keras.models.load_model(local, compile=False), model, skipped)
            else:
                _read_weights_file(model, local, skipped)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} does not fit model {model.name!r}: {reason}") from error


def _read_weights_file(model, path, skipped):
    """Nothing stays assigned unless everything fits: Keras assigns what it can before it raises."""
    before = [weight.numpy() for weight in model.weights]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # one for each layer, beside the error
            model.load_weights(path, objects_to_skip=skipped)
    except Exception:
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)
        raise


def _copy_weights(source, target, skipped):
    """Layer by layer, by name; nothing is assigned unless everything fits."""
    by_name = {layer.name: layer for layer in source.layers}
    pairs = []
    for layer in target.layers:
        if layer in skipped or not layer.weights:
            continue
        have = by_name[layer.name].weights if layer.name in by_name else []
        if [tuple(w.shape) for w in have] != [tuple(w.shape) for w in layer.weights]:
            raise InputError(
                f"layer {layer.name!r} has shapes {[tuple(w.shape) for w in have]} there and "
                f"{[tuple(w.shape) for w in layer.weights]} here."
            )
        pairs += zip(layer.weights, have, strict=True)
    for variable, value in pairs:
        variable.assign(value)
