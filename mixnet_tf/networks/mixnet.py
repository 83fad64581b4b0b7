"""Builds the layers of a network from block arguments, on a Keras tensor."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath
from mixnet_tf.networks import layers
from mixnet_tf.networks.batch_norm import BatchNormalization
from mixnet_tf.networks.block_strings import SYMMETRIC, BlockArgs, GlobalParams, MixnetDecoder
from mixnet_tf.networks.class_layers import Dense
from mixnet_tf.networks.dropout import Dropout, DropPath
from mixnet_tf.networks.names import PREDICTIONS, PREPROCESSING, block_part, layer_name
from mixnet_tf.networks.resizing import Preprocessing
from mixnet_tf.networks.variants import get_model_params, override_global_params
from mixnet_tf.networks.widths import round_filters, split_channels, unroll

POOLINGS = {None: None, "avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


def stages_and_params(
    model_name: StrPath | None,
    blocks_args: Sequence[str | BlockArgs] | None = None,
    override_params: Mapping[str, Any] | None = None,
    kernel_size: int | Sequence[int] | None = None,
) -> tuple[list[BlockArgs], GlobalParams]:
    """Checks arguments of `build_model`, and returns the stages and parameters that they describe.

    Returns:
        (list of `BlockArgs`, `GlobalParams`).

    Raises:
        ValueError: If an argument is out of its range, or two arguments disagree.
    """
    if (model_name is None) == (blocks_args is None):
        raise InputError(
            f"Give either model_name or blocks_args; received model_name={model_name!r}, blocks_args={blocks_args!r}."
        )
    if model_name is not None:
        stages, params = get_model_params(model_name, override_params)
    elif isinstance(blocks_args, str) or not blocks_args:
        raise InputError(f"blocks_args: expected a list with at least one block string, received {blocks_args!r}.")
    else:
        stages = [block if isinstance(block, BlockArgs) else MixnetDecoder.decode([block])[0] for block in blocks_args]
        params = override_global_params(GlobalParams(stem_size=stages[0].input_filters), override_params)
    if kernel_size is not None:
        sizes = tuple(layers.kernel_sizes(kernel_size))
        stages = [stage._replace(dw_ksize=sizes) for stage in stages]
    for field in ("activation", "default_activation", "project_activation"):
        _check_activation(field, getattr(params, field))
    _check_channels(stages, params)
    return stages, params


def _check_activation(field, name):
    """Checks activations, apart from the other parameters because this needs Keras."""
    try:
        keras.activations.get(name)
    except ValueError as error:
        raise InputError(
            f"override_params[{field!r}]: expected the name of a Keras activation, such as 'mish'; got {name!r}."
        ) from error


def _check_channels(stages, params):
    """Checks that each block takes the channels of the one before it, and that each group has a channel."""
    channels = round_filters(params.stem_size, params)
    for number, block in enumerate(unroll(stages, params)):
        if channels != block.input_filters:
            raise InputError(
                f"{block_part(number)} declares {block.input_filters} input filters (after rounding), "
                f"but {channels} channels reach it."
            )
        split_channels(block.expanded_filters, len(block.dw_ksize), params.partition)
        channels = block.output_filters


def check_dtype_policy() -> None:
    """Raises a ValueError if the variables of Keras' dtype policy are not float32."""
    policy = keras.config.dtype_policy()
    if policy.variable_dtype != "float32":
        instead = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}.get(policy.variable_dtype, "float32")
        raise InputError(
            f"The networks need float32 variables, which Keras' dtype policy {policy.name!r} does not have; call "
            f"keras.config.set_dtype_policy({instead!r}) before a network is built."
        )


def backbone(
    images: Any,
    stages: Sequence[BlockArgs],
    params: GlobalParams,
    include_preprocessing: bool = True,
    block: Callable | None = None,
) -> Any:
    """The network without its classifier, on a Keras tensor.

    Args:
        images: (batch, height, width, 3): RGB in [0, 255], or normalized images without `include_preprocessing`.
        stages: List of `BlockArgs`.
        params: The `GlobalParams`.
        include_preprocessing: Whether the network normalizes the images itself.
        block: The function that builds each block, with the arguments of `mixnet_block`; None: `mixnet_block`.

    The rate of `drop_path` grows with the number of a block, as timm 1.0.31 does in
    models/_efficientnet_builder.py:EfficientNetBuilder.

    Returns:
        (batch, height / 32, width / 32, params.feature_size) for a network with five strides of 2. Without
        `params.head` the channels are those of the last block.

    Raises:
        ValueError: If the variables of Keras' dtype policy are not float32.

    Source: mixnet/mixnet_model.py:MixnetModel.call.
    """
    check_dtype_policy()
    x = images
    if include_preprocessing:
        x = Preprocessing(name=PREPROCESSING)(x)
    kind = layers.SymmetricConv2D if params.padding == SYMMETRIC else keras.layers.Conv2D
    x = _conv(x, "stem", round_filters(params.stem_size, params), kernel_size=3, strides=2, kind=kind)
    x = _batch_norm_activation(x, params, params.default_activation, "stem", "")
    blocks = unroll(stages, params)
    for number, block_args in enumerate(blocks):
        own = params._replace(drop_path=params.drop_path * number / len(blocks))
        x = (block or mixnet_block)(x, block_args, own, part=block_part(number))
    if not params.head:
        return x
    x = _conv(x, "head", params.feature_size, kernel_size=1)
    return _batch_norm_activation(x, params, params.default_activation, "head", "")


def classifier(
    features: Any,
    params: GlobalParams,
    activation: str | Callable | None = "softmax",
    class_names: Sequence[str] | None = None,
) -> Any:
    """Adds pooling, dropout and the classifier to the output of `backbone`.

    Args:
        features: (batch, height, width, channels).
        params: The `GlobalParams`; `num_classes` and `dropout_rate` are used.
        activation: Keras activation of the classifier, always computed in float32; None for logits.
        class_names: A name for each class; None: not known.

    Returns:
        (batch, params.num_classes).
    """
    x = keras.layers.GlobalAveragePooling2D(name=layer_name("head", "pool"))(features)
    x = Dropout(params.dropout_rate, name=layer_name("head", "dropout"))(x)
    x = Dense(
        params.num_classes,
        class_names=class_names,
        # Uniform within +-1 / sqrt(classes). Source: mixnet/mixnet_model.py:dense_kernel_initializer.
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform"),
        name=layer_name("head", "dense"),
    )(x)
    return keras.layers.Activation(activation or "linear", dtype="float32", name=PREDICTIONS)(x)


def pooled(features: Any, pooling: str | None) -> Any:
    """The output of a network without its top: `features`, pooled over space by one of `POOLINGS`."""
    return features if pooling is None else POOLINGS[pooling](name=layer_name("head", "pool"))(features)


def mixnet_block(x: Any, block_args: BlockArgs, params: GlobalParams, part: str) -> Any:
    """Adds one inverted-residual block with a MixConv to the Keras tensor `x`.

    Args:
        x: (batch, height, width, `block_args.input_filters`).
        block_args: One block with rounded filters, from `unroll`.
        params: The network's `GlobalParams`; `drop_path` is the block's own rate.
        part: The block's name, such as "block_0".

    Source: mixnet/mixnet_model.py:MixnetBlock.
    """
    activation = params.activation if block_args.swish else params.default_activation
    inputs = x
    if block_args.expand_ratio != 1:
        x = layers.GroupedConv2D(
            block_args.expanded_filters, block_args.expand_ksize, name=layer_name(part, "expand_conv")
        )(x)
        x = _batch_norm_activation(x, params, activation, part, "expand_")
    x = layers.MixConv(
        block_args.dw_ksize,
        block_args.strides,
        block_args.dilated or params.dilated,
        params.partition,
        params.padding,
        name=layer_name(part, "mixconv"),
    )(x)
    x = _batch_norm_activation(x, params, activation, part, "mixconv_")
    if block_args.se_filters is not None:
        x = layers.SqueezeExcite(block_args.se_filters, activation, name=layer_name(part, "se"))(x)
    x = layers.GroupedConv2D(
        block_args.output_filters, block_args.project_ksize, name=layer_name(part, "project_conv")
    )(x)
    x = _batch_norm(x, params, layer_name(part, "project_bn"))
    if params.project_activation is not None:
        x = layers.Activation(params.project_activation, name=layer_name(part, "project_activation"))(x)
    if block_args.has_residual:
        if params.drop_path > 0:
            x = DropPath(params.drop_path, name=layer_name(part, "drop_path"))(x)
        x = keras.layers.Add(name=layer_name(part, "add"))([x, inputs])
    return x


def _batch_norm(x, params, name):
    momentum, epsilon = params.batch_norm_momentum, params.batch_norm_epsilon
    return BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)(x)


def _batch_norm_activation(x, params, activation, part, stage):
    x = _batch_norm(x, params, layer_name(part, f"{stage}bn"))
    return layers.Activation(activation, name=layer_name(part, f"{stage}activation"))(x)


def _conv(x, part, filters, kernel_size, strides=1, kind=keras.layers.Conv2D):
    return kind(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=layers.conv_kernel_initializer(),
        name=layer_name(part, "conv"),
    )(x)
