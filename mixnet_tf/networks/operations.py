"""A Keras model's operations in their order, those of the models inside it included."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from mixnet_tf.errors import InputError


def walk(model: keras.Model, inputs: list, apply: Callable[[Any, list], Any]) -> list:
    """Computes a model with a given function for each operation.

    Args:
        model: A functional or sequential `keras.Model`; models inside it have one output.
        inputs: A list of values, one per input of the model.
        apply: A function (operation, list of values) to a value; a model inside the model is never given to it, its
            operations are.

    Returns:
        The values of the model's outputs.

    Raises:
        ValueError: For an operation that the model uses twice.
    """
    if isinstance(model, keras.Sequential):
        return [functools.reduce(lambda value, layer: _step(layer, [value], apply), model.layers, inputs[0])]
    values = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    for step in model.operations:
        if isinstance(step, keras.layers.InputLayer):
            continue
        if any(id(tensor) not in values for tensor in inputs_of(step)):
            # `input` and `output` are those of a layer's first call.
            raise InputError(f"Layer {step.name!r} or one before it is used more than once; the export takes one use.")
        values[id(step.output)] = _step(step, [values[id(tensor)] for tensor in inputs_of(step)], apply)
    return [values[id(tensor)] for tensor in model.outputs]


def _step(step, inputs, apply):
    return walk(step, inputs, apply)[0] if is_model(step) else apply(step, inputs)


def steps(model: keras.Model) -> Iterator[Any]:
    """The operations of a model and of the models inside it, each behind those that it depends on."""
    for step in model.layers if isinstance(model, keras.Sequential) else model.operations:
        if is_model(step):
            yield from steps(step)
        elif not isinstance(step, keras.layers.InputLayer):
            yield step


def models(model: keras.Model) -> Iterator[keras.Model]:
    """A model and the models inside it, the outer ones first."""
    yield model
    for layer in model.layers:
        if is_model(layer):
            yield from models(layer)


def inputs_of(step: Any) -> list:
    """The symbolic inputs of an operation, a list."""
    return keras.tree.flatten(step.input)


def call(step: Any, tensors: list) -> Any:
    """An operation as Keras computes it in inference."""
    return keras.Function(inputs_of(step), step.output)(tensors)


def is_model(step: Any) -> bool:
    """Whether an operation is a functional or sequential model, whose operations `steps` gives in its place."""
    return isinstance(step, keras.Sequential) or hasattr(step, "operations")
