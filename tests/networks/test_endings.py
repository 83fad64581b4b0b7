import keras
import numpy as np
import pytest
from tiny import build_small, images

import mixnet_tf
from mixnet_tf.networks import class_names, logits_model, name_classes, with_logits

_SHAPE, _NAMES = (32, 32, 3), tuple("abcdefghij")


@pytest.fixture(scope="module")
def model():
    return build_small(input_shape=_SHAPE, class_names=_NAMES, classifier_activation="softmax")


def _nested(model, **kwargs):
    image = keras.Input(_SHAPE)
    return keras.Model(image, model(image, training=False))


def _sequential(model):
    return keras.Sequential([keras.Input(_SHAPE), model])


@pytest.mark.parametrize("wrap", [lambda model: model, _nested, _sequential, lambda model: _sequential(_nested(model))])
def test_the_logits_are_the_softmaxs_input_at_any_depth(wrap, model):
    x = images(2, *_SHAPE)
    expected = keras.Model(model.input, model.get_layer("head_dense").output)(x)
    np.testing.assert_array_equal(logits_model(wrap(model))(x), expected)
    logits, answers = with_logits(wrap(model))(x)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_allclose(answers, model(x), rtol=1e-6)
    assert class_names(wrap(model)) == _NAMES


def test_a_models_weights_are_those_of_its_logits():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    logits = logits_model(model)
    model.layers[-1].bias.assign([1.0, 2.0])
    np.testing.assert_array_equal(logits(np.zeros((1, 3))), [[1.0, 2.0]])


def test_the_names_travel_in_the_keras_file_and_through_a_clone(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert class_names(loaded) == class_names(keras.models.clone_model(loaded)) == _NAMES
    assert [w.path for w in loaded.weights[-2:]] == ["head_dense/kernel", "head_dense/bias"]


def test_a_classifier_without_names_has_none_in_its_configuration():
    model = build_small(input_shape=_SHAPE)
    assert class_names(model) is None and "class_names" not in model.get_layer("head_dense").get_config()


def test_a_head_of_ones_own_has_no_names(model):
    assert class_names(keras.Model(model.input, keras.layers.Dense(5)(model.output))) is None
    assert class_names(build_small(input_shape=_SHAPE, include_top=False)) is None


def test_names_are_as_many_as_classes_and_lines(model):
    with pytest.raises(ValueError, match="expected 10 names, one for each class; received 2"):
        name_classes(model, ["a", "b"])
    with pytest.raises(ValueError, match="class 9 is named 'j.nk'"):
        name_classes(model, [*_NAMES[:-1], "j\nk"])
    with pytest.raises(ValueError, match="class_names: expected 3 names"):
        mixnet_tf.SSDLite(build_small(input_shape=(64, 64, 3), include_top=False), 3, (64, 64, 3), class_names=["a"])


def test_names_say_how_many_classes_there_are():
    assert build_small(classes=None, class_names=["a", "b"]).output_shape == (None, 2)
