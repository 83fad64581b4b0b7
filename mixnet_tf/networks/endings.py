"""The end of a model: whether it outputs logits or probabilities, and of which classes."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from mixnet_tf.class_names import checked_names
from mixnet_tf.networks.class_layers import Concatenate, Dense
from mixnet_tf.networks.names import layer_name
from mixnet_tf.networks.operations import is_model, origin

_TO_PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)
_OLD = ((keras.layers.Dense, layer_name("head", "dense")), (keras.layers.Concatenate, "logits"))
# Layers that may follow a classifier: they do not change the classes.
_LEAVE_CLASSES = (keras.layers.Activation, keras.layers.Softmax, keras.layers.Identity)


class _WithoutActivation(keras.layers.Layer):
    """A dense layer without its activation, on the same variables."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        x = keras.ops.matmul(keras.ops.cast(inputs, self.layer.compute_dtype), self.layer.kernel)
        return x if self.layer.bias is None else keras.ops.add(x, self.layer.bias)


def _outputs(model):
    """The outputs of a functional or sequential model; an empty list for a subclassed model."""
    return getattr(model, "outputs", None) or []


def last_operation(model: keras.Model) -> Any:
    """The operation that computes a model's first output; it may be inside a nested model."""
    operation, _ = origin(model.outputs[0])
    return last_operation(operation) if is_model(operation) else operation


def gives_probabilities(operation: Any) -> bool:
    """Whether an operation is a softmax or sigmoid, or a layer with one of them as its activation."""
    is_operation = type(operation).__name__ in ("Softmax", "Sigmoid")  # of a layer, or of keras.ops
    return is_operation or getattr(operation, "activation", None) in _TO_PROBABILITIES


def logits_model(model: keras.Model) -> keras.Model:
    """Returns the model without its final softmax or sigmoid; the same model if it has neither.

    Classes are ranked by logits, because probabilities may underflow to the same 0 or round to the same 1.

    Args:
        model: A Keras model with one output. It may end in a nested model, in `keras.layers.Softmax`, or in a dense
            layer with the activation.

    Returns:
        A `keras.Model` with the same variables and inputs.
    """
    if len(_outputs(model)) != 1:
        return model
    last, call = origin(model.outputs[0])
    inputs = call.input_tensors
    if is_model(last):
        inner = logits_model(last)
        return model if inner is last else _ending_in(model, inner(*inputs))
    if not gives_probabilities(last):
        return model
    if isinstance(last, keras.layers.Dense):
        return _ending_in(model, _WithoutActivation(last)(inputs[0]))
    is_softmax_alone = isinstance(last, keras.layers.Activation) or not hasattr(last, "activation")
    return _ending_in(model, inputs[0]) if is_softmax_alone else model


def with_logits(model: keras.Model) -> Callable[..., tuple[Any, Any]]:
    """Returns a function that is called like the model and returns (logits, the model's output)."""
    logits = logits_model(model)
    if logits is not model:
        both = _ending_in(model, [logits.outputs[0], model.outputs[0]])
        return lambda images, training=False: tuple(both(images, training=training))

    def twice(images, training=False):
        answers = model(images, training=training)
        return answers, answers

    return twice


def _ending_in(model, outputs):
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return keras.Model(inputs, outputs, name=f"{model.name}_logits")  # another name, as both may be in one model


def class_names(model: keras.Model) -> tuple[str, ...] | None:
    """The names of a model's classes in order; None if it has none, for example if its head is not ours.

    Args:
        model: A classifier, or a detector.
    """
    layer = _naming_layer(model)
    return getattr(layer, "class_names", None)


def name_classes(model: keras.Model, names: Sequence[str] | None) -> None:
    """Names the classes of a model that ends in our classifier or detector; other models stay without names.

    Args:
        model: A classifier, or a detector.
        names: A name for each class; None: not known.

    Raises:
        ValueError: If there are more or fewer names than classes, or if a name is empty or has a line break.
    """
    layer = _naming_layer(model)
    if layer is None:
        return
    is_detectors = isinstance(layer, keras.layers.Concatenate)  # class 0 is the background
    classes = layer.output.shape[-1] - is_detectors
    layer.class_names = None if names is None else checked_names(names, "class_names", classes)


def _naming_layer(model):
    """Our layer that stores the class names of the model's output, also as versions up to 0.2.0 wrote it."""
    for output in _outputs(model):
        layer, call = origin(output)
        while isinstance(layer, _LEAVE_CLASSES):
            layer, call = origin(call.input_tensors[0])
        if is_model(layer):
            layer = _naming_layer(layer)
        if isinstance(layer, Dense | Concatenate) or (layer is not None and (type(layer), layer.name) in _OLD):
            return layer
    return None
