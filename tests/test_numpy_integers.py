"""Numpy integers are accepted wherever ints are, and become ints."""

import json

import keras
import numpy as np
import pytest
import tiny

import mixnet_tf
from mixnet_tf.detection import classes_of
from mixnet_tf.errors import is_count
from mixnet_tf.export.postprocess import _value
from mixnet_tf.files import json_text
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import SqueezeExcite, count_parts, network_content, override_global_params, stages_and_params
from mixnet_tf.runs import RunConfig

_INTEGERS = [np.int64, np.int32, np.uint8]


@pytest.mark.parametrize("integer", _INTEGERS)
def test_a_layer_takes_numpy_integers_and_keeps_ints(integer):
    for layer in (
        mixnet_tf.GroupedConv2D(integer(8), (integer(3), integer(5))),
        mixnet_tf.GroupedConv2D(8, integer(3)),
        mixnet_tf.MixConv((integer(3), integer(5)), (integer(2), integer(2))),
        mixnet_tf.MixConv(integer(3), integer(2)),
        SqueezeExcite(integer(4)),
    ):
        layer(np.zeros((1, 8, 8, 4), np.float32))
        json.dumps(layer.get_config())  # has nothing of numpy


@pytest.mark.parametrize(
    "a, b, c", [_INTEGERS, *(pytest.param(*[integer] * 3, marks=pytest.mark.soak) for integer in _INTEGERS)]
)
def test_a_model_takes_numpy_integers(a, b, c, tmp_path):
    overrides = {"num_classes": a(7), "feature_size": c(24)}
    sizes = {"classes": b(7), "input_shape": (a(32), b(32), c(3)), "kernel_size": c(3)}
    model = tiny.build_small(override_params=overrides, **sizes)
    assert model.output_shape == (None, 7) and model.input_shape == (None, 32, 32, 3)
    for integer in _INTEGERS:
        assert mixnet_tf.multiply_adds(model, integer(64)) > mixnet_tf.multiply_adds(model)
    model.save(tmp_path / "a.keras")
    assert keras.models.load_model(tmp_path / "a.keras").output_shape == (None, 7)
    network = tiny.build_small(include_top=False, input_shape=(64, 64, 3))
    assert classes_of(mixnet_tf.SSDLite(network, a(3), (b(64), c(64), 3))) == 3


def test_parameters_become_pythons_own_and_a_network_file_holds_them():
    stages, params = stages_and_params("mixnet-s", None, {"stem_size": np.int64(16), "dropout_rate": np.float32(0.5)})
    assert type(params.stem_size) is int and type(params.dropout_rate) is float
    assert override_global_params(params, {"head": True}).head is True
    assert json.loads(json_text(network_content(stages, params)))["params"]["stem_size"] == 16
    assert count_parts(stages, params, np.int64(64)) == count_parts(stages, params, 64)
    block = stages[0]._replace(num_repeat=np.int64(2), output_filters=np.int64(16), dw_ksize=(np.int64(3),))
    assert mixnet_tf.MixnetDecoder.encode([block])[0].startswith("r2_k3_")


def test_a_run_with_numpy_numbers_in_its_recipe_is_written(tmp_path):
    recipe = RECIPES["digits"]._replace(train_batch_size=np.int64(8), weight_decay=np.float64(1e-4))
    RunConfig("tiny", np.int64(10), "digits", np.int64(100), recipe).write(tmp_path)
    read = RunConfig.read(tmp_path)
    assert (read.num_label_classes, read.recipe.train_batch_size, read.recipe.weight_decay) == (10, 8, 1e-4)


def test_what_is_no_whole_number_from_1_stays_refused():
    assert is_count(np.int64(1)) and is_count(3)
    for value in (np.int64(0), np.True_, True, 1.0, np.float64(2), "3", None, np.array([1, 2])):
        assert not is_count(value), value
    with pytest.raises(ValueError, match="kernel_size"):
        mixnet_tf.MixConv(np.int64(4))
    with pytest.raises(ValueError, match="filters"):
        SqueezeExcite(0)


def test_the_attributes_of_an_exported_detector_take_them_too():
    assert _value(np.int64(3)) == "i: 3" and _value(True) == "b: true" and _value(0.5) == "f: 0.5"
