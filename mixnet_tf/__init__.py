"""MixNet for TensorFlow: the official models, their weights, recipe and mobile export, in Keras 3."""

import os

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

from mixnet_tf.data import decode_predictions
from mixnet_tf.detection import SSDLite, detect
from mixnet_tf.export import ExportOptions, export_model
from mixnet_tf.models import MixNetL, MixNetM, MixNetS, MobileNetV1, MobileNetV2, build_model, preprocess_input
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
from mixnet_tf.weights import load_official_checkpoint, load_timm_weights, load_weights

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
    "load_official_checkpoint",
    "load_timm_weights",
    "load_weights",
    "multiply_adds",
    "preprocess_input",
]
