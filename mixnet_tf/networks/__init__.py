"""Block strings to Keras models, the paper's notation to its layers; imports no other room.

In: block strings or `BlockArgs`, `GlobalParams`, a Keras tensor. Out: Keras tensors, and the parts of a built model by
the reference's names.
"""

from mixnet_tf.networks.batch_norm import BatchNormalization
from mixnet_tf.networks.block_strings import BlockArgs, GlobalParams, MixnetDecoder, round_filters, unroll
from mixnet_tf.networks.endpoints import endpoints, features_model, multiply_adds, parts
from mixnet_tf.networks.layers import Activation, Dropout, GroupedConv2D, MixConv, Preprocessing, SqueezeExcite
from mixnet_tf.networks.mixnet import POOLINGS, backbone, classifier, mixnet_block, pooled, stages_and_params
from mixnet_tf.networks.names import find_classifier, is_mixnets, parse
from mixnet_tf.networks.variants import VARIANTS, get_model_params, override_global_params

__all__ = [
    "Activation",
    "BatchNormalization",
    "BlockArgs",
    "Dropout",
    "GlobalParams",
    "GroupedConv2D",
    "MixConv",
    "MixnetDecoder",
    "POOLINGS",
    "Preprocessing",
    "SqueezeExcite",
    "VARIANTS",
    "backbone",
    "classifier",
    "find_classifier",
    "endpoints",
    "features_model",
    "get_model_params",
    "is_mixnets",
    "mixnet_block",
    "multiply_adds",
    "override_global_params",
    "parse",
    "parts",
    "pooled",
    "round_filters",
    "stages_and_params",
    "unroll",
]
