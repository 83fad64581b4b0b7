"""Prepares the Keras model to export: float32, fixed image size, up to its logits or probabilities."""

import keras

from mixnet_tf.errors import InputError
from mixnet_tf.networks import gives_probabilities, last_operation, logits_model, steps, taking_pixels

OUTPUTS = ("probabilities", "logits")


def target_model(model: keras.Model, output: str = "probabilities") -> keras.Model:
    """Returns a float32 Keras model with the outputs to export.

    Args:
        model: A functional or sequential `keras.Model`. If it has mixed precision, it is rebuilt in float32 with the
            same weights. If it takes normalized images, `Preprocessing` is added in front.
        output: "probabilities": the model's output. "logits": the input of the softmax or sigmoid that it ends in.

    Returns:
        A `keras.Model` of the same name.

    Raises:
        ValueError: If `output` is unknown, if it is "probabilities" and the model ends in logits, if it is "logits" and
            the model does not end in an activation, or if the model's input is not one square image of a fixed size.
    """
    if output not in OUTPUTS:
        raise InputError(f"output: expected one of {OUTPUTS}; received {output!r}.")
    shape = model.input_shape
    if len(model.inputs) != 1 or len(shape) != 4 or None in shape[1:] or shape[1] != shape[2] or shape[3] != 3:
        raise InputError(f"The export needs a fixed square RGB input; model {model.name!r} takes {shape}.")
    model = taking_pixels(model)
    if any(step.compute_dtype != "float32" for step in steps(model) if isinstance(step, keras.layers.Layer)):
        model = _in_float32(model)
    last = last_operation(model)
    is_linear = isinstance(last, keras.layers.Activation) and last.activation is keras.activations.linear
    if output == "probabilities":
        if is_linear:
            raise InputError(f"Model {model.name!r} ends in logits; export output='logits', or give it a softmax.")
        return model
    if gives_probabilities(last):
        return keras.Model(model.inputs[0], logits_model(model).outputs[0], name=model.name)
    if not is_linear:
        raise InputError(f"Model {model.name!r} does not end in an activation layer, whose input would be the logits.")
    return model


def _in_float32(model):
    def clone(layer):
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    rebuilt = keras.models.clone_model(model, clone_function=clone, recursive=True)
    rebuilt.set_weights(model.get_weights())
    return rebuilt
