"""Reads the weights in `.keras` and `.weights.h5` files by the names of their layers; deserializes no model."""

import contextlib
import io
import json
import math
import os
import re
import zipfile
import zlib

import h5py
import tensorflow as tf

from mixnet_tf.class_names import checked_names
from mixnet_tf.errors import InputError, first_line
from mixnet_tf.files import StrPath, local_copy
from mixnet_tf.networks import Preprocessing, Resizing, parse
from mixnet_tf.weights.archives import MAX_UNPACKED
from mixnet_tf.weights.matching import LAYER, Arrays, rank

_INSIDE, _CONFIG = "model.weights.h5", "config.json"  # in a .keras file, which is a zip
_MAX_CONFIG = 64 << 20  # bytes
# The path of a variable: the group of its layer, the path of a layer inside that, and the number of the variable.
_VARIABLE = re.compile(r"(layers/[^/]+)((?:/[^/]+)*)/vars/([0-9]+)")
_BN = ("gamma", "beta", "moving_mean", "moving_variance")
_DENSE = ("kernel", "bias")
# By role: the kind, the position among the layers of this kind in the part, and the names of the variables; None: one
# kernel for each channel group.
_KINDS = {
    "conv": ("conv", 0, None),
    "expand_conv": ("conv", 0, None),
    "project_conv": ("conv", 1, None),
    "mixconv": ("depthwise", 0, None),
    "se/reduce": ("se", 0, _DENSE),
    "se/expand": ("se", 1, _DENSE),
    "bn": ("bn", 0, _BN),
    "expand_bn": ("bn", 0, _BN),
    "mixconv_bn": ("bn", 1, _BN),
    "project_bn": ("bn", 2, _BN),
    "dense": ("dense", 0, _DENSE),
}
_KERNELS = {"conv": "kernel", "depthwise": "depthwise_kernel"}


def read_keras_file(path: StrPath) -> Arrays:
    """Reads a `.keras` or `.weights.h5` file as `matching.Arrays`.

    Raises:
        ValueError: If it cannot be read, or its model is neither functional nor sequential.
    """
    try:
        with local_copy(path) as local, _weights(local) as file:
            found = {f"{owner}/{number}": (owner, number, data) for owner, number, data in _variables(file)}
            arrays = {name: _array(data) for name, (_, _, data) in found.items()}
            layers = _layers(local)
            names, resizing = _class_names(layers), _resizing(layers)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        reason = first_line(error)
        raise InputError(f"{path} is not a readable file of Keras 3: {reason}") from error
    source = os.fspath(path)
    keys = {name: key for name, (owner, number, _) in found.items() if (key := _key(owner, number)) is not None}
    ranked = rank(keys, source)
    own = {key: arrays[name] for key, name in ranked.items()}
    return Arrays(source, own, ranked, has_layers=True, class_names=names, resizing=resizing)


def _layers(path):
    """The configurations of the layers in a `.keras` file; a `.weights.h5` file has none."""
    if not path.endswith(".keras"):
        return []
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(_CONFIG).file_size > _MAX_CONFIG:
            raise InputError("its configuration is larger than any MixNet's")
        return json.loads(archive.read(_CONFIG)).get("config", {}).get("layers", ())


def _class_names(layers):
    """The class names in the configurations; None if there are none."""
    found = [names for layer in layers if (names := layer.get("config", {}).get("class_names")) is not None]
    return checked_names(found[0], "class_names") if found else None


def _resizing(layers):
    """What the layer `Preprocessing` says in the configurations; None if it says nothing."""
    for layer in layers:
        if layer.get("class_name") == Preprocessing.__name__:
            return Preprocessing(**{name: layer["config"].get(name) for name in Resizing._fields}).resizing
    return None


@contextlib.contextmanager
def _weights(path):
    if not path.endswith(".keras"):
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(_INSIDE).file_size > MAX_UNPACKED:
            raise InputError("it holds more bytes than any MixNet has")
        content = io.BytesIO(archive.read(_INSIDE))  # HDF5 seeks, which is slow inside a zip
    with h5py.File(content, "r") as file:
        yield file


def _variables(file):
    """(owner, number, dataset) of each variable; the owner is the name of a layer and the path of a layer inside it."""
    found = []

    def visit(path, item):  # h5py does not visit links to other files
        place = _VARIABLE.fullmatch(path)
        if place and isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise InputError(f"{path} lies in another file")
            name = file[f"{place[1]}/vars"].attrs.get("name")
            if name is not None:
                found.append((name + place[2], int(place[3]), item))

    file.visititems(visit)
    if not found:
        raise InputError("it has no names of layers, as the files of functional and sequential models have")
    if sum(math.prod(item.shape) * item.dtype.itemsize for _, _, item in found) > MAX_UNPACKED:
        raise InputError("it holds more bytes than any MixNet has")
    return found


def _array(data):
    array = data[()]
    if data.attrs.get("dtype") == "bfloat16":  # HDF5 does not have this type
        return array.view(tf.bfloat16.as_numpy_dtype).astype("float32")
    return array


def _key(owner, number):
    """(part, kind, counter, name) of a variable; None if it is no weight, like the seed of a dropout layer."""
    layer, _, inside = owner.partition("/")
    parsed = parse(layer)
    if parsed is None:
        return owner, LAYER, number, "variable"
    part, role = parsed
    if (where := f"{role}/{inside}" if inside else role) not in _KINDS:
        return None
    kind, place, variables = _KINDS[where]
    if variables is None:
        return part, kind, (place, number), _KERNELS[kind]
    return part, kind, (place, 0), variables[number] if number < len(variables) else f"variable {number}"
