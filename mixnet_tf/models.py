"""A network with its weights as a Keras model: where `networks` and `weights` meet."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.class_names import checked_names
from mixnet_tf.errors import InputError, is_count
from mixnet_tf.files import StrPath
from mixnet_tf.networks import (
    POOLINGS,
    BlockArgs,
    Preprocessing,
    backbone,
    classifier,
    network_name,
    pooled,
    stages_and_params,
)


def preprocess_input(images: Any) -> tf.Tensor:
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
    return Preprocessing(dtype="float32")(images)


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
    """A MixNet as a functional Keras model.

    Args:
        model_name: "mixnet-s", "mixnet-m", "mixnet-l", "mobilenet-v1", "mobilenet-v2", or the path of a network file;
            or else give `blocks_args`.
        override_params: Dict of `GlobalParams` fields to replace, such as `dropout_rate`.
        blocks_args: List of block strings, or of `BlockArgs`, of a network of your own. Its stem
            has as many filters as its first block takes, unless `stem_size` is overridden.
        kernel_size: Odd ints, pixels, one channel group per entry, in place of the kernels of every depthwise
            convolution; None: the network's own.
        include_top: Whether to end in dropout and a classifier over `classes`. If not, the model
            ends after the head's convolution.
        weights: None for random ones, or what `mixnet_tf.load_weights` takes: "imagenet" for
            Google's published ones, a `.keras` or `.weights.h5` file, an official checkpoint, or a
            `.safetensors` or `.npz` file of timm's tf_mixnet.
        input_tensor: A Keras tensor to build on, in place of a new input.
        input_shape: (height, width, 3), None where any size will do; None for (None, None, 3).
        pooling: Without the top: None, "avg" or "max" over space.
        classes: Number of classes; None for `num_classes` of the parameters, 1000, or one for each of `class_names`.
        class_names: A name for each class, kept in the `.keras` file, by which datasets' classes are found among the
            model's; None: not known, or those that come with `weights`. Of ImageNet the names are its WordNet ids.
        classifier_activation: Keras activation after the classifier; None for logits. Always
            computed in float32.
        include_preprocessing: Whether the input is RGB in [0, 255], normalized by the model itself.
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
    stages, params = stages_and_params(model_name, blocks_args, override_params, kernel_size)
    if class_names is not None:
        if not include_top:
            raise InputError("class_names go with include_top=True: without the top there are no classes.")
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
            f"pooling={pooling!r} goes with include_top=False; with the top the model always pools by mean."
        )
    if pooling not in list(POOLINGS):
        raise InputError(f"pooling: expected None, 'avg' or 'max'; received {pooling!r}.")
    inputs = _input(input_tensor, input_shape)

    features = backbone(inputs, stages, params, include_preprocessing)
    if include_top:
        outputs = classifier(features, params, classifier_activation, class_names)
    else:
        outputs = pooled(features, pooling)
    sources = keras.utils.get_source_inputs(inputs)
    # Not a list of one, which Keras would warn about at each call with a plain tensor.
    model = keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name or network_name(model_name))
    if weights is not None:
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


def MixNetS(
    *,
    override_params: dict[str, Any] | None = None,
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
    """MixNet-S as a Keras model; see `build_model` for the arguments.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.MixNetS(include_top=False, pooling="avg")
        >>> model.output_shape
        (None, 1536)
    """
    return build_model("mixnet-s", **locals())


def MixNetM(
    *,
    override_params: dict[str, Any] | None = None,
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
    """MixNet-M as a Keras model; see `build_model` for the arguments, and `MixNetS` for an example."""
    return build_model("mixnet-m", **locals())


def MixNetL(
    *,
    override_params: dict[str, Any] | None = None,
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
    """MixNet-L as a Keras model; see `build_model` for the arguments, and `MixNetS` for an example."""
    return build_model("mixnet-l", **locals())


def MobileNetV1(
    *,
    kernel_size: int | Sequence[int] | None = None,
    override_params: dict[str, Any] | None = None,
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
    """MobileNetV1 with any kernels as a Keras model; see `build_model` for the arguments.

    Without overrides it computes what `keras.applications.MobileNet` computes, but for its input, which is normalized
    as MixNet's.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.MobileNetV1(kernel_size=(3, 5, 7), input_shape=(96, 96, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    return build_model("mobilenet-v1", **locals())


def MobileNetV2(
    *,
    kernel_size: int | Sequence[int] | None = None,
    override_params: dict[str, Any] | None = None,
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
    """MobileNetV2 with any kernels as a Keras model; see `build_model` for the arguments.

    Without overrides it computes what `keras.applications.MobileNetV2` computes, but for its input, which is normalized
    as MixNet's, and the official code's dropout before the classifier.
    """
    return build_model("mobilenet-v2", **locals())
