import keras
import numpy as np
import pytest
from tiny import build_small, images

import mixnet_tf
from mixnet_tf.detection import is_detector
from mixnet_tf.networks import class_names, input_of, normalizes, prepare_pixels, taking_pixels

_SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def networks():
    """A network that takes pixels, and one that takes normalized images."""
    kwargs = {"input_shape": _SHAPE}
    return {"pixels": build_small(**kwargs), "normalized": build_small(**kwargs, include_preprocessing=False)}


def _nested(model, layer=None):
    image = keras.Input(_SHAPE)
    return keras.Model(image, model(image if layer is None else layer(image), training=False))


def _sequential(model, layer=None):
    return keras.Sequential([keras.Input(_SHAPE), *([] if layer is None else [layer]), model])


@pytest.mark.parametrize("wrap", [lambda model: model, _nested, _sequential, lambda model: _nested(_nested(model))])
@pytest.mark.parametrize("taken", ["pixels", "normalized"])
def test_what_a_network_takes_shows_in_its_layers_at_any_depth(wrap, taken, networks):
    assert input_of(wrap(networks[taken])) == taken
    assert normalizes(wrap(networks[taken])) is (taken == "pixels")


@pytest.mark.parametrize("wrap", [_nested, _sequential])
@pytest.mark.parametrize(
    "layer, with_normalized", [(keras.layers.RandomFlip, "normalized"), (lambda: keras.layers.Rescaling(1 / 255), None)]
)
def test_random_layers_do_nothing_and_what_others_do_cannot_be_told(wrap, layer, with_normalized, networks):
    assert input_of(wrap(networks["pixels"], layer())) == "pixels"
    assert input_of(wrap(networks["normalized"], layer())) == with_normalized


def test_what_a_foreign_model_takes_cannot_be_told():
    image = keras.Input(_SHAPE)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image)))
    assert input_of(model) is None and taking_pixels(model) is model and not normalizes(model)
    assert input_of(taking_pixels(model, "normalized")) == "pixels"


@pytest.mark.parametrize("wrap", [lambda model: model, _nested, _sequential])
def test_a_network_of_normalized_images_is_given_them(wrap, networks):
    model, pixels = wrap(networks["normalized"]), images(2, *_SHAPE)
    expected = model(mixnet_tf.preprocess_input(pixels))
    np.testing.assert_allclose(taking_pixels(model)(pixels), expected, atol=1e-6)
    np.testing.assert_allclose(model(prepare_pixels(model)(pixels)), expected, atol=1e-6)
    assert taking_pixels(networks["pixels"]) is networks["pixels"]


def test_what_is_said_of_the_input_counts(networks):
    model, pixels = taking_pixels(networks["normalized"], "pixels"), images(2, *_SHAPE)
    np.testing.assert_allclose(model(pixels), networks["normalized"](pixels), atol=1e-6)
    assert input_of(model) is None and taking_pixels(model) is model
    with pytest.raises(ValueError, match="normalizes its input itself; it takes pixels"):
        taking_pixels(networks["pixels"], "normalized")
    with pytest.raises(ValueError, match="input: expected one of .* received 'bgr'"):
        taking_pixels(networks["pixels"], "bgr")


def test_a_detector_of_normalized_images_stays_a_detector():
    network = build_small(include_top=False, include_preprocessing=False, input_shape=(64, 64, 3))
    model = mixnet_tf.SSDLite(network, 3, (64, 64, 3), class_names=["a", "b", "c"])
    found = taking_pixels(model)
    assert input_of(model) == "normalized" and input_of(found) == "pixels"
    assert is_detector(found) and class_names(found) == ("a", "b", "c")
