"""Any network as a Keras model with weights: the names of the networks, `build_model`, and its preprocessing."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.class_names import checked_names
from mixnet_tf.errors import InputError, is_count
from mixnet_tf.files import StrPath
from mixnet_tf.networks import (
    POOLINGS,
    VARIANTS,
    BlockArgs,
    Preprocessing,
    backbone,
    classifier,
    network_name,
    pooled,
    stages_and_params,
)


def preprocess_input(images: Any) -> tf.Tensor:
    """Normalizes images for a model built with `include_preprocessing=False`.

    Args:
        images: RGB images in [0, 255] of the shape (..., height, width, 3) and any numeric dtype.

    Returns:
        A float32 tensor of the same shape: the images minus ImageNet's mean, divided by its standard deviation.

    Raises:
        ValueError: If `images` are not images of three channels.
    """
    try:
        images = keras.ops.convert_to_tensor(images, "float32")
    except (TypeError, ValueError) as error:
        raise InputError(f"images: expected numbers, (..., height, width, 3); received {images!r}.") from error
    if len(images.shape) < 3 or images.shape[-1] != 3:
        raise InputError(f"images: expected the shape (..., height, width, 3), received {tuple(images.shape)}.")
    return Preprocessing(dtype="float32")(images)


def list_models() -> list[str]:
    """The names of the networks that `build_model` knows.

    Example:
        >>> import mixnet_tf
        >>> mixnet_tf.list_models()
        ['mixnet-s', 'mixnet-m', 'mixnet-l', 'mixnet-xl', 'mobilenet-v1', 'mobilenet-v2']
    """
    return list(VARIANTS)


def build_model(
    model_name: StrPath | None = None,
    override_params: dict[str, Any] | None = None,
    *,
    blocks_args: Sequence[str | BlockArgs] | None = None,
    kernel_size: int | Sequence[int] | None = None,
    include_top: bool = True,
    weights: StrPath | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    classifier_activation: str | Callable | None = "softmax",
    include_preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Instantiates a network as a functional Keras model.

    Args:
        model_name: Name of a network, one of `list_models()`, or path of a network file, which ends in .json. None if
            `blocks_args` is given.
        override_params: Dict of the `GlobalParams` fields to replace, such as `dropout_rate`.
        blocks_args: List of block strings or `BlockArgs`, for a network of your own. Its stem has as many filters as
            its first block takes, unless `override_params` has a `stem_size`.
        kernel_size: Kernel size of every depthwise convolution in pixels: an odd int, or one for each channel group.
            None for the kernel sizes of the network.
        include_top: Whether the model ends in the classifier: pooling, dropout and a dense layer. If not, its output is
            that of the last convolution.
        weights: None for random weights; "imagenet" for weights pretrained on ImageNet, Google's for S, M and L and
            timm's for XL; or anything else that `mixnet_tf.load_weights` takes, such as the path of a `.keras` file.
            With timm's own weights the network pads and normalizes as theirs.
        input_tensor: Keras tensor of images to build the model on, in place of a new `keras.Input`.
        input_shape: Shape of the input images, (height, width, 3), where None stands for any size. None for
            (None, None, 3).
        pooling: Pooling of the output over space if `include_top` is False: None, "avg" or "max".
        classes: Number of classes. None for the network's own, 1000, or as many as there are `class_names`.
        class_names: Names of the classes. They are saved in the `.keras` file, and a dataset's classes are found among
            them. ImageNet's are WordNet ids. None if they are unknown or come with `weights`.
        classifier_activation: Activation of the classifier: a function or name of `keras.activations`, computed in
            float32. None for logits.
        include_preprocessing: Whether the model takes RGB images in [0, 255] and normalizes them. If not, it takes what
            `preprocess_input` returns.
        name: Name of the Keras model. None for the name of the network.

    Returns:
        A `keras.Model`. Its output has the shape (batch, classes), without the top (batch, height / 32, width / 32,
        1536), or (batch, 1536) if that is pooled.

    Raises:
        ValueError: If an argument is out of its range, or two arguments disagree.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.build_model("mixnet-s", classes=10, input_shape=(48, 48, 3))
        >>> model.output_shape
        (None, 10)
    """
    _check_data_format()
    stages, params = stages_and_params(model_name, blocks_args, override_params, kernel_size)
    if class_names is not None:
        if not include_top:
            raise InputError("class_names needs include_top=True: without the top there are no classes.")
        if not isinstance(class_names, list | tuple):
            raise InputError(f"class_names: expected a list of names, received {class_names!r}.")
        classes = len(class_names) if classes is None else classes
    params = params._replace(num_classes=_resolve_classes(classes, override_params, params))
    if class_names is not None:
        class_names = checked_names(class_names, "class_names", params.num_classes)
    for flag, value in (("include_top", include_top), ("include_preprocessing", include_preprocessing)):
        if not isinstance(value, bool):
            raise InputError(f"{flag}: expected True or False, received {value!r}.")
    if include_top and pooling is not None:
        raise InputError(
            f"pooling={pooling!r} goes with include_top=False; with the top, the model always uses average pooling."
        )
    if pooling not in list(POOLINGS):
        raise InputError(f"pooling: expected None, 'avg' or 'max'; received {pooling!r}.")
    inputs = _input(input_tensor, input_shape)
    read = None
    if weights is not None and weights != "imagenet":
        from mixnet_tf.weights import params_with, read_weights  # only here, as below

        read = read_weights(weights)
        params = params_with(read, params, override_params)

    features = backbone(inputs, stages, params, include_preprocessing)
    if include_top:
        outputs = classifier(features, params, classifier_activation, class_names)
    else:
        outputs = pooled(features, pooling)
    sources = keras.utils.get_source_inputs(inputs)
    # Not a list of one, which Keras would warn about at each call with a plain tensor.
    model = keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name or network_name(model_name))
    if read is not None:
        from mixnet_tf.weights import assign

        assign(model, read)
    elif weights is not None:
        from mixnet_tf.weights import load_weights  # only here: it downloads, which a network without weights does not

        load_weights(model, weights)
    return model


def _check_data_format():
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "mixnet_tf computes channels last only; call keras.config.set_image_data_format('channels_last') first."
        )


def _resolve_classes(classes, override_params, params):
    if classes is None:
        return params.num_classes
    if not is_count(classes):
        raise InputError(f"classes: expected a whole number from 1, received {classes!r}.")
    classes = int(classes)
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
    if not valid or not all(n is None or is_count(n) for n in shape[:2]):
        raise InputError(f"input_shape: expected (height, width, 3) in pixels, None for any size; received {shape}.")
    shape = tuple(None if n is None else int(n) for n in shape)
    return keras.Input(shape, name="image") if input_tensor is None else input_tensor
