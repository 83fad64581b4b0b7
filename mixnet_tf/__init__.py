"""MixNet for TensorFlow: the official models, their weights, recipe and mobile export, in Keras 3."""

import importlib.util
import os
import typing

try:
    import keras

    _backend, _cause = keras.config.backend(), None
except (ImportError, ValueError) as error:  # of a backend that is not installed, or unknown
    _missing = getattr(error, "name", None)
    _backend, _cause = os.environ.get("KERAS_BACKEND") or _missing, error
    if _backend in (None, "tensorflow") or _missing in ("keras", "tensorflow"):
        raise

if _backend != "tensorflow":
    raise ImportError(
        f"mixnet_tf needs Keras' TensorFlow backend, but it is {_backend!r}; "
        "set KERAS_BACKEND=tensorflow in the environment, before keras is imported.",
        name="keras",
    ) from _cause

from mixnet_tf import optimizers as _optimizers  # noqa: F401  (Keras finds its classes in saved models)
from mixnet_tf.applications import MixNetL, MixNetM, MixNetS, MixNetXL, MobileNetV1, MobileNetV2
from mixnet_tf.models import build_model, list_models, preprocess_input
from mixnet_tf.networks import (
    BlockArgs,
    GlobalParams,
    GroupedConv2D,
    MixConv,
    MixnetDecoder,
    endpoints,
    features_model,
    get_model_params,
    multiply_adds,
)

if typing.TYPE_CHECKING:
    from mixnet_tf.commands.in_python import train
    from mixnet_tf.data import decode_predictions
    from mixnet_tf.detection import SSDLite, detect
    from mixnet_tf.export import ExportOptions, export_model
    from mixnet_tf.weights import list_weights, load_official_checkpoint, load_timm_weights, load_weights
else:
    # These modules, and what they need, are imported when one of their names is first asked for.
    _MODULES = {
        "ExportOptions": "export",
        "SSDLite": "detection",
        "decode_predictions": "data",
        "detect": "detection",
        "export_model": "export",
        "list_weights": "weights",
        "load_official_checkpoint": "weights",
        "load_timm_weights": "weights",
        "load_weights": "weights",
        "train": "commands.in_python",
    }

    def __getattr__(name):
        if name in _MODULES:
            value = getattr(importlib.import_module(f"mixnet_tf.{_MODULES[name]}"), name)
        elif importlib.util.find_spec(f"mixnet_tf.{name}") is not None:
            value = importlib.import_module(f"mixnet_tf.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__version__ = "0.3.0"

__all__ = [
    "BlockArgs",
    "ExportOptions",
    "GlobalParams",
    "GroupedConv2D",
    "MixConv",
    "MixNetL",
    "MixNetM",
    "MixNetS",
    "MixNetXL",
    "MixnetDecoder",
    "MobileNetV1",
    "MobileNetV2",
    "SSDLite",
    "build_model",
    "decode_predictions",
    "detect",
    "endpoints",
    "export_model",
    "features_model",
    "get_model_params",
    "list_models",
    "list_weights",
    "load_official_checkpoint",
    "load_timm_weights",
    "load_weights",
    "multiply_adds",
    "preprocess_input",
    "train",
]
