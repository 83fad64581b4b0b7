"""Networks: from block strings to Keras layers and models. Imports no other package.

In: block strings or `BlockArgs`, `GlobalParams`, a Keras tensor.
Out: Keras tensors, and the parts of a built model by the reference's names.
"""

from mixnet_tf.networks.batch_norm import BatchNormalization
from mixnet_tf.networks.beginnings import (
    INPUTS,
    NOT_CHECKED,
    PIXELS,
    SCALED,
    carried_resizing,
    carry_resizing,
    input_of,
    normalizes,
    prepare_pixels,
    resizing_of,
    taking_pixels,
)
from mixnet_tf.networks.block_strings import (
    SAME,
    SYMMETRIC,
    BlockArgs,
    GlobalParams,
    MixnetDecoder,
    parse_kernels,
)
from mixnet_tf.networks.class_layers import Concatenate, Dense
from mixnet_tf.networks.counting import Count, count_parts, multiply_adds
from mixnet_tf.networks.dropout import Dropout, DropPath
from mixnet_tf.networks.endings import (
    class_names,
    gives_probabilities,
    last_operation,
    logits_model,
    name_classes,
    with_logits,
)
from mixnet_tf.networks.endpoints import endpoints, features_model, parts
from mixnet_tf.networks.forms import (
    BATCH_NORM_FORM,
    CPU_FORMS,
    DENSE,
    DEPTHWISE_FORM,
    POINTWISE_FORM,
    TPU_FORMS,
    Forms,
    set_forms,
)
from mixnet_tf.networks.layers import (
    Activation,
    GroupedConv2D,
    MixConv,
    SqueezeExcite,
    SymmetricConv2D,
    conv_kernel_initializer,
)
from mixnet_tf.networks.mixnet import (
    POOLINGS,
    backbone,
    check_dtype_policy,
    classifier,
    mixnet_block,
    pooled,
    stages_and_params,
)
from mixnet_tf.networks.names import block_part, find_classifier, is_block, is_mixnets, parse
from mixnet_tf.networks.network_files import is_network_file, network_content, network_name, read_network
from mixnet_tf.networks.operations import call, foreign_steps, models, steps, walk
from mixnet_tf.networks.paddings import padding_of, same_padding
from mixnet_tf.networks.resizing import (
    BICUBIC,
    BILINEAR,
    CROP_PADDING,
    GOOGLES,
    INTERPOLATION,
    TIMMS,
    Preprocessing,
    Resizing,
)
from mixnet_tf.networks.variants import VARIANTS, get_model_params, override_global_params
from mixnet_tf.networks.widths import repeats, round_filters, split_channels, unroll

__all__ = [
    "Activation",
    "BATCH_NORM_FORM",
    "BICUBIC",
    "BILINEAR",
    "CPU_FORMS",
    "CROP_PADDING",
    "GOOGLES",
    "INTERPOLATION",
    "Resizing",
    "TIMMS",
    "carried_resizing",
    "carry_resizing",
    "resizing_of",
    "BatchNormalization",
    "BlockArgs",
    "Concatenate",
    "Count",
    "Dense",
    "DENSE",
    "DEPTHWISE_FORM",
    "DropPath",
    "Dropout",
    "Forms",
    "GlobalParams",
    "GroupedConv2D",
    "INPUTS",
    "MixConv",
    "MixnetDecoder",
    "NOT_CHECKED",
    "PIXELS",
    "SAME",
    "SCALED",
    "SYMMETRIC",
    "POINTWISE_FORM",
    "POOLINGS",
    "Preprocessing",
    "SqueezeExcite",
    "SymmetricConv2D",
    "TPU_FORMS",
    "VARIANTS",
    "backbone",
    "block_part",
    "call",
    "check_dtype_policy",
    "class_names",
    "classifier",
    "conv_kernel_initializer",
    "count_parts",
    "endpoints",
    "features_model",
    "foreign_steps",
    "find_classifier",
    "get_model_params",
    "gives_probabilities",
    "input_of",
    "is_block",
    "is_mixnets",
    "is_network_file",
    "last_operation",
    "logits_model",
    "mixnet_block",
    "models",
    "multiply_adds",
    "name_classes",
    "network_content",
    "network_name",
    "normalizes",
    "override_global_params",
    "padding_of",
    "parse",
    "parse_kernels",
    "parts",
    "pooled",
    "prepare_pixels",
    "read_network",
    "repeats",
    "round_filters",
    "same_padding",
    "set_forms",
    "split_channels",
    "stages_and_params",
    "steps",
    "taking_pixels",
    "unroll",
    "walk",
    "with_logits",
]
