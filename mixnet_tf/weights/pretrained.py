"""Google's published ImageNet weights: downloaded, checked and converted once, from Google or from timm."""

import os
import pathlib
import tempfile
import zipfile
from typing import NamedTuple

import keras
import numpy as np
from absl import logging

from mixnet_tf.downloads import DownloadError, check_first, download, keep_sha256, sha256_of
from mixnet_tf.errors import InputError, MissingFileError, MissingPackageError, first_line
from mixnet_tf.files import StrPath, keras_cache
from mixnet_tf.imagenet import CLASSES
from mixnet_tf.networks import MixConv, find_classifier, get_model_params, parts, unroll
from mixnet_tf.passwords import masked
from mixnet_tf.weights.archives import MAX_UNPACKED, extract
from mixnet_tf.weights.hub import hub_file, hub_folder
from mixnet_tf.weights.matching import Arrays, with_imagenet_names
from mixnet_tf.weights.official import read_official_checkpoint
from mixnet_tf.weights.timm import read_timm_file, require_safetensors

# Source: tensorflow/tpu, models/official/mnasnet/mixnet/README.md.
BASE_URL = "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet"
MIRROR = "MIXNET_TF_WEIGHTS_URL"
# The same weights in PyTorch's layout, where Google's are gone or cannot be reached.
TIMM = {name: f"hf://timm/tf_{name.replace('-', '_')}.in1k" for name in ("mixnet-s", "mixnet-m", "mixnet-l")}
_FORMAT = 2  # of the converted files; those of another one are left alone


class Archive(NamedTuple):
    """What is known of a published archive; None: not published."""

    size: int | None = None  # bytes
    sha256: str | None = None


ARCHIVES = {
    "mixnet-s": Archive(size=30_633_801),
    "mixnet-m": Archive(),
    "mixnet-l": Archive(54_302_843, "feb487ed76e46c4a19604172b4227a84db6bfd9449b022e310606525b2bb221f"),
}


def cache_folder() -> pathlib.Path:
    """Where the published weights are kept, in Keras' own folder."""
    return keras_cache() / "mixnet_tf"


def imagenet_weights(model: keras.Model, skip_head: bool = False) -> Arrays:
    """Google's ImageNet weights (moving averages) for a model.

    Args:
        model: A MixNet-S, M or L.
        skip_head: Whether the model's classifier will be left unchanged.

    Returns:
        The `matching.Arrays` of `published_weights`.

    Raises:
        ConnectionError, ValueError: As `published_weights`, and if the model has a head for another number of classes.
    """
    model_name = variant_of(mixconvs_of(model))
    head = find_classifier(model)
    if head is not None and head.units != CLASSES and not skip_head:
        raise InputError(
            f"weights='imagenet' with include_top=True needs classes={CLASSES}, received {head.units}; "
            "build with include_top=False, or load with a new head (skip_head)."
        )
    return published_weights(model_name)


def mixconvs_of(model: keras.Model) -> list[tuple[tuple[int, ...], int]]:
    """(kernel sizes, channels) of each of a model's MixConvs, by which `variant_of` knows it."""
    mixconvs = [layer for part in parts(model).values() for layer in part if isinstance(layer, MixConv)]
    return [(tuple(layer.kernel_size), layer.output.shape[-1]) for layer in mixconvs]


def variant_of(mixconvs: list[tuple[tuple[int, ...], int]]) -> str:
    """Which released network has these MixConvs.

    Args:
        mixconvs: (kernel sizes, channels) of each, in their order.

    Raises:
        ValueError: If none has.
    """
    for model_name in ARCHIVES:
        blocks = unroll(*get_model_params(model_name))
        if mixconvs == [(block.dw_ksize, block.expanded_filters) for block in blocks]:
            return model_name
    raise InputError(
        f"weights='imagenet': the network has the kernels and widths of none of {list(ARCHIVES)}, "
        "for which weights were published; build one of them, without overriding its widths."
    )


def published_weights(model_name: str) -> Arrays:
    """The published weights of a released network, as `matching.Arrays`.

    At first this downloads the archive and converts it; both stay in `cache_folder`. The environment variable
    MIXNET_TF_WEIGHTS_URL names a mirror: a URL below which "mixnet-s.tar.gz" and the others are. Where that is gone or
    cannot be reached, the same weights are taken from timm's repository on the Hugging Face hub, which needs
    safetensors; the log says so, and they stay in a folder of its name. No model is built and no variable made, so that
    it does not matter to a strategy which of its hosts has to convert.

    Any number of processes may ask at once: each works in a folder of its own and renames the whole file.

    Raises:
        ConnectionError: If the weights can be had from neither; it says how to place the files by hand.
        MissingPackageError: If only timm's can be had, without safetensors.
        ValueError: If the archive is not the published one, or a cached file is damaged.
    """
    if not converted_file(model_name).exists() and hub_folder(TIMM[model_name]).exists():
        return timm_weights(model_name)
    try:
        return google_weights(model_name)
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
    """The published weights of a released network from timm's repository.

    Raises:
        ConnectionError, FileNotFoundError, MissingPackageError, ValueError: As `read_timm_file` and `hub_file`.
    """
    require_safetensors(TIMM[model_name])
    return with_imagenet_names(read_timm_file(hub_file(TIMM[model_name])))


def google_weights(model_name: str) -> Arrays:
    """The published weights of a released network from Google, as `published_weights`."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    converted = converted_file(model_name)
    if not converted.exists():
        archive = folder / f"{model_name}.tar.gz"
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            scratch = pathlib.Path(temporary)
            source = archive if archive.exists() else download_archive(model_name, scratch)
            check(source, model_name)
            fresh = scratch / converted.name
            _convert(extract(source, scratch / "extracted"), model_name, fresh)
            if ARCHIVES[model_name].sha256 is None and not _record(model_name).exists():
                keep_sha256(_record(model_name), sha256_of(source), archive.name)
                logging.info(f"The sha256 of {archive.name} is kept in {_record(model_name)}.")
            if source != archive:
                os.replace(source, archive)
            os.replace(fresh, converted)
    return _read_converted(converted)


def converted_file(model_name: str) -> pathlib.Path:
    """Where the converted weights of a released network are cached."""
    return cache_folder() / f"{model_name}.v{_FORMAT}.npz"


def _convert(checkpoint, model_name, path):
    read = read_official_checkpoint(checkpoint)
    mixconvs: dict[int, dict] = {}
    for (part, kind, place, _), array in read.arrays.items():
        if kind == "depthwise":
            mixconvs.setdefault(int(part.split("_")[1]), {})[place] = array.shape
    sizes = [[groups[place] for place in sorted(groups)] for _, groups in sorted(mixconvs.items())]
    found = [(tuple(shape[0] for shape in groups), sum(shape[2] for shape in groups)) for groups in sizes]
    if (variant := variant_of(found)) != model_name:
        raise InputError(f"{read.source} is a checkpoint of {variant}, not of {model_name}.")
    np.savez(path, **{"/".join(map(str, key)): array for key, array in read.arrays.items()})


def _read_converted(path):
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, and it is converted again.") from error
    names_by_key = {}
    for name in arrays:
        part, kind, place, variable = name.split("/")
        names_by_key[part, kind, int(place), variable] = name
    source = f"{path} (converted from the published archive; delete it to convert it again)"
    return with_imagenet_names(Arrays(source, {key: arrays[name] for key, name in names_by_key.items()}, names_by_key))


def download_archive(model_name: str, folder: StrPath) -> pathlib.Path:
    """Downloads the published archive of a network into `folder`, and returns its path.

    Raises:
        ConnectionError: If it cannot be had.
        ValueError: If it is larger than any MixNet's.
    """
    url = (os.environ.get(MIRROR) or BASE_URL).rstrip("/") + f"/{model_name}.tar.gz"
    path = pathlib.Path(folder, f"{model_name}.tar.gz")
    logging.info(f"Downloading {masked(url)}.")
    try:
        download(url, path, MAX_UNPACKED)
    except DownloadError as error:
        raise ConnectionError(
            f"{error}\nDownload it where there is a network and place it as "
            f"{cache_folder() / f'{model_name}.tar.gz'}, or set {MIRROR} to a mirror's URL."
        ) from error
    return path


def check(path: StrPath, model_name: str) -> None:
    """Compares an archive with what is known of the published one, and logs what it saw and could not compare.

    Where no checksum is published, it is compared with that of the first download.

    Raises:
        ValueError: If the size or the checksum differs.
    """
    known, record = ARCHIVES[model_name], _record(model_name)
    kept = cache_folder() / f"{model_name}.tar.gz"
    seen = Archive(os.path.getsize(path), sha256_of(path))
    logging.info(f"{model_name}.tar.gz: {seen.size} bytes, sha256 {seen.sha256}")
    for field, unit in (("size", "bytes"), ("sha256", "as its sha256")):
        expected, received = getattr(known, field), getattr(seen, field)
        if expected not in (None, received):
            raise InputError(
                f"{path} is not the published archive of {model_name}: expected {expected} {unit}, "
                f"received {received}. Delete it if it is still there, and try again."
            )
        if expected is None and not record.exists():
            logging.warning(f"{model_name}.tar.gz: its {field} is not published, so it was not checked.")
    if known.sha256 is None:
        check_first(record, str(seen.sha256), kept, kept)


def _record(model_name):
    """Where the SHA-256 of an archive's first download is kept."""
    return cache_folder() / f"{model_name}.tar.gz.sha256"
