"""Small models, random values and golden data for several test files."""

import contextlib
import functools
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import mixnet_tf
from mixnet_tf import networks

GOLDEN = pathlib.Path(__file__).parent / "golden"
VARIANTS = ("mixnet-s", "mixnet-m", "mixnet-l")
# Both split channels unevenly, which no released variant does.
TINY = {
    "tiny-s": ("mixnet-s", {"depth_multiplier": 0.13, "depth_divisor": 1, "num_classes": 10, "feature_size": 24}),
    "tiny-m": ("mixnet-m", {"depth_multiplier": 0.11, "depth_divisor": 1, "num_classes": 7, "feature_size": 20}),
}

# A few blocks with all that a released network has: groups, uneven ones too, squeeze-and-excitation, both activations,
# repeats with a residual, strides 2 to 32.
SMALL = (
    "r1_k3_a1_p1_s22_e1_i6_o6",
    "r2_k3.5_a1.1_p1.1_s22_e3_i6_o7_se0.5_sw",
    "r1_k3.5.7_a1_p1_s22_e2_i7_o8_se0.25_sw",
    "r1_k3_a1.1_p1_s22_e2_i8_o8",
)

# A network file's content, of strides 2 to 32, as a detector needs.
DETECTOR_NETWORK = {
    "blocks": [
        "r1_k3_a1_p1_s22_e1_i8_o8",
        "r2_k3.5_a1.1_p1.1_s22_e3_i8_o8_se0.5_sw",
        "r2_k3_a1_p1_s22_e2_i8_o8",
        "r1_k3.5_a1_p1_s22_e2_i8_o8",
    ],
    "params": {"stem_size": 8, "feature_size": 16},
}


# A network file's content, of a single block, where any network will do.
SMALL_NETWORK = {"blocks": ["r1_k3.5_a1_p1_s22_e2_i8_o8_se0.5_sw"], "params": {"feature_size": 16}}


def write_small_network(path):
    """Writes the network file of `SMALL_NETWORK`."""
    pathlib.Path(path).write_text(json.dumps(SMALL_NETWORK))


def build_tiny(golden="tiny-s", **kwargs):
    """A MixNet of the golden data's width that outputs logits; `kwargs` are arguments of `build_model`."""
    model_name, overrides = TINY[golden]
    overrides = {**overrides, "num_classes": kwargs.get("classes", overrides["num_classes"])}
    return mixnet_tf.build_model(model_name, overrides, **{"classifier_activation": None, **kwargs})


def build_small(**kwargs):
    """The network of `SMALL`, which outputs logits of 10 classes; `kwargs` are arguments of `build_model`."""
    arguments = {"blocks_args": SMALL, "classes": 10, "classifier_activation": None, **kwargs}
    return mixnet_tf.build_model(None, {"feature_size": 24, **arguments.pop("override_params", {})}, **arguments)


@functools.cache
def released(model_name):
    """A full-size model at 224 px, built once per process; a test may give its weights any values."""
    return mixnet_tf.build_model(model_name, input_shape=(224, 224, 3))


@functools.cache
def listing(model_name):
    """The reference's variables, in the order of their creation, and endpoints for 2 images of 224 px."""
    return json.loads((GOLDEN / "names" / f"{model_name}.json").read_text())


def randomise(model, seed=0):
    """Assigns random values to all weights: with the defaults of batch normalization, swaps would not show."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.5, 1.5) if weight.name in ("gamma", "moving_variance") else (-0.5, 0.5)
        weight.assign(rng.uniform(low, high, weight.shape))


def normalize(model, images, assign):
    """Has `assign` set the weights of each batch normalization, given the layer and what reaches it for some images."""

    def apply(step, inputs):
        if isinstance(step, networks.BatchNormalization):
            assign(step, inputs[0].numpy())
        return networks.call(step, inputs)

    networks.walk(model, [tf.constant(images)], apply)


def values(model):
    """Copies of a model's weights."""
    return [weight.numpy() for weight in model.weights]


@contextlib.contextmanager
def refusal(model, error, message):
    """Expects that the `with` block raises `error` with `message`, and assigns no variable of the model."""
    assign, assigned = keras.Variable.assign, set()

    def note(variable, value):
        assigned.add(id(variable))
        return assign(variable, value)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(error, match=message):
        patch.setattr(keras.Variable, "assign", note)
        yield
    assert not assigned & {id(weight) for weight in model.weights}


def images(*shape, seed=0):
    """Random float32 images in [0, 255]."""
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def read_checkpoint(prefix):
    """The arrays in a checkpoint, by name."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def write_checkpoint(prefix, arrays):
    """Writes a TensorFlow 1 checkpoint of arrays by name, and returns its prefix."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.constant(array) for array in arrays.values()],
    )
    return str(prefix)
