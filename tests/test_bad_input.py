"""Bad input to the public API, a row per case: a clear error, and nothing changed. The scripts' are in test_cli.py."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf import BlockArgs, GroupedConv2D, MixConv, MixnetDecoder, build_model

OWN = ["r1_k3_a1_p1_s11_e1_i8_o8", "r2_k3.5_a1.1_p1_s22_e3_i8_o12_se0.5_sw"]
TINY_OVERRIDES = {"depth_multiplier": 0.13, "depth_divisor": 1}
# The arguments of build_model, and so of MixNetS, M and L.
FAULTS = {
    "model_name": [({"model_name": "mixnet-xxl"}, "Unknown model 'mixnet-xxl'"), ({}, "Give either model_name or")],
    "override_params": [
        ({"model_name": "mixnet-s", "override_params": {"clases": 2}}, "Unknown override_params"),
        ({"model_name": "mixnet-s", "override_params": ["num_classes"]}, "override_params: expected a dict"),
        ({"model_name": "mixnet-s", "override_params": {"activation": "swisch"}}, "'mish'; got 'swisch'"),
    ],
    "blocks_args": [
        ({"model_name": "mixnet-s", "blocks_args": OWN}, "Give either model_name or blocks_args"),
        ({"blocks_args": []}, "at least one block string"),
        ({"blocks_args": OWN[0]}, "expected a list"),
        ({"blocks_args": [3]}, "block string"),
        ({"blocks_args": [OWN[0].replace("o8", "o12"), OWN[1]]}, "block_1 declares 8 input filters .* but 12"),
        ({"blocks_args": OWN, "override_params": {"stem_size": 4}}, "block_0 declares 8 input filters .* but 4"),
    ],
    "kernel_size": [
        ({"model_name": "mixnet-s", "kernel_size": size}, "kernel_size: expected odd positive ints")
        for size in (4, 0, [], [3, 2], "3")
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
    "class_names": [
        ({"model_name": "mixnet-s", "classes": 3, "class_names": ["a", "b"]}, "class_names: expected 3 names"),
        ({"model_name": "mixnet-s", "class_names": "ab"}, "class_names: expected a list of names"),
        (
            {"model_name": "mixnet-s", "class_names": ["a", "b\n"]},
            "class 1 is named 'b.n'; expected a name of one line",
        ),
        ({"model_name": "mixnet-s", "class_names": ["a"], "include_top": False}, "class_names needs include_top=True"),
    ],
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


_FILE, _VALUE, _TYPE = FileNotFoundError, ValueError, TypeError
_BLOCK = BlockArgs(dw_ksize=(3,), expand_ksize=(1,), project_ksize=(1,), num_repeat=1, input_filters=8,
                   output_filters=8, expand_ratio=1)  # fmt: skip
# Each public name: calls with what the fixture `given` holds, the error, and words of its message.
CALLS = {
    "BlockArgs": [
        (lambda g: build_model(blocks_args=[_BLOCK._replace(dw_ksize=(4,))]), _VALUE, "expected odd positive ints"),
        (lambda g: build_model(blocks_args=[_BLOCK._replace(strides=(1, 2))]), _VALUE, "two equal positive ints"),
        (lambda g: build_model(blocks_args=[_BLOCK._replace(dw_ksize=(3,) * 9)]), _VALUE, "8 channels cannot be split"),
    ],
    "GlobalParams": [
        (lambda g: mixnet_tf.get_model_params("mixnet-s", {"num_classes": 0}), _VALUE, "a whole number from 1"),
        (lambda g: mixnet_tf.get_model_params("mixnet-s", {"dropout_rate": 1.0}), _VALUE, "from 0 to below 1"),
    ],
    "GroupedConv2D": [
        (lambda g: GroupedConv2D(0, 3), _VALUE, "filters: expected a whole number from 1"),
        (lambda g: GroupedConv2D("8", 3), _VALUE, "filters: expected a whole number from 1"),
        (lambda g: GroupedConv2D(8, None), _VALUE, "expected odd positive ints"),
        (lambda g: GroupedConv2D(8, 1)(tf.zeros((2, 8, 8))), _VALUE, "expected ndim=4, found ndim=3"),
    ],
    "MixConv": [
        (lambda g: MixConv([]), _VALUE, "expected odd positive ints"),
        (lambda g: MixConv([3, "5"]), _VALUE, "expected odd positive ints"),
        (lambda g: MixConv(3, strides="2"), _VALUE, "strides: expected two equal positive ints"),
        (lambda g: MixConv(3, strides=0), _VALUE, "strides: expected two equal positive ints"),
        (lambda g: MixConv([1, 3], dilated=True), _VALUE, "kernel sizes from 3"),
        (lambda g: MixConv([3] * 4)(tf.zeros((1, 8, 8, 3))), _VALUE, "3 channels cannot be split into 4 groups"),
        (lambda g: MixConv(3)(tf.zeros((8, 8, 3))), _VALUE, "expected ndim=4, found ndim=3"),
    ],
    "MixNetXL": [(lambda g: mixnet_tf.MixNetXL(weights="none.keras"), _FILE, "there is no file none.keras")],
    "MixNetL": [(lambda g: mixnet_tf.MixNetL(weights="none.keras"), _FILE, "there is no file none.keras")],
    "MixNetM": [(lambda g: mixnet_tf.MixNetM(clases=3), _TYPE, "unexpected keyword argument 'clases'")],
    "MixNetS": [
        (lambda g: mixnet_tf.MixNetS(weights=g.other), _VALUE, "does not fit model 'mixnet-s'"),
        (lambda g: mixnet_tf.MixNetS(classes=10, weights="imagenet"), _VALUE, "needs classes=1000, received 10"),
    ],
    "MobileNetV1": [
        (lambda g: mixnet_tf.MobileNetV1(kernel_size=4), _VALUE, "expected odd positive ints"),
        (lambda g: mixnet_tf.MobileNetV1(weights="imagenet"), _VALUE, "none of .*'mixnet-l'"),
    ],
    "MobileNetV2": [(lambda g: mixnet_tf.MobileNetV2(kernel_size=()), _VALUE, "expected odd positive ints")],
    "MixnetDecoder": [
        (lambda g: MixnetDecoder.decode("r1_k3_a1_p1_s11_e1_i8_o8"), _VALUE, "Expected a list of block strings"),
        (lambda g: MixnetDecoder.decode(3), _VALUE, "Expected a list of block strings"),
        (lambda g: MixnetDecoder.decode([3]), _VALUE, "A block string is a str"),
        (lambda g: MixnetDecoder.decode(["r1_k4_a1_p1_s11_e1_i8_o8"]), _VALUE, "expected odd kernel sizes"),
        (lambda g: MixnetDecoder.encode(["r1_k3_a1_p1_s11_e1_i8_o8"]), _VALUE, "Expected a list of BlockArgs"),
    ],
    "build_model": [(lambda g: build_model("mixnet-s", {"feature_size": -1}), _VALUE, "a whole number from 1")],
    "SSDLite": [
        (lambda g: mixnet_tf.SSDLite("mixnet-s", 0), _VALUE, "classes: expected a whole number from 1"),
        (lambda g: mixnet_tf.SSDLite("mixnet-xxl", 3), _VALUE, "Unknown model 'mixnet-xxl'"),
        (lambda g: mixnet_tf.SSDLite("mixnet-s", 3, (320, 300, 3)), _VALUE, r"expected \(size, size, 3\)"),
        (lambda g: mixnet_tf.SSDLite("mixnet-s", 3, 320), _VALUE, r"expected \(size, size, 3\)"),
        (lambda g: mixnet_tf.SSDLite("mixnet-s", 3, weights="a", backbone_weights="b"), _VALUE, "leave out backbone_w"),
        (lambda g: mixnet_tf.SSDLite(g.whole, 3, (64, 64, 3)), _VALUE, "takes images of .*32, 3.*; input_shape is"),
        (lambda g: mixnet_tf.SSDLite(g.whole, 3, (32, 32, 3), kernel_size=3), _VALUE, "not with a model"),
    ],
    "decode_predictions": [
        (lambda g: mixnet_tf.decode_predictions(np.zeros((1, 10))), _VALUE, r"expected \(batch, 1000\)"),
        (lambda g: mixnet_tf.decode_predictions(np.zeros(1000)), _VALUE, r"expected \(batch, 1000\)"),
        (lambda g: mixnet_tf.decode_predictions(np.zeros((1, 1000)), top=0), _VALUE, "expected top from 1 to 1000"),
    ],
    "detect": [
        (lambda g: mixnet_tf.detect(g.whole, np.zeros((1, 32, 32, 3))), _VALUE, "Expected an SSDLite of mixnet_tf"),
        (lambda g: mixnet_tf.detect("mixnet-s", np.zeros((1, 32, 32, 3))), _VALUE, "Expected an SSDLite of mixnet_tf"),
        (lambda g: mixnet_tf.detect(g.detector, np.zeros((1, 32, 32, 3))), _VALUE, r"expected \(batch, 64, 64, 3\)"),
    ],
    "endpoints": [
        (lambda g: mixnet_tf.endpoints(keras.Sequential()), _VALUE, "is not a MixNet of mixnet_tf"),
        (lambda g: mixnet_tf.endpoints("mixnet-s"), _VALUE, "Expected a MixNet of mixnet_tf, received 'mixnet-s'"),
    ],
    "features_model": [
        (lambda g: mixnet_tf.features_model(g.model, "reduction_1"), _VALUE, "names: expected a list of endpoints"),
        (lambda g: mixnet_tf.features_model(g.model, []), _VALUE, "names: expected a list of endpoints"),
        (lambda g: mixnet_tf.features_model(g.model, ["reduction_6"]), _VALUE, "has no endpoints"),
        (lambda g: mixnet_tf.features_model(None), _VALUE, "Expected a MixNet of mixnet_tf"),
    ],
    "get_model_params": [
        (lambda g: mixnet_tf.get_model_params("mixnet-xs"), _VALUE, "expected one of .*'mixnet-l'"),
        (lambda g: mixnet_tf.get_model_params("mixnet-s", 3), _VALUE, "override_params: expected a dict"),
        (lambda g: mixnet_tf.get_model_params("mixnet-s", {"depth": 2}), _VALUE, "allowed are"),
    ],
    "list_models": [(lambda g: mixnet_tf.list_models("mixnet-s"), _TYPE, "takes 0 positional arguments")],
    "list_weights": [
        (lambda g: mixnet_tf.list_weights("mixnet-xs"), _VALUE, "model_name: expected one of .*received 'mixnet-xs'"),
        (lambda g: mixnet_tf.list_weights(["mixnet-s"]), _VALUE, "model_name: expected one of"),
    ],
    "load_official_checkpoint": [
        (lambda g: mixnet_tf.load_official_checkpoint(g.model, g.missing), _FILE, "No checkpoint at"),
        (lambda g: mixnet_tf.load_official_checkpoint(g.model, g.folder), _FILE, "give the checkpoint's prefix"),
        (lambda g: mixnet_tf.load_official_checkpoint(g.model, g.text), _VALUE, "cannot be read as a TensorFlow"),
        (lambda g: mixnet_tf.load_official_checkpoint(g.model, g.foreign), _VALUE, "not MixNet's:\n  global/w"),
        (lambda g: mixnet_tf.load_official_checkpoint(g.model, g.raw), _VALUE, "use_ema=False reads the raw weights"),
        (lambda g: mixnet_tf.load_official_checkpoint("mixnet-s", g.raw, False), _VALUE, "Expected a MixNet"),
        (lambda g: mixnet_tf.load_official_checkpoint(g.model, 3), _TYPE, "not int"),
    ],
    "load_timm_weights": [
        (lambda g: mixnet_tf.load_timm_weights(g.model, "tf_mixnet_s.pth"), _VALUE, "expected a .safetensors or .npz"),
        (lambda g: mixnet_tf.load_timm_weights(g.model, "tf_mixnet_s.npz"), _FILE, "no file tf_mixnet_s.npz"),
        (lambda g: mixnet_tf.load_timm_weights(g.model, g.text + ".npz"), _VALUE, "cannot be read as a .npz file"),
        (lambda g: mixnet_tf.load_timm_weights(g.model, g.timms_own), _VALUE, "of a network with padding='symmetric'"),
    ],
    "multiply_adds": [
        (lambda g: mixnet_tf.multiply_adds(keras.Sequential()), _VALUE, "is not a MixNet"),
        (lambda g: mixnet_tf.multiply_adds(g.model, 0), _VALUE, "image_size: expected a whole number"),
        (lambda g: mixnet_tf.multiply_adds(g.model, (224, 224)), _VALUE, "image_size: expected a whole number"),
    ],
    "preprocess_input": [
        (lambda g: mixnet_tf.preprocess_input(np.zeros((2, 8, 8, 1))), _VALUE, r"received \(2, 8, 8, 1\)"),
        (lambda g: mixnet_tf.preprocess_input("image.jpg"), _VALUE, "expected numbers"),
        (lambda g: mixnet_tf.preprocess_input(None), _VALUE, "expected numbers"),
    ],
    "ExportOptions": [
        (lambda g: mixnet_tf.ExportOptions(formats=("fp8",)).check(), _VALUE, "formats: expected some of"),
        (
            lambda g: mixnet_tf.ExportOptions(batch_size=-1).check(),
            _VALUE,
            "batch_size: expected a whole number from 0",
        ),
    ],
    "export_model": [
        (
            lambda g: mixnet_tf.export_model(g.model, g.folder, np.zeros((1, 8, 8, 3))),
            _VALUE,
            "needs a fixed square RGB",
        ),
        (lambda g: mixnet_tf.export_model(g.whole, g.folder, np.zeros((1, 9, 8, 3))), _VALUE, "takes 32x32 RGB images"),
    ],
    "train": [
        (lambda g: mixnet_tf.train(g.folder, g.folder, "mixnet-xs"), _VALUE, "Unknown model"),
        (lambda g: mixnet_tf.train(g.folder, g.folder, recipe=3), _VALUE, "recipe: expected a Recipe or one of"),
        (lambda g: mixnet_tf.train(g.folder, g.folder, epochs=3), _VALUE, "Unknown fields"),
    ],
    "load_weights": [
        (lambda g: mixnet_tf.load_weights(g.model, g.text + ".keras"), _VALUE, "is not a readable file of Keras 3"),
        (
            lambda g: mixnet_tf.load_weights(g.model, g.text + ".weights.h5"),
            _VALUE,
            "is not a readable file of Keras 3",
        ),
        (lambda g: mixnet_tf.load_weights(g.model, "x.h5"), _VALUE, "save it again with Keras 3"),
        (lambda g: mixnet_tf.load_weights(g.model, ["x.keras"]), _VALUE, "weights: expected 'imagenet', or the path"),
    ],
}


def test_every_public_name_has_a_call_that_is_refused():
    assert {*CALLS, "list_models"} == set(mixnet_tf.__all__)  # this one takes no argument


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, and files that are not what a loader takes."""
    folder = tmp_path_factory.mktemp("bad")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(folder / "other.keras")
    for name in ("text.index", "text.npz", "text.keras", "text.weights.h5"):
        (folder / name).write_text("not weights")
    np.savez(folder / "mixnet_xl.npz", **{"conv_stem.weight": np.zeros((1, 1, 1, 1))})
    raw = tiny.read_checkpoint(tiny.GOLDEN / "train-s" / "init.ckpt")
    return types.SimpleNamespace(
        detector=mixnet_tf.SSDLite("mixnet-s", 3, (64, 64, 3), override_params=TINY_OVERRIDES),
        model=tiny.build_tiny(),
        whole=tiny.build_tiny(input_shape=(32, 32, 3), classifier_activation="softmax"),
        folder=str(folder),
        missing=str(folder / "none"),
        other=str(folder / "other.keras"),
        text=str(folder / "text"),
        timms_own=str(folder / "mixnet_xl.npz"),
        raw=tiny.write_checkpoint(folder / "raw", raw),
        foreign=tiny.write_checkpoint(folder / "foreign", {"global/w": np.zeros(1, "float32")}),
    )


@pytest.mark.parametrize("call, error, message", [case for cases in CALLS.values() for case in cases])
def test_a_call_that_cannot_be_is_refused_with_its_reason_and_changes_nothing(call, error, message, given):
    with tiny.refusal(given.model, error, message):
        call(given)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="set_image_data_format\\('channels_last'\\)"):
            mixnet_tf.MixNetS()
    finally:
        keras.config.set_image_data_format("channels_last")
