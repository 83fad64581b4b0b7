"""Recognizes saved weights of any kind, and loads them into a model."""

import os
from collections.abc import Sequence

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import StrPath, exists
from mixnet_tf.networks import BlockArgs
from mixnet_tf.passwords import masked
from mixnet_tf.weights.hub import PREFIX, hub_file, is_hub_name
from mixnet_tf.weights.keras_files import read_keras_file
from mixnet_tf.weights.matching import Arrays, assign, with_imagenet_names
from mixnet_tf.weights.official import read_official_checkpoint
from mixnet_tf.weights.pretrained import imagenet_weights, published_weights
from mixnet_tf.weights.released import variant_of
from mixnet_tf.weights.timm import read_timm_file

IMAGENET = "imagenet"
_KERAS, _TIMM = (".keras", ".weights.h5"), (".safetensors", ".npz")


def load_weights(model: keras.Model, weights: StrPath, skip_head: bool = False) -> None:
    """Reads weights into a model; nothing is assigned unless all of them fit.

    If it is known how the weights' images were cropped and resized, the model's `Preprocessing` says so afterwards.

    Args:
        model: A MixNet.
        weights: "imagenet" for the weights that Google published (for XL timm's), which are downloaded once; a `.keras`
            or `.weights.h5` file of the same architecture; an official checkpoint (a folder or prefix; its EMA weights
            are read); a `.safetensors` or `.npz` file of one of timm's mixnets; or "hf://ORG/NAME", optionally with
            "@REVISION", for such a file in a repository of the Hugging Face hub.
        skip_head: Whether to leave the model's classifier unchanged, for other classes.

    Raises:
        ConnectionError: If a download fails; the message says where to place the file by hand.
        FileNotFoundError: If there is nothing at `weights`.
        ValueError: If it is of another kind, or does not fit the model.
    """
    read = imagenet_weights(model, skip_head) if weights == IMAGENET else read_weights(weights)
    assign(model, read, skip_head)


def read_weights(weights: StrPath, blocks: Sequence[BlockArgs] = ()) -> Arrays:
    """Reads weights as numpy arrays, for `matching.assign`; no TensorFlow variable is created.

    Args:
        weights: As for `load_weights`.
        blocks: The network's `BlockArgs`, from `unroll`; they decide which weights "imagenet" means.

    Returns:
        `matching.Arrays`.

    Raises:
        ConnectionError, FileNotFoundError, ValueError: As `load_weights`, without the check that they fit.
    """
    if not isinstance(weights, str | os.PathLike):
        raise InputError(f"weights: expected 'imagenet', or the path of a file or a checkpoint; received {weights!r}.")
    path = os.fspath(weights)
    _check_scheme(path)
    if is_hub_name(path):
        is_timms = path.startswith(f"{PREFIX}timm/")
        read = read_weights(hub_file(path))
        return with_imagenet_names(read) if is_timms else read
    if path == IMAGENET:
        return published_weights(variant_of([(block.dw_ksize, block.expanded_filters) for block in blocks]))
    if path.endswith(_TIMM):
        return read_timm_file(path)
    if path.endswith(_KERAS):
        if not exists(path):
            raise MissingFileError(f"weights: there is no file {path}.")
        return read_keras_file(path)
    if path.endswith(".h5"):
        raise InputError(f"weights: {path} is named neither .keras nor .weights.h5; save it again with Keras 3.")
    return read_official_checkpoint(path)


def _check_scheme(path):
    scheme, separator, _ = path.partition("://")
    known = tf.io.gfile.get_registered_schemes()
    if separator and not is_hub_name(path) and scheme not in known:
        raise InputError(
            f"weights cannot be read from {masked(path, is_address=True)}; download the file and give its path. "
            f"An address may begin with {PREFIX} or gs://."
        )
