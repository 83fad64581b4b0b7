"""Block arguments to a functional Keras model, and its parts by the reference's names."""

import keras

from mixnet_tf import layers
from mixnet_tf.config import BlockArgs, GlobalParams, MixnetDecoder, is_count, round_filters, unroll
from mixnet_tf.errors import InputError
from mixnet_tf.variants import get_model_params, override_global_params
from mixnet_tf.weights import load_weights

_POOLINGS = {None: None, "avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


def preprocess_input(images):
    """RGB in [0, 255] to the input of a model built with `include_preprocessing=False`.

    Args:
        images: (..., height, width, 3), any numeric dtype.

    Returns:
        A float32 tensor of the same shape: minus the ImageNet mean, over its standard deviation.

    Raises:
        ValueError: For anything but images of three channels.
    """
    try:
        images = keras.ops.convert_to_tensor(images, "float32")
    except (TypeError, ValueError) as error:
        raise InputError(f"images: expected numbers, (..., height, width, 3); received {images!r}.") from error
    if len(images.shape) < 3 or images.shape[-1] != 3:
        raise InputError(f"images: expected the shape (..., height, width, 3), received {tuple(images.shape)}.")
    return layers.Preprocessing(dtype="float32")(images)


def build_model(
    model_name=None,
    override_params=None,
    *,
    blocks_args=None,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    include_preprocessing=True,
    name=None,
):
    """A MixNet as a functional Keras model.

    Args:
        model_name: "mixnet-s", "mixnet-m" or "mixnet-l"; or else give `blocks_args`.
        override_params: Dict of `GlobalParams` fields to replace, such as `dropout_rate`.
        blocks_args: List of block strings, or of `BlockArgs`, of a network of your own. Its stem
            has as many filters as its first block takes, unless `stem_size` is overridden.
        include_top: Whether to end in dropout and a classifier over `classes`. If not, the model
            ends after the head's convolution.
        weights: None for random ones, or what `mixnet_tf.weights.load_weights` takes: "imagenet" for
            Google's published ones, a `.keras` or `.weights.h5` file, an official checkpoint, or a
            `.safetensors` or `.npz` file of timm's tf_mixnet.
        input_tensor: A Keras tensor to build on, in place of a new input.
        input_shape: (height, width, 3), None where any size will do; None for (None, None, 3).
        pooling: Without the top: None, "avg" or "max" over space.
        classes: Number of classes; None for `num_classes` of the parameters, 1000.
        classifier_activation: Keras activation after the classifier; None for logits. Always
            computed in float32.
        include_preprocessing: Whether the input is RGB in [0, 255], normalised by the model itself.
            If not, the input is what `preprocess_input` returns.
        name: Name of the Keras model; None for the model's.

    Returns:
        A `keras.Model` from (batch, height, width, 3) to (batch, classes), or without the top to
        (batch, height / 32, width / 32, 1536), or pooled to (batch, 1536).

    Raises:
        ValueError: For an argument out of its range, or arguments that disagree.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.build_model("mixnet-s", classes=10, input_shape=(48, 48, 3))
        >>> model.output_shape
        (None, 10)
    """
    _check_data_format()
    stages, params = stages_and_params(model_name, blocks_args, override_params)
    params = params._replace(num_classes=_resolve_classes(classes, override_params, params))
    for flag, value in (("include_top", include_top), ("include_preprocessing", include_preprocessing)):
        if not isinstance(value, bool):
            raise InputError(f"{flag}: expected True or False, received {value!r}.")
    if include_top and pooling is not None:
        raise InputError(f"pooling={pooling!r} goes with include_top=False; the classifier pools by itself.")
    if pooling not in list(_POOLINGS):
        raise InputError(f"pooling: expected None, 'avg' or 'max'; received {pooling!r}.")
    inputs = _input(input_tensor, input_shape)

    x = inputs
    if include_preprocessing:
        x = layers.Preprocessing(name="preprocessing")(x)
    x = keras.layers.Conv2D(
        round_filters(params.stem_size, params),
        3,
        strides=2,
        padding="same",
        use_bias=False,
        kernel_initializer=layers.conv_kernel_initializer(),
        name="stem_conv",
    )(x)
    x = _batch_norm_activation(x, params, "relu", "stem")
    for number, block_args in enumerate(unroll(stages, params)):
        x = mixnet_block(x, block_args, params, name=f"block_{number}")
    x = keras.layers.Conv2D(
        params.feature_size,
        1,
        padding="same",
        use_bias=False,
        kernel_initializer=layers.conv_kernel_initializer(),
        name="head_conv",
    )(x)
    x = _batch_norm_activation(x, params, "relu", "head")
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = layers.Dropout(params.dropout_rate, name="head_dropout")(x)
        x = keras.layers.Dense(
            params.num_classes,
            # Uniform within +-1 / sqrt(classes). Source: mixnet/mixnet_model.py:dense_kernel_initializer.
            kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform"),
            name="head_dense",
        )(x)
        x = keras.layers.Activation(classifier_activation or "linear", dtype="float32", name="predictions")(x)
    elif pooling is not None:
        x = _POOLINGS[pooling](name="head_pool")(x)

    sources = keras.utils.get_source_inputs(inputs)
    # Not a list of one, which Keras would warn about at each call with a plain tensor.
    model = keras.Model(sources[0] if len(sources) == 1 else sources, x, name=name or model_name or "mixnet")
    if weights is not None:
        load_weights(model, weights)
    return model


def mixnet_block(x, block_args, params, name):
    """One inverted-residual block, mixed kernels in its middle, on the Keras tensor `x`.

    Args:
        x: (batch, height, width, channels), as many channels as `block_args.input_filters`.
        block_args: A `BlockArgs` of `unroll`: one block, rounded filters.
        params: The network's `GlobalParams`.
        name: Prefix of the layers' names.

    Source: mixnet/mixnet_model.py:MixnetBlock.
    """
    if x.shape[-1] != block_args.input_filters:
        raise InputError(
            f"{name} declares {block_args.input_filters} input filters (after rounding), "
            f"but {x.shape[-1]} channels reach it."
        )
    activation = params.activation if block_args.swish else "relu"
    inputs = x
    if block_args.expand_ratio != 1:
        x = layers.GroupedConv2D(block_args.expanded_filters, block_args.expand_ksize, name=f"{name}_expand_conv")(x)
        x = _batch_norm_activation(x, params, activation, f"{name}_expand")
    x = layers.MixConv(block_args.dw_ksize, block_args.strides, block_args.dilated, name=f"{name}_mixconv")(x)
    x = _batch_norm_activation(x, params, activation, f"{name}_mixconv")
    if block_args.se_filters is not None:
        x = layers.SqueezeExcite(block_args.se_filters, activation, name=f"{name}_se")(x)
    x = layers.GroupedConv2D(block_args.output_filters, block_args.project_ksize, name=f"{name}_project_conv")(x)
    x = _batch_norm(x, params, f"{name}_project")
    if block_args.has_residual:
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _batch_norm(x, params, name):
    return layers.BatchNormalization(
        momentum=params.batch_norm_momentum, epsilon=params.batch_norm_epsilon, name=f"{name}_bn"
    )(x)


def _batch_norm_activation(x, params, activation, name):
    return layers.Activation(activation, name=f"{name}_activation")(_batch_norm(x, params, name))


def _check_data_format():
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "mixnet_tf computes channels last only; call keras.config.set_image_data_format('channels_last') first."
        )


def stages_and_params(model_name, blocks_args=None, override_params=None):
    """The stages and parameters that `build_model` builds from the same arguments, which it checks.

    Returns:
        (list of `BlockArgs`, `GlobalParams`).

    Raises:
        ValueError: For an argument out of its range, or arguments that disagree.
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
    _check_activation(params.activation)
    return stages, params


def _check_activation(name):
    """Here and not with the other parameters, as only Keras knows its names."""
    try:
        keras.activations.get(name)
    except ValueError as error:
        raise InputError(
            f"override_params['activation']: expected the name of a Keras activation, such as 'mish'; got {name!r}."
        ) from error


def _resolve_classes(classes, override_params, params):
    if classes is None:
        return params.num_classes
    if not is_count(classes):
        raise InputError(f"classes: expected a whole number from 1, received {classes!r}.")
    overridden = (override_params or {}).get("num_classes", classes)
    if overridden != classes:
        raise InputError(f"classes={classes} and override_params['num_classes']={overridden} disagree; give one.")
    return classes


def _input(input_tensor, input_shape):
    if input_shape is not None and not isinstance(input_shape, tuple | list):
        raise InputError(f"input_shape: expected (height, width, 3) in pixels, received {input_shape!r}.")
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise InputError(f"input_tensor: expected a Keras tensor, such as keras.Input gives; got {input_tensor!r}.")
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise InputError(f"input_shape={tuple(input_shape)} and the input_tensor's shape {shape} disagree.")
    else:
        shape = (None, None, 3) if input_shape is None else tuple(input_shape)
    valid = len(shape) == 3 and shape[2] == 3
    if not valid or not all(n is None or (isinstance(n, int) and n >= 1) for n in shape[:2]):
        raise InputError(f"input_shape: expected (height, width, 3) in pixels, None for any size; received {shape}.")
    return keras.Input(shape, name="image") if input_tensor is None else input_tensor


def _variant(model_name, letter):
    def variant(*, override_params=None, **kwargs):
        return build_model(model_name, override_params, **kwargs)

    variant.__name__ = variant.__qualname__ = f"MixNet{letter}"
    variant.__doc__ = f"""MixNet-{letter} as a Keras model; the arguments are those of `build_model`.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.MixNet{letter}(include_top=False, pooling="avg")
        >>> model.output_shape
        (None, 1536)
    """
    return variant


MixNetS = _variant("mixnet-s", "S")
MixNetM = _variant("mixnet-m", "M")
MixNetL = _variant("mixnet-l", "L")
