"""Reads saved weights of any kind, and assigns them to a model.

In: "imagenet", "hf://ORG/NAME", or the path of a `.keras`, `.weights.h5`, `.safetensors` or `.npz` file or of an
official checkpoint.
Out: numpy arrays by the reference's names (`Arrays`), and models with these weights.
"""

from mixnet_tf.weights.matching import Arrays, assign, params_with
from mixnet_tf.weights.official import load_official_checkpoint
from mixnet_tf.weights.pretrained import published_weights
from mixnet_tf.weights.records import WeightsRecord, list_weights
from mixnet_tf.weights.sources import load_weights, read_weights
from mixnet_tf.weights.timm import load_timm_weights

__all__ = [
    "Arrays",
    "WeightsRecord",
    "assign",
    "list_weights",
    "load_official_checkpoint",
    "load_timm_weights",
    "load_weights",
    "params_with",
    "published_weights",
    "read_weights",
]
