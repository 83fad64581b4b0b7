"""Layer names: every layer of a MixNet is recognized, and no other layer is."""

import keras
import numpy as np
import pytest
import tiny

import mixnet_tf
from mixnet_tf.networks import names
from mixnet_tf.networks.endpoints import parts


def _all_roles():
    """A network with every layer that a MixNet can have."""
    return tiny.build_small(override_params={"project_activation": "relu", "drop_path": 0.1})


def test_every_layer_that_is_built_is_known_by_its_name_and_class():
    for model in (_all_roles(), tiny.build_small(include_top=False, pooling="max")):
        unknown = [layer.name for layer in model.layers if not names.is_mixnets(layer)]
        assert unknown == ["image"]


def test_every_role_is_built():
    built = {names.parse(layer.name) for layer in _all_roles().layers} - {None}
    known = {("block" if names.is_block(part) else part, role) for part, role in built}
    assert known == {(part, role) for part, roles in names._CLASSES.items() for role in roles}


@pytest.mark.parametrize(
    "name",
    ["stem", "stem_", "head_age", "headless_conv", "stem_conv_2", "block_conv", "block_01_se", "block_1", "block_1_se_",
     "my_head_dense", "block__se", "block_-1_se", "head_se", "block_0_dense", "predictions"],
)  # fmt: skip
def test_another_name_is_no_layer_of_a_part(name):
    assert names.parse(name) is None


def test_a_name_is_taken_apart_as_it_was_put_together():
    for part, role in (("stem", "bn"), ("block_0", "se"), ("block_12", "mixconv_activation"), ("head", "dense")):
        assert names.parse(names.layer_name(part, role)) == (part, role)
    with pytest.raises(ValueError, match="No layer is named 'stem_dense'"):
        names.layer_name("stem", "dense")


def _with(layer):
    base = tiny.build_small(include_top=False, pooling="avg", input_shape=(32, 32, 3))
    return keras.Model(base.input, layer(base.output))


@pytest.mark.parametrize("name", ["head_age", "head_dense_2", "stem_conv_mine", "block_0_mine", "block_99_se"])
def test_a_layer_of_ones_own_belongs_to_no_part_whatever_its_name(name):
    model = _with(keras.layers.Dense(3, name=name))
    own = model.get_layer(name)
    assert own not in [layer for part in parts(model).values() for layer in part]
    assert "head" not in mixnet_tf.endpoints(model)
    assert names.find_classifier(model) is None and not names.is_mixnets(own)


def test_a_name_of_mixnets_on_another_class_does_not_count():
    own = keras.layers.EinsumDense("bc,cd->bd", 3, name="head_dense")
    assert names.part_of(own) is None and names.find_classifier(_with(own)) is None


def test_a_dense_layer_of_mixnets_name_is_the_classifier():
    x = tiny.images(2, 32, 32, 3)
    model = _with(keras.layers.Dense(3, name="head_dense"))
    assert names.find_classifier(model).units == 3
    np.testing.assert_array_equal(mixnet_tf.features_model(model, ["head"])(x)["head"], model(x))
