import keras
import numpy as np
import pytest

import mixnet_tf
from mixnet_tf import build_model

OWN = ["r1_k3_a1_p1_s11_e1_i8_o8", "r2_k3.5_a1.1_p1_s22_e3_i8_o12_se0.5_sw"]
TINY_OVERRIDES = {"depth_multiplier": 0.13, "depth_divisor": 1}
FAULTS = {
    "model_name": [({"model_name": "mixnet-xl"}, "Unknown model 'mixnet-xl'"), ({}, "Give either model_name or")],
    "override_params": [({"model_name": "mixnet-s", "override_params": {"clases": 2}}, "Unknown override_params")],
    "blocks_args": [
        ({"model_name": "mixnet-s", "blocks_args": OWN}, "Give either model_name or blocks_args"),
        ({"blocks_args": []}, "at least one block string"),
        ({"blocks_args": OWN[0]}, "expected a list"),
        ({"blocks_args": [3]}, "block string"),
        ({"blocks_args": [OWN[0].replace("o8", "o12"), OWN[1]]}, "block_1 declares 8 input filters .* but 12"),
        ({"blocks_args": OWN, "override_params": {"stem_size": 4}}, "block_0 declares 8 input filters .* but 4"),
    ],
    "include_top": [({"model_name": "mixnet-s", "include_top": "no"}, "include_top: expected True or False")],
    "weights": [({"model_name": "mixnet-s", "override_params": TINY_OVERRIDES, "weights": 3}, "weights: expected")],
    "input_tensor": [
        ({"model_name": "mixnet-s", "input_tensor": np.zeros((1, 8, 8, 3))}, "input_tensor: expected a Keras tensor"),
        ({"model_name": "mixnet-s", "input_tensor": keras.Input((8, 8, 4))}, r"expected \(height, width, 3\)"),
    ],
    "input_shape": [
        ({"model_name": "mixnet-s", "input_shape": shape}, r"input_shape: expected \(height, width, 3\)")
        for shape in [(224, 224), (224, 224, 1), (0, 8, 3), (-8, 8, 3), (8.0, 8, 3), (3, 224, 224), 224, ("8", 8, 3)]
    ]
    + [({"model_name": "mixnet-s", "input_shape": (9, 8, 3), "input_tensor": keras.Input((8, 8, 3))}, "disagree")],
    "pooling": [
        ({"model_name": "mixnet-s", "pooling": "avg"}, "goes with include_top=False"),
        ({"model_name": "mixnet-s", "include_top": False, "pooling": "mean"}, "expected None, 'avg' or 'max'"),
        ({"model_name": "mixnet-s", "include_top": False, "pooling": ["avg"]}, "expected None, 'avg' or 'max'"),
    ],
    "classes": [({"model_name": "mixnet-s", "classes": n}, "classes: expected") for n in (0, -1, 2.0, "10", True)]
    + [({"model_name": "mixnet-s", "classes": 3, "override_params": {"num_classes": 4}}, "disagree; give one")],
    "classifier_activation": [
        ({"model_name": "mixnet-s", "override_params": TINY_OVERRIDES, "classifier_activation": "sofmax"}, "sofmax")
    ],
    "include_preprocessing": [
        ({"model_name": "mixnet-s", "include_preprocessing": None}, "include_preprocessing: expected True or False")
    ],
    "name": [({"model_name": "mixnet-s", "override_params": TINY_OVERRIDES, "name": 3}, "`name` must be a string")],
}


def test_every_argument_of_build_model_has_a_value_that_is_refused():
    code = build_model.__code__
    assert set(FAULTS) == set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


@pytest.mark.parametrize("arguments, message", [case for cases in FAULTS.values() for case in cases])
def test_an_argument_that_cannot_be_is_refused_with_its_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(**arguments)


def test_an_unknown_activation_is_refused_by_its_name():
    with pytest.raises(ValueError, match="swisch"):
        build_model("mixnet-s", {**TINY_OVERRIDES, "activation": "swisch"})


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="set_image_data_format\\('channels_last'\\)"):
            mixnet_tf.MixNetS()
    finally:
        keras.config.set_image_data_format("channels_last")
