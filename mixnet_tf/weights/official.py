"""Reads checkpoints of the official TensorFlow 1 code."""

import contextlib
import os
import re

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import UNREADABLE, StrPath, readable_checkpoint
from mixnet_tf.weights.matching import Arrays, assign, listing, rank

_EMA = "/ExponentialMovingAverage"
_SLOT = re.compile(r"/RMSProp(_1)?$")
_SCOPE = re.compile(r"stem|head|blocks_([0-9]+)")
# A name below a scope: the kind of layer, its counter, and the variable.
_TAILS = (
    ("se", re.compile(r"se/conv2d(?:_([0-9]+))?/(kernel|bias)")),
    ("conv", re.compile(r"conv2d(?:_([0-9]+))?/(kernel)")),
    ("depthwise", re.compile(r"depthwise_conv2d(?:_([0-9]+))?/(depthwise_kernel)")),
    ("bn", re.compile(r"batch_normalization(?:_([0-9]+))?/(gamma|beta|moving_mean|moving_variance)")),
    ("dense", re.compile(r"dense(?:_([0-9]+))?/(kernel|bias)")),
)


def load_official_checkpoint(model: keras.Model, path: StrPath, use_ema: bool = True, skip_head: bool = False) -> None:
    """Reads a checkpoint of the official MixNet into a model.

    Nothing is assigned unless every variable fits. If the model has no top, the checkpoint's dense layer is ignored.

    Args:
        model: A MixNet of the same architecture.
        path: A checkpoint's prefix, such as "mixnet-s/model.ckpt", or a folder with a `checkpoint` file.
        use_ema: Whether to read the moving averages (EMA), as the reference does for evaluation, or the raw weights.
        skip_head: Whether to leave the model's classifier unchanged, for other classes.

    Raises:
        FileNotFoundError: If there is no checkpoint at `path`.
        ValueError: If a variable is missing, unused or of another shape (the message names it), or if `use_ema` is
            set and a variable has no average.

    Source: mixnet/mixnet_builder.py, mnasnet_main.py:_scaffold_fn; `golden/names` in our tests.
    """
    assign(model, read_official_checkpoint(path, use_ema), skip_head)


def read_official_checkpoint(path: StrPath, use_ema: bool = True) -> Arrays:
    """Reads a checkpoint of the official MixNet as `matching.Arrays`.

    Args:
        path: A checkpoint's prefix, or a folder with a `checkpoint` file.
        use_ema: Whether to read the moving averages or the raw weights.

    Raises:
        FileNotFoundError: If there is no checkpoint at `path`.
        ValueError: If it cannot be read, is not a MixNet's, or lacks averages that `use_ema` needs.
    """
    prefix = checkpoint_prefix(path)
    with readable_checkpoint(prefix) as local:
        with _readable(prefix):
            # Not tf.train.load_checkpoint, which mistakes a prefix for a folder on some file systems.
            reader = tf.compat.v1.train.NewCheckpointReader(local)
            shapes = reader.get_variable_to_shape_map()
        names = _model_variables(shapes, use_ema, prefix)
        with _readable(prefix):
            return Arrays(prefix, {key: reader.get_tensor(name) for key, name in names.items()}, names)


def checkpoint_prefix(path: StrPath) -> str:
    """The prefix of the checkpoint at `path`, which is a prefix or a folder with a `checkpoint` file.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = os.fspath(path)
    if tf.io.gfile.isdir(path):
        state = tf.train.get_checkpoint_state(path)
        if state is None:
            raise MissingFileError(f"{path} has no readable `checkpoint` file; give the checkpoint's prefix instead.")
        # A published folder may name the path where it was written.
        inside = os.path.join(path, os.path.basename(state.model_checkpoint_path))
        prefix = inside if tf.io.gfile.exists(inside + ".index") else state.model_checkpoint_path
    else:
        prefix = path.removesuffix(".index")
    if not tf.io.gfile.exists(prefix + ".index"):
        raise MissingFileError(f"No checkpoint at {prefix}: {prefix}.index does not exist.")
    return prefix


@contextlib.contextmanager
def _readable(prefix):
    try:
        yield
    except UNREADABLE as error:
        raise InputError(f"{prefix} cannot be read as a TensorFlow checkpoint: {error}") from error


def _model_variables(shapes, use_ema, prefix):
    """Checkpoint names by (scope, kind, rank within the scope, variable)."""
    raw = {name for name in shapes if name != "global_step" and not _SLOT.search(name) and not name.endswith(_EMA)}
    orphans = [name for name in shapes if name.endswith(_EMA) and name.removesuffix(_EMA) not in raw]
    if orphans:
        raise InputError(f"{prefix} has averages of variables that it lacks:\n" + listing(orphans))
    parsed = {name: _parse(name) for name in raw}
    foreign = [name for name, key in parsed.items() if key is None]
    if foreign:
        raise InputError(f"{prefix} has variables that are not MixNet's:\n" + listing(foreign))
    if use_ema:
        lacking = [name for name in raw if name + _EMA not in shapes]
        if lacking:
            raise InputError(
                f"{prefix} has no moving average for {len(lacking)} of {len(raw)} variables; "
                f"use_ema=False reads the raw weights.\n" + listing(lacking)
            )
    return {key: name + _EMA if use_ema else name for key, name in rank(parsed, prefix).items()}


def _parse(name):
    """(scope, kind, counter, variable) of a checkpoint name, or None if it is not MixNet's."""
    components = name.split("/")
    scopes = [i for i, component in enumerate(components) if _SCOPE.fullmatch(component)]
    if not scopes:
        return None
    scope, tail = components[scopes[-1]], "/".join(components[scopes[-1] + 1 :])
    for kind, pattern in _TAILS:
        match = pattern.fullmatch(tail)
        if match:
            return scope.replace("blocks_", "block_"), kind, int(match[1] or 0), match[2]
    return None
