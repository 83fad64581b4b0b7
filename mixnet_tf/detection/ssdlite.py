"""SSDLite: a backbone, four more feature maps after it, and predictors of boxes and classes on each map."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mixnet_tf.class_names import checked_names
from mixnet_tf.detection.anchors import anchor_boxes, shapes_at_a_position
from mixnet_tf.errors import InputError, is_count
from mixnet_tf.files import StrPath
from mixnet_tf.models import build_model
from mixnet_tf.networks import (
    Activation,
    BatchNormalization,
    Concatenate,
    GroupedConv2D,
    MixConv,
    check_dtype_policy,
    is_block,
    parts,
)
from mixnet_tf.weights import load_weights

_EXTRA_MAPS = (512, 256, 256, 128)  # channels
_MAPS = 2 + len(_EXTRA_MAPS)
_STRIDE = 32  # stride of the second feature map, pixels
_CODES = 4  # coordinates of a box
_CLASS_BIAS = -4.6  # the logit of 1%: at first almost no anchor is an object. Source: arXiv:1708.02002, section 4.1
_BOXES, _LOGITS = "boxes", "logits"  # outputs, and the prefix of their layers' names


def SSDLite(
    backbone: StrPath | keras.Model,
    classes: int,
    input_shape: tuple[int, int, int] = (320, 320, 3),
    weights: StrPath | None = None,
    backbone_weights: StrPath | None = None,
    *,
    override_params: dict[str, Any] | None = None,
    kernel_size: int | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
) -> keras.Model:
    """An object detector as a functional Keras model.

    The first feature map is the input of the depthwise convolution of the first block with stride 32, the second is the
    network's last one, and four more follow, each of half the size. On each map, boxes and classes have separate
    predictors: a depthwise 3x3 convolution and a 1x1 convolution.

    Args:
        backbone: A network's name, the path of a network file, or a model from `build_model`, whose layers the
            detector then shares.
        classes: Number of classes, without the background.
        input_shape: (size, size, 3), pixels.
        weights: None for random weights, or a `.keras` or `.weights.h5` file of a detector like this.
        backbone_weights: Weights of the backbone alone, as for `mixnet_tf.load_weights`; their classifier is not used.
        override_params: Dict of `GlobalParams` fields to replace; not with a model as backbone.
        kernel_size: Depthwise kernel sizes, as for `build_model`; not with a model as backbone.
        class_names: A name for each class, stored in the `.keras` file; None: not known.
        name: Name of the Keras model; None: the network's name with `_ssdlite`.

    Returns:
        A `keras.Model` from images (RGB from 0 to 255) to a dict of float32 tensors: "boxes" (batch, anchors, 4),
        encoded relative to `anchors_of(model)`, and "logits" (batch, anchors, classes + 1), in which class 0 is the
        background. At 320 pixels there are 2,034 anchors.

    Raises:
        ValueError: If an argument is out of range, if the network has no block of stride 32, or if the weights do not
            fit.

    Example:
        >>> import mixnet_tf
        >>> model = mixnet_tf.SSDLite("mixnet-s", classes=80)
        >>> model.compute_output_shape((None, 320, 320, 3))["logits"]
        (None, 2034, 81)

    Source: arXiv:1801.04381, section 6.2; tensorflow/models,
    object_detection/models/feature_map_generators.py:multi_resolution_feature_maps,
    object_detection/predictors/heads/box_head.py, class_head.py.
    """
    if not is_count(classes):
        raise InputError(f"classes: expected a whole number from 1, received {classes!r}.")
    classes = int(classes)
    if class_names is not None:
        class_names = checked_names(class_names, "class_names", classes)
    if weights is not None and backbone_weights is not None:
        raise InputError("weights are the whole detector's, with its backbone; leave out backbone_weights.")
    check_dtype_policy()
    network = _network(backbone, input_shape, override_params, kernel_size)
    if backbone_weights is not None:
        load_weights(network, backbone_weights, skip_head=True)
    normalization = _normalization(network)
    first, second = _maps(network)
    maps = [first, second, *_extra_maps(second, normalization)]
    codes, logits = [], []
    for number, (features, shapes) in enumerate(zip(maps, shapes_at_a_position(_MAPS), strict=True)):
        codes.append(_predictor(features, f"{_BOXES}_{number}", len(shapes), _CODES, 0.0, normalization))
        logits.append(_predictor(features, f"{_LOGITS}_{number}", len(shapes), classes + 1, _CLASS_BIAS, normalization))
    outputs = {
        _BOXES: keras.layers.Concatenate(axis=1, dtype="float32", name=_BOXES)(codes),
        _LOGITS: Concatenate(axis=1, dtype="float32", name=_LOGITS, class_names=class_names)(logits),
    }
    model = keras.Model(network.input, outputs, name=name or f"{network.name}_ssdlite")
    if weights is not None:
        load_weights(model, weights)
    return model


def is_detector(model: object) -> bool:
    """Whether a model is an SSDLite of mixnet_tf."""
    return len(_predictors(model)) == _MAPS


def _predictors(model):
    """The last layer of each box predictor, from the finest feature map to the coarsest."""
    layers = {layer.name: layer for layer in model.layers} if isinstance(model, keras.Model) else {}
    names = (f"{_BOXES}_{number}_conv" for number in range(_MAPS))
    return [layers[name] for name in names if name in layers]


def class_predictors(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that output the logits of each feature map of a detector, from the finest to the coarsest.

    Raises:
        ValueError: If the model is no SSDLite of mixnet_tf.
    """
    map_shapes(model)  # raises
    return [model.get_layer(f"{_LOGITS}_{number}_conv") for number in range(_MAPS)]


def map_shapes(model: keras.Model) -> list[tuple[int, int]]:
    """(rows, columns) of each feature map of a detector, from the finest to the coarsest.

    Raises:
        ValueError: If the model is no SSDLite of mixnet_tf.
    """
    if not is_detector(model):
        raise InputError(f"Expected an SSDLite of mixnet_tf; received {getattr(model, 'name', model)!r}.")
    return [tuple(layer.output.shape[1:3]) for layer in _predictors(model)]


def classes_of(model: keras.Model) -> int:
    """The number of classes of a detector, without the background.

    Raises:
        ValueError: If the model is no SSDLite of mixnet_tf.
    """
    map_shapes(model)  # raises
    return model.get_layer(_LOGITS).output.shape[-1] - 1


def anchors_of(model: keras.Model) -> np.ndarray:
    """The anchors of a detector, in the order of its outputs.

    Args:
        model: An `SSDLite`.

    Returns:
        float32 (anchors, 4): y0, x0, y1, x1 as fractions of the image.

    Raises:
        ValueError: If the model is no SSDLite of mixnet_tf.
    """
    return anchor_boxes(map_shapes(model))


def _network(backbone, input_shape, override_params, kernel_size):
    """The network without its classifier, for square images of a fixed size."""
    shape = tuple(input_shape) if isinstance(input_shape, tuple | list) else input_shape
    valid = isinstance(shape, tuple) and len(shape) == 3 and shape[2] == 3 and shape[0] == shape[1]
    if not valid or not is_count(shape[0]):
        raise InputError(f"input_shape: expected (size, size, 3) in pixels, received {input_shape!r}.")
    shape = tuple(map(int, shape))
    if not isinstance(backbone, keras.Model):
        return build_model(backbone, override_params, kernel_size=kernel_size, include_top=False, input_shape=shape)
    if override_params is not None or kernel_size is not None:
        raise InputError("override_params and kernel_size go with a network's name, not with a model.")
    if backbone.input_shape[1:] != shape:
        raise InputError(f"The backbone takes images of {backbone.input_shape[1:]}; input_shape is {shape}.")
    return backbone


def _maps(network):
    """The first two feature maps: the input of the depthwise convolution with stride 32, and the last map."""
    by_part = parts(network)
    blocks = [part for part in by_part if is_block(part)]
    stride, strides = 2, [2]
    for part in blocks:
        mixconv = next(layer for layer in by_part[part] if isinstance(layer, MixConv))
        stride *= mixconv.strides[0]
        strides.append(stride)
        if stride == _STRIDE:
            break
    else:
        raise InputError(
            f"A detector needs a network with a block of stride {_STRIDE}; the stem and blocks of {network.name!r} "
            f"have {strides}."
        )
    head = [layer for layer in by_part.get("head", ()) if isinstance(layer, Activation)]
    return mixconv.input, (head or by_part[blocks[-1]])[-1].output


def _normalization(network):
    """The settings of the network's batch normalization, which the detector's has too."""
    layer = next(layer for layer in parts(network)["stem"] if isinstance(layer, BatchNormalization))
    return {"momentum": layer.momentum, "epsilon": layer.epsilon}


def _extra_maps(x, normalization):
    maps = []
    for number, channels in enumerate(_EXTRA_MAPS):
        name = f"extra_{number}"
        x = _convolution(x, channels // 2, f"{name}_reduce", normalization)
        x = _depthwise(x, f"{name}_depthwise", normalization, strides=2)
        x = _convolution(x, channels, f"{name}_expand", normalization)
        maps.append(x)
    return maps


def _predictor(features, name, anchors, values, bias, normalization):
    """Adds a predictor of `values` numbers per anchor: (batch, anchors of the map, values)."""
    x = _depthwise(features, f"{name}_depthwise", normalization)
    rows, columns = x.shape[1:3]
    x = keras.layers.Conv2D(
        anchors * values,
        1,
        padding="same",
        # Source: tensorflow/models, object_detection/samples/configs/ssdlite_mobilenet_v2_coco.config.
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.03),
        bias_initializer=keras.initializers.Constant(bias),
        name=f"{name}_conv",
    )(x)
    return keras.layers.Reshape((rows * columns * anchors, values), name=f"{name}_anchors")(x)


def _convolution(x, filters, name, normalization):
    x = GroupedConv2D(filters, 1, name=f"{name}_conv")(x)
    return _normalized(x, name, normalization)


def _depthwise(x, name, normalization, strides=1):
    x = MixConv(3, strides, name=f"{name}_conv")(x)
    return _normalized(x, name, normalization)


def _normalized(x, name, normalization):
    x = BatchNormalization(**normalization, name=f"{name}_bn")(x)
    return Activation("relu6", name=f"{name}_activation")(x)
