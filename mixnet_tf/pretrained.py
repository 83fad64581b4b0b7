"""Google's published ImageNet weights: download, safe extraction, conversion, and the names of the classes."""

import gzip
import hashlib
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile
import zlib
from typing import NamedTuple

import keras
import numpy as np

from mixnet_tf.checkpoints import load_official_checkpoint
from mixnet_tf.config import unroll
from mixnet_tf.endpoints import parts
from mixnet_tf.layers import MixConv
from mixnet_tf.variants import VARIANTS, get_model_params

# Source: tensorflow/tpu, models/official/mnasnet/mixnet/README.md.
BASE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet"
MIRROR = "MIXNET_TF_WEIGHTS_URL"
CLASSES = 1000  # ILSVRC 2012
# Raw and averaged float32 weights of MixNet-L take 59 MB.
_MAX_EXTRACTED = 500 * 10**6  # bytes


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
    """Where the published weights are kept: models/mixnet_tf in Keras' own folder."""
    return pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / "mixnet_tf"


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
        raise ValueError(
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
    raise ValueError(
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
            raise ValueError(
                f"{path} is not the published archive of {model_name}: expected {expected} {unit}, "
                f"received {received}. Delete it if it is still there, and try again."
            )


class _Bounded:
    """A stream that raises once more than `limit` bytes were read: no archive fills the disk or the memory."""

    def __init__(self, file, limit):
        self._file, self._left = file, limit

    def read(self, size):
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it unpacks to more bytes than any MixNet has")
        return data


def extract(archive, folder):
    """Unpacks a `.tar.gz` of plain files, and returns the folder in it that holds a checkpoint.

    Raises:
        ValueError: For a damaged archive, one with links, special files or paths outside `folder`, one that
            unpacks to more than any MixNet, or one without a checkpoint; `folder` is then of no use.
    """
    folder = pathlib.Path(folder)
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=_Bounded(unzipped, _MAX_EXTRACTED), mode="r|") as tar:
            for member in tar:
                _extract_member(tar, member, folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}. Delete it, and try again.") from error
    states = list(folder.rglob("checkpoint"))
    if len(states) != 1:
        raise ValueError(f"{archive} holds {len(states)} files named `checkpoint`, expected one beside model.ckpt.*.")
    return states[0].parent


def _extract_member(tar, member, folder):
    place = pathlib.PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts or "\\" in member.name or ":" in member.name:
        raise ValueError(f"{member.name!r} leads outside of the archive's own folder")
    if member.isdir():
        return
    if not member.isreg():
        raise ValueError(f"{member.name!r} is neither a plain file nor a folder")
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "xb") as file:  # x: no name stands twice
        shutil.copyfileobj(tar.extractfile(member), file)


def decode_predictions(preds, top=5):
    """The most probable ImageNet classes, by Keras' own index of their names.

    Keras downloads the index, imagenet_class_index.json, into its cache at the first call.

    Args:
        preds: (batch, 1000) probabilities or logits.
        top: How many classes of each image.

    Returns:
        For each image a list of (WordNet id, name, value), the largest value first.

    Raises:
        ConnectionError: If the index is not cached and cannot be had.
        ValueError: For another shape, or a `top` that is not from 1 to 1000.
    """
    preds = np.asarray(keras.ops.convert_to_numpy(preds), "float32")
    if preds.ndim != 2 or preds.shape[1] != CLASSES:
        raise ValueError(f"decode_predictions: expected (batch, {CLASSES}) predictions, received shape {preds.shape}.")
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= CLASSES:
        raise ValueError(f"decode_predictions: expected top from 1 to {CLASSES}, received {top!r}.")
    try:
        return keras.applications.imagenet_utils.decode_predictions(preds, top=top)
    except Exception as error:  # get_file raises plain Exceptions
        raise ConnectionError(
            f"Keras' index of ImageNet's class names could not be had: {error}\nPlace imagenet_class_index.json in "
            f"{cache_folder().parent}, or name the classes by their numbers."
        ) from error
