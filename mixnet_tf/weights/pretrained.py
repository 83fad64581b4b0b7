"""ImageNet weights for a model: Google's or, where they cannot be had, the same ones from timm; XL's are timm's."""

import keras
from absl import logging

from mixnet_tf.errors import InputError, MissingFileError, MissingPackageError, first_line
from mixnet_tf.imagenet import CLASSES
from mixnet_tf.networks import GOOGLES, find_classifier
from mixnet_tf.weights.converted import converted_file, google_weights
from mixnet_tf.weights.google import ARCHIVES
from mixnet_tf.weights.hub import hub_file, hub_folder
from mixnet_tf.weights.matching import Arrays, with_imagenet_names
from mixnet_tf.weights.records import list_weights
from mixnet_tf.weights.released import mixconvs_of, variant_of
from mixnet_tf.weights.timm import PARAMS, read_timm_file, require_safetensors

# In PyTorch's layout.
TIMM = {
    **{name: f"hf://timm/tf_{name.replace('-', '_')}.in1k" for name in ARCHIVES},
    "mixnet-xl": list_weights("mixnet-xl")[0].weights,
}
OFFICIAL = PARAMS["tf_mixnet"]


def imagenet_weights(model: keras.Model, skip_head: bool = False) -> Arrays:
    """The ImageNet weights for a model.

    Args:
        model: A MixNet-S, M, L or XL.
        skip_head: Whether the model's classifier will be left unchanged.

    Raises:
        ConnectionError, MissingPackageError: As `published_weights`.
        ValueError: As `published_weights`, or if the model is another network or has another number of classes.
    """
    model_name = variant_of(mixconvs_of(model))
    head = find_classifier(model)
    if head is not None and head.units != CLASSES and not skip_head:
        raise InputError(
            f"weights='imagenet' with include_top=True needs classes={CLASSES}, received {head.units}; "
            "build with include_top=False, or load with a new head (skip_head)."
        )
    return published_weights(model_name)


def published_weights(model_name: str) -> Arrays:
    """The published ImageNet weights of a released network.

    The first call downloads Google's archive and converts it; both stay in `cache_folder`. The environment variable
    MIXNET_TF_WEIGHTS_URL names a mirror: a URL below which "mixnet-s.tar.gz" and the others are. If the archive cannot
    be downloaded, the same weights are taken from timm's repository on the Hugging Face hub, which needs safetensors.
    No model is built and no variable is created, so any host of a strategy may convert the weights.

    Raises:
        ConnectionError: If neither source can be reached; the message says how to place the files by hand.
        MissingPackageError: If only timm's weights can be downloaded, and safetensors is not installed.
        ValueError: If the archive is not the published one, or a cached file is damaged.
    """
    if model_name not in ARCHIVES:
        return timm_weights(model_name)
    if not converted_file(model_name).exists() and hub_folder(TIMM[model_name]).exists():
        return timm_weights(model_name)
    try:
        return google_weights(model_name)._replace(params=OFFICIAL, resizing=GOOGLES)
    except ConnectionError as error:
        try:
            read = timm_weights(model_name)
        except (ConnectionError, MissingFileError) as second:
            raise ConnectionError(f"{error}\nThe second source: {second}") from error
        except MissingPackageError as second:
            raise MissingPackageError(f"{error}\nThe second source: {second}") from error
        logging.warning(first_line(error))
        logging.warning(f"The same weights were taken from {read.source}.")
        return read


def timm_weights(model_name: str) -> Arrays:
    """The published ImageNet weights of a released network, from timm's repository.

    Raises:
        ConnectionError, FileNotFoundError, MissingPackageError, ValueError: As `read_timm_file` and `hub_file`.
    """
    require_safetensors(TIMM[model_name])
    return with_imagenet_names(read_timm_file(hub_file(TIMM[model_name])))
