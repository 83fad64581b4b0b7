"""Google's archives converted to numpy's format, once, and cached."""

import os
import pathlib
import tempfile
import zipfile

import numpy as np

from mixnet_tf.errors import InputError
from mixnet_tf.weights.archives import extract
from mixnet_tf.weights.google import archive_file, cache_folder, check_archive, download_archive, keep_checksum
from mixnet_tf.weights.matching import Arrays, with_imagenet_names
from mixnet_tf.weights.official import read_official_checkpoint
from mixnet_tf.weights.released import variant_of

_FORMAT = 2  # of the converted files; files of another format are left alone


def converted_file(model_name: str) -> pathlib.Path:
    """The path of a released network's converted weights in the cache."""
    return cache_folder() / f"{model_name}.v{_FORMAT}.npz"


def google_weights(model_name: str) -> Arrays:
    """The weights of a released network that Google published.

    The first call downloads, checks and converts the archive. Any number of processes may call at once: each works in
    a folder of its own and renames the finished files.

    Raises:
        ConnectionError: If the archive cannot be downloaded; the message says how to place it by hand.
        ValueError: If the archive is not the published one, or a cached file is damaged.
    """
    converted, archive = converted_file(model_name), archive_file(model_name)
    converted.parent.mkdir(parents=True, exist_ok=True)
    if not converted.exists():
        with tempfile.TemporaryDirectory(dir=converted.parent) as temporary:
            scratch = pathlib.Path(temporary)
            source = archive if archive.exists() else download_archive(model_name, scratch)
            check_archive(source, model_name)
            fresh = scratch / converted.name
            _convert(extract(source, scratch / "extracted"), model_name, fresh)
            keep_checksum(source, model_name)
            if source != archive:
                os.replace(source, archive)
            os.replace(fresh, converted)
    return _read(converted)


def _convert(checkpoint, model_name, path):
    """Writes the moving averages in a checkpoint as an .npz file, under the keys of `Arrays` joined by slashes."""
    read = read_official_checkpoint(checkpoint)
    if (variant := variant_of(_mixconvs(read.arrays))) != model_name:
        raise InputError(f"{read.source} is a checkpoint of {variant}, not of {model_name}.")
    np.savez(path, **{"/".join(map(str, key)): array for key, array in read.arrays.items()})


def _mixconvs(arrays):
    """(kernel sizes, channels) of each MixConv in a checkpoint, in the order of the blocks."""
    groups: dict[int, dict] = {}
    for (part, kind, place, _), array in arrays.items():
        if kind == "depthwise":
            groups.setdefault(int(part.split("_")[1]), {})[place] = array.shape
    shapes = [[block[place] for place in sorted(block)] for _, block in sorted(groups.items())]
    return [(tuple(shape[0] for shape in block), sum(shape[2] for shape in block)) for block in shapes]


def _read(path):
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, and it is converted again.") from error
    names = {}
    for name in arrays:
        part, kind, place, variable = name.split("/")
        names[part, kind, int(place), variable] = name
    source = f"{path} (converted from the published archive; delete it to convert it again)"
    return with_imagenet_names(Arrays(source, {key: arrays[name] for key, name in names.items()}, names))
