"""Reads timm's weights: its ports of the official ones (tf_mixnet_s ...), and its own (mixnet_s ... mixnet_xl)."""

import os
import re
import zipfile

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.errors import InputError, MissingFileError, require_package
from mixnet_tf.files import StrPath, is_remote, local_copy, read_json
from mixnet_tf.networks import BICUBIC, GOOGLES, SAME, SYMMETRIC, TIMMS
from mixnet_tf.weights.matching import Arrays, assign, listing, rank

_ARCHITECTURE = re.compile(r"(?<![a-z0-9])(?:tf_)?mixnet_(?:xxl|xl|[sml])(?![a-z0-9])")
# The parameters of timm's networks, by the beginning of their names.
PARAMS = {
    "tf_mixnet": {"padding": SAME, "batch_norm_epsilon": 1e-3},
    "mixnet": {"padding": SYMMETRIC, "batch_norm_epsilon": 1e-5},
}
# Fields of `pretrained_cfg` in timm's config.json, and what is done here.
_PREPARED = {
    "interpolation": BICUBIC,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
_BN = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_CONV = {"weight": "kernel", "bias": "bias"}
# Names outside the blocks: (part, kind, counter), and the names of the variables.
_OUTSIDE = {
    "conv_stem": (("stem", "conv", 0), {"weight": "kernel"}),
    "bn1": (("stem", "bn", 0), _BN),
    "conv_head": (("head", "conv", 0), {"weight": "kernel"}),
    "bn2": (("head", "bn", 0), _BN),
    "classifier": (("head", "dense", 0), _CONV),
}
_BLOCK = re.compile(r"blocks\.([0-9]+)\.([0-9]+)\.(.+)\.([a-z_]+)")
# Names inside a block: the kind, the counter as a function of the pattern's match, the names of the variables.
_INSIDE = (
    (re.compile(r"conv_pw(?:\.([0-9]+))?"), "conv", lambda group: (0, int(group or 0)), {"weight": "kernel"}),
    (re.compile(r"conv_pwl(?:\.([0-9]+))?"), "conv", lambda group: (1, int(group or 0)), {"weight": "kernel"}),
    (re.compile(r"conv_dw(?:\.([0-9]+))?"), "depthwise", lambda group: int(group or 0), {"weight": "depthwise_kernel"}),
    (re.compile(r"se\.conv_(reduce|expand)"), "se", ("reduce", "expand").index, _CONV),
    (re.compile(r"bn([123])"), "bn", int, _BN),
)
# PyTorch's axes in the order of ours: OIHW to HWIO, depthwise C1HW to HWC1, dense OI to IO.
_AXES = {"kernel": (2, 3, 1, 0), "depthwise_kernel": (2, 3, 0, 1)}


def load_timm_weights(model: keras.Model, path: StrPath, skip_head: bool = False) -> None:
    """Reads a file of one of timm's mixnets into a model.

    `tf_mixnet_s`, m and l are Google's weights in PyTorch's layout. `mixnet_s`, m, l and xl were trained by timm with
    symmetric padding and a batch normalization epsilon of 1e-5, which the model has to have. Some have the same shapes,
    so only a name tells them apart: the `architecture` in the file's metadata or in a `config.json` beside it, else the
    last such name in the path. A file without any such name is read as a tf_mixnet.

    Nothing is assigned unless everything fits. PyTorch is not needed.

    Args:
        model: A MixNet of the same architecture. If it has no top, the file's classifier is ignored.
        path: A `.safetensors` file (needs the package `safetensors`, extra `timm`), or a `.npz` file with the arrays of
            timm's `state_dict` by name.
        skip_head: Whether to leave the model's classifier unchanged, for other classes.

    Raises:
        FileNotFoundError: If there is no file at `path`.
        ImportError: If `path` is a `.safetensors` file and the package `safetensors` is not installed.
        ValueError: If it is another kind of file, if the model pads or normalizes in another way, or if a variable is
            missing, unused or of another shape (the message names it).

    Source: timm 1.0.31, models/efficientnet.py:tf_mixnet_s, mixnet_s, models/_efficientnet_blocks.py.
    """
    assign(model, read_timm_file(path), skip_head)


def read_timm_file(path: StrPath) -> Arrays:
    """Reads a file of one of timm's mixnets as `matching.Arrays`; see `load_timm_weights`.

    Raises:
        FileNotFoundError, ImportError, ValueError: As `load_timm_weights`.
    """
    path = os.fspath(path)
    if not path.endswith((".safetensors", ".npz")):
        raise InputError(f"{path}: expected a .safetensors or .npz file of one of timm's mixnets.")
    arrays, metadata = _read(path)
    config = _config(path)
    family = _family(path, metadata, config)
    arrays = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    parsed = {name: key for name in arrays if (key := _parse(name)) is not None}
    foreign = [name for name in arrays if name not in parsed]
    if foreign:
        raise InputError(f"{path} has variables that are not a timm mixnet's:\n" + listing(foreign))
    blocks = sorted({key[0] for key in parsed.values() if isinstance(key[0], tuple)})
    parsed = {
        name: (f"block_{blocks.index(part)}" if isinstance(part, tuple) else part, *rest)
        for name, (part, *rest) in parsed.items()
    }
    names = rank(parsed, path)
    arrays = {key: _our_layout(arrays[name], key[3]) for key, name in names.items()}
    return Arrays(path, arrays, names, params=PARAMS[family], resizing=_resizing(path, family, config))


def _read(path):
    if not tf.io.gfile.exists(path):
        raise MissingFileError(f"There is no file {path}.")
    with local_copy(path) as local:
        return _read_npz(local) if path.endswith(".npz") else _read_safetensors(local)


def _read_npz(path):
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays), {}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a .npz file: {error}") from error


def require_safetensors(path: StrPath) -> None:
    """Raises a `MissingPackageError` if safetensors, which `path` needs, is not installed."""
    require_package("safetensors", "safetensors", f"Reading {path}", "timm")


def _read_safetensors(path):
    require_safetensors(path)
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a .safetensors file: {error}") from error


def _config(path):
    """The content of the config.json beside a file; empty if there is none."""
    config = os.path.join(os.path.dirname(path), "config.json")
    described = read_json(config) if tf.io.gfile.exists(config) else {}
    for found in (described, described.get("pretrained_cfg", {}) if isinstance(described, dict) else None):
        if not isinstance(found, dict):
            raise InputError(f"{config} is not timm's: expected a JSON object, received {found!r:.60}.")
    return described


def _family(path, metadata, config):
    """The name in `PARAMS` of the file's network."""
    named = metadata.get("architecture", config.get("architecture"))
    if not isinstance(named, str | None):
        raise InputError(f"{path}: architecture: expected a name such as mixnet_xl, received {named!r:.60}.")
    if named is None:
        found = _ARCHITECTURE.findall(path if is_remote(path) else os.path.abspath(path))
        named = found[-1] if found else None
    if named is None:
        return "tf_mixnet"
    family = re.fullmatch(r"(?:(tf_mixnet)_[sml]|(mixnet)_(?:[sml]|xl|xxl))(?:\..*)?", named)
    if family is None:
        raise InputError(f"{path} is timm's {named}; expected tf_mixnet_s, m or l, or mixnet_s, m, l, xl or xxl.")
    return family[1] or family[2]


def _resizing(path, family, config):
    """How the images of the file's weights are resized; the config.json of timm's own ones may have another crop."""
    if family == "tf_mixnet":
        return GOOGLES  # timm evaluates these, too, on bicubic images, but Google trained them on bilinear ones
    wanted = config.get("pretrained_cfg", {})
    others = {name: wanted[name] for name, value in _PREPARED.items() if wanted.get(name, value) != value}
    if others:
        logging.warning(f"The config.json of {path} has {others}, but here images are prepared by {_PREPARED}.")
    try:
        return TIMMS._replace(crop_fraction=wanted.get("crop_pct", TIMMS.crop_fraction)).check()
    except InputError as error:
        raise InputError(f"The config.json of {path}: crop_pct: {error}") from error


def _parse(name):
    """(part, kind, counter, variable) of a name; a block's part is its (stage, place) in timm. None if unknown."""
    owner, _, variable = name.rpartition(".")
    if owner in _OUTSIDE:
        key, names = _OUTSIDE[owner]
        return (*key, names[variable]) if variable in names else None
    block = _BLOCK.fullmatch(name)
    if block is None:
        return None
    stage, place, owner, variable = block.groups()
    for pattern, kind, counter, names in _INSIDE:
        found = pattern.fullmatch(owner)
        if found and variable in names:
            return (int(stage), int(place)), kind, counter(found[1]), names[variable]
    return None


def _our_layout(array, variable):
    if array.ndim == 2:
        return array.T
    return array.transpose(_AXES[variable]) if array.ndim == 4 and variable in _AXES else array
