"""The released networks as functions, as `keras.applications` has them."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras

from mixnet_tf.files import StrPath
from mixnet_tf.models import build_model

_Function = TypeVar("_Function", bound=Callable)
_ARGUMENT = re.compile(r"^ {8}(\w+): .+(?:\n {12}.+)*", re.MULTILINE)  # in a docstring's section "Args"


def _documented(function: _Function) -> _Function:
    """A decorator that writes what `build_model` says of each of the function's arguments into its docstring."""
    words = {found[1]: found[0] for found in _ARGUMENT.finditer(build_model.__doc__ or "")}
    arguments = [words.get(name, "") for name in inspect.signature(function).parameters]
    about, example, lines = (function.__doc__ or "").rstrip().partition("    Example:")
    sections = [about.rstrip(), "    Args:\n" + "\n".join(arguments), "    Returns:\n        A `keras.Model`."]
    function.__doc__ = "\n\n".join([*sections, *([example + lines] if example else [])]) + "\n    "
    return function


@_documented
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
    """Instantiates MixNet-S, of 4.1 million parameters.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.MixNetS(include_top=False, pooling="avg")
        >>> model.output_shape
        (None, 1536)
    """
    return build_model(
        "mixnet-s",
        override_params=override_params,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        class_names=class_names,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
    )


@_documented
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
    """Instantiates MixNet-M, of 5.0 million parameters."""
    return build_model(
        "mixnet-m",
        override_params=override_params,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        class_names=class_names,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
    )


@_documented
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
    """Instantiates MixNet-L, of 7.3 million parameters."""
    return build_model(
        "mixnet-l",
        override_params=override_params,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        class_names=class_names,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
    )


@_documented
def MixNetXL(
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
    """Instantiates MixNet-XL, of 11.9 million parameters, timm's extension of the family.

    It pads symmetrically and normalizes with an epsilon of 1e-5, as the published weights were trained.

    Source: timm 1.0.31, models/efficientnet.py:mixnet_xl.
    """
    return build_model(
        "mixnet-xl",
        override_params=override_params,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        class_names=class_names,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
    )


@_documented
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
    """Instantiates MobileNetV1 with kernels of any size.

    Without overrides it computes what `keras.applications.MobileNet` computes, except that its input is normalized as
    MixNet's is.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.MobileNetV1(kernel_size=(3, 5, 7), input_shape=(96, 96, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    return build_model(
        "mobilenet-v1",
        kernel_size=kernel_size,
        override_params=override_params,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        class_names=class_names,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
    )


@_documented
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
    """Instantiates MobileNetV2 with kernels of any size.

    Without overrides it computes what `keras.applications.MobileNetV2` computes, except that its input is normalized as
    MixNet's is, and that there is dropout before the classifier, as in the official code.
    """
    return build_model(
        "mobilenet-v2",
        kernel_size=kernel_size,
        override_params=override_params,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        class_names=class_names,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        name=name,
    )
