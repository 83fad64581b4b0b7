"""Google's published ImageNet weights: downloaded, checked and converted once."""

import hashlib
import os
import pathlib
import sys
import tempfile
from typing import NamedTuple

import keras

from mixnet_tf.archives import extract
from mixnet_tf.checkpoints import load_official_checkpoint
from mixnet_tf.config import unroll
from mixnet_tf.endpoints import parts
from mixnet_tf.errors import InputError
from mixnet_tf.imagenet import CLASSES, keras_models
from mixnet_tf.layers import MixConv
from mixnet_tf.variants import VARIANTS, get_model_params

# Source: tensorflow/tpu, models/official/mnasnet/mixnet/README.md.
BASE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet"
MIRROR = "MIXNET_TF_WEIGHTS_URL"


class Archive(NamedTuple):
    """What is known of a published archive; None: nobody has published it."""

    size: int | None = None  # bytes
    sha256: str | None = None


ARCHIVES = {
    "mixnet-s": Archive(size=30_633_801),
    "mixnet-m": Archive(),
    "mixnet-l": Archive(54_302_843, "feb487ed76e46c4a19604172b4227a84db6bfd9449b022e310606525b2bb221f"),
}


def cache_folder():
    """Where the published weights are kept, in Keras' own folder."""
    return keras_models() / "mixnet_tf"


def imagenet_weights(model, skip_head=False):
    """The file of Google's ImageNet weights (moving averages) for a model.

    At first it downloads the published archive and converts it; both stay in `cache_folder`. The environment
    variable MIXNET_TF_WEIGHTS_URL names a mirror: a URL under which "mixnet-s.tar.gz" and its kind stand.

    Args:
        model: A MixNet-S, M or L.
        skip_head: Whether the model's dense layer will be left as it is.

    Returns:
        The path of a `.weights.h5` file.

    Raises:
        ConnectionError: If the archive cannot be had; it says how to place the file by hand.
        ValueError: If the model is none of the released ones, has a head for another number of classes, or
            the archive is not the published one.
    """
    model_name = variant_of(model)
    classes = [layer.units for layer in model.layers if layer.name == "head_dense"]
    if classes not in ([], [CLASSES]) and not skip_head:
        raise InputError(
            f"weights='imagenet' with include_top=True needs classes={CLASSES}, received {classes[0]}; "
            "build with include_top=False, or load with a new head (skip_head)."
        )
    return converted_weights(model_name)


def variant_of(model):
    """Which released network a model is, by its kernels and widths.

    Raises:
        ValueError: If it is none of them.
    """
    ours = [
        (tuple(layer.kernel_size), layer.output.shape[-1])
        for group in parts(model).values()
        for layer in group
        if isinstance(layer, MixConv)
    ]
    for model_name in VARIANTS:
        blocks = unroll(*get_model_params(model_name))
        if ours == [(block.dw_ksize, block.expanded_filters) for block in blocks]:
            return model_name
    raise InputError(
        f"weights='imagenet': model {model.name!r} has the kernels and widths of none of {list(VARIANTS)}, "
        "for which weights were published; build one of them without depth_multiplier and its kind."
    )


def converted_weights(model_name):
    """The cached `.weights.h5` of a released network, made from the published archive where it is missing.

    Any number of processes may ask at once: each works in a folder of its own and renames the whole file.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    converted = folder / f"{model_name}.weights.h5"
    if converted.exists():
        return str(converted)
    archive = folder / f"{model_name}.tar.gz"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        scratch = pathlib.Path(scratch)
        source = archive if archive.exists() else download(model_name, scratch)
        check(source, model_name)
        fresh = scratch / converted.name
        _convert(model_name, extract(source, scratch / "extracted"), fresh)
        if source != archive:
            os.replace(source, archive)
        os.replace(fresh, converted)
    return str(converted)


def _convert(model_name, checkpoint, path):
    from mixnet_tf.model import build_model  # which itself comes here for weights="imagenet"

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # the cached file is for every policy to come
    try:
        model = build_model(model_name)
    finally:
        keras.config.set_dtype_policy(policy)
    load_official_checkpoint(model, checkpoint)
    model.save_weights(path)


def download(model_name, folder):
    """Downloads the published archive of a network into `folder`, and returns its path.

    Raises:
        ConnectionError: If it cannot be had.
    """
    url = (os.environ.get(MIRROR) or BASE_URL).rstrip("/") + f"/{model_name}.tar.gz"
    try:
        return pathlib.Path(keras.utils.get_file(origin=url, cache_dir=str(folder), cache_subdir=""))
    except Exception as error:  # get_file raises plain Exceptions
        raise ConnectionError(
            f"{url} could not be downloaded: {error}\nDownload it where there is a network and place it as "
            f"{cache_folder() / f'{model_name}.tar.gz'}, or set {MIRROR} to a mirror's URL."
        ) from error


def check(path, model_name):
    """Compares an archive with what is known of the published one, and prints what it saw.

    Raises:
        ValueError: If the size or the checksum differs.
    """
    known = ARCHIVES[model_name]
    content = pathlib.Path(path).read_bytes()  # tens of megabytes
    seen = Archive(len(content), hashlib.sha256(content).hexdigest())
    print(f"{model_name}.tar.gz: {seen.size} bytes, sha256 {seen.sha256}", file=sys.stderr)
    for field, unit in (("size", "bytes"), ("sha256", "as its sha256")):
        expected, received = getattr(known, field), getattr(seen, field)
        if expected is not None and expected != received:
            raise InputError(
                f"{path} is not the published archive of {model_name}: expected {expected} {unit}, "
                f"received {received}. Delete it if it is still there, and try again."
            )
