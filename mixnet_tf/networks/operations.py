"""The operations of a Keras model in order, including those of nested models."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.networks.dropout import Dropout
from mixnet_tf.networks.names import is_mixnets


def walk(model: keras.Model, inputs: list, apply: Callable[[Any, list], Any]) -> list:
    """Computes a model by applying a function to each operation, except those that do nothing in inference.

    Args:
        model: A functional or sequential `keras.Model`; models may be nested in it to any depth.
        inputs: A list of values, one per input of the model.
        apply: A function from (operation, list of values) to a value. It gets the operations of nested models, never a
            nested model.

    Returns:
        The values of the model's outputs.

    Raises:
        ValueError: If the model uses an operation twice, or if an operation has several outputs.
    """
    found = set()
    for step in steps(model):
        if step in found:
            raise _used_twice(step, model)
        found.add(step)
    return _walk(model, inputs, apply)


def _walk(model, inputs, apply):
    if isinstance(model, keras.Sequential):
        return functools.reduce(lambda values, layer: _step(layer, values, apply), model.layers, inputs)
    values = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    calls = _calls(model)
    for step in model.operations:
        if step in calls:
            outputs = _step(step, [values[id(tensor)] for tensor in calls[step].input_tensors], apply)
            values |= zip(map(id, calls[step].output_tensors), outputs, strict=True)
    return [values[id(tensor)] for tensor in model.outputs]


def _step(step, inputs, apply):
    if is_model(step):
        return _walk(step, inputs, apply)
    if len(keras.tree.flatten(step.output)) > 1:
        raise InputError(f"Layer {step.name!r} has several outputs; expected one.")
    return inputs if is_idle(step) else [apply(step, inputs)]


def _calls(model):
    """Dict from each operation of a functional model to its call in this model.

    `operation.input` and `operation.output` do not help: they belong to the operation's first call anywhere or, for a
    model, to its construction.
    """
    calls: dict[Any, Any] = {}
    known, waiting = {id(tensor) for tensor in model.inputs}, list(model.outputs)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in known:
            continue
        step, call = origin(tensor)
        if calls.setdefault(step, call) is not call:
            raise _used_twice(step, model)
        known |= set(map(id, call.output_tensors))
        waiting.extend(call.input_tensors)
    return calls


def origin(tensor: Any) -> tuple[Any, Any]:
    """The operation (or nested model) that computes a Keras tensor, and its call, which has `input_tensors`."""
    step, place, _ = tensor._keras_history  # keras.utils.get_source_inputs uses it; there is no public way
    return step, step._inbound_nodes[place]


def _used_twice(step, model):
    return InputError(f"Layer {step.name!r} is used more than once in model {model.name!r}; expected one use of each.")


def steps(model: keras.Model) -> Iterator[Any]:
    """The operations of a model and its nested models; each comes after those that it depends on."""
    for step in model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", model.layers):
        if is_model(step):
            yield from steps(step)
        elif not isinstance(step, keras.layers.InputLayer):
            yield step


def foreign_steps(model: keras.Model) -> list[Any]:
    """The operations that are not layers of a MixNet and do something in inference."""
    return [step for step in steps(model) if not is_mixnets(step) and not is_idle(step)]


def models(model: keras.Model) -> Iterator[keras.Model]:
    """A model and its nested models, outer models first."""
    yield model
    for layer in model.layers:
        if is_model(layer):
            yield from models(layer)


def call(step: Any, tensors: list) -> Any:
    """Calls an operation as Keras does in inference, with `training=False`, whatever it was called with."""
    first = step._inbound_nodes[0]  # its other arguments; `tensors` are filled in
    args, kwargs = first.arguments.fill_in(
        {id(symbol): tensor for symbol, tensor in zip(first.input_tensors, tensors, strict=True)}
    )
    if "training" in inspect.signature(step.call).parameters:
        kwargs["training"] = False
    return _Inference(lambda: step(*args, **kwargs))(tensors, training=False)


class _Inference(keras.layers.Layer):
    """A context in which layers inside a layer are in inference, too, even if the layer does not tell them."""

    def __init__(self, compute):
        super().__init__(name="inference", dtype="float32", autocast=False)
        self._compute = compute

    def call(self, tensors, training=False):
        return self._compute()


def is_idle(step: Any) -> bool:
    """Whether an operation returns its input unchanged in inference, like dropout and random augmentation."""
    if isinstance(step, Dropout):
        return True
    if is_mixnets(step) or not isinstance(step, keras.layers.Layer) or step.weights:
        return False
    inputs, outputs = keras.tree.flatten(step.input), keras.tree.flatten(step.output)
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].shape != outputs[0].shape:
        return False
    [found], unchanged = inputs, []

    @tf.function(input_signature=[tf.TensorSpec(found.shape, found.dtype)], autograph=False)
    def computed(tensor):
        unchanged.append(call(step, [tensor]) is tensor)

    with tf.init_scope():  # even while a graph is traced
        computed.get_concrete_function()
    return unchanged == [True]


def is_model(step: Any) -> bool:
    """Whether an operation is a functional or sequential model, which `steps` replaces by its operations."""
    return isinstance(step, keras.Sequential) or hasattr(step, "operations")
