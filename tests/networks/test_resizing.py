"""What a model says of its images, and what a person says instead."""

import keras
import pytest
import tiny

from mixnet_tf.errors import InputError
from mixnet_tf.networks import (
    GOOGLES,
    TIMMS,
    Preprocessing,
    Resizing,
    carried_resizing,
    carry_resizing,
    resizing_of,
    taking_pixels,
)

_WHOLE = Resizing(None, None, "bilinear")


@pytest.mark.parametrize(
    "resizing, given, expected",
    [
        (GOOGLES, {}, GOOGLES),
        (GOOGLES, {"interpolation": "bicubic"}, Resizing(32, None, "bicubic")),
        (GOOGLES, {"crop_fraction": 0.875}, Resizing(None, 0.875, "bilinear")),
        (TIMMS, {"crop_padding": 0}, Resizing(0, None, "bicubic")),
        (TIMMS, {"crop": True}, TIMMS),
        (TIMMS, {"crop": False}, Resizing(None, None, "bicubic")),
        (_WHOLE, {"crop": True}, GOOGLES),
        (_WHOLE, {"crop_fraction": 1.0}, Resizing(None, 1.0, "bilinear")),
    ],
)
def test_what_a_person_asks_for_replaces_what_is_known(resizing, given, expected):
    assert resizing.given(**given) == expected
    assert expected.crops is (expected != _WHOLE and expected[:2] != (None, None))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"crop_padding": 32, "crop_fraction": 0.9}, "either crop_padding or crop_fraction; received 32 and 0.9"),
        ({"crop": False, "crop_fraction": 0.9}, "Without the center crop there is no crop_fraction"),
        ({"crop_fraction": 0.0}, "crop_fraction: expected a number above 0, up to 1; received 0.0"),
        ({"crop_fraction": 1.1}, "crop_fraction: expected a number above 0, up to 1; received 1.1"),
        ({"crop_padding": -1}, "crop_padding: expected a whole number from 0; received -1"),
        ({"interpolation": "lanczos"}, r"expected one of \('bilinear', 'bicubic'\); received 'lanczos'"),
    ],
)
def test_what_contradicts_itself_or_is_out_of_range_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        GOOGLES.given(**given)
    if "crop" not in given:
        with pytest.raises(InputError, match=message):
            Preprocessing(**given)


def test_words_say_what_the_model_sees():
    assert TIMMS.words(224) == GOOGLES.words(224).replace("bilinear", "bicubic")
    assert TIMMS.words(224) == "the center square of 87.5% of the shorter side, bicubic"
    assert _WHOLE.words(224) == "the whole image, bilinear"


@pytest.fixture(scope="module")
def model():
    return tiny.build_small(input_shape=(32, 32, 3))


def test_a_keras_file_carries_what_its_model_says_and_an_older_one_says_nothing(model, tmp_path):
    assert carried_resizing(model) is None and resizing_of(model) == GOOGLES
    assert not set(model.get_layer("preprocessing").get_config()) & set(Resizing._fields)  # as 0.2.0 wrote it
    for resizing in (TIMMS, GOOGLES, _WHOLE):
        carry_resizing(model, resizing)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert carried_resizing(again) == resizing
        assert carried_resizing(keras.models.clone_model(again)) == resizing
    assert resizing_of(again, True) == GOOGLES and resizing_of(again, TIMMS) == TIMMS
    assert resizing_of(again, interpolation="bicubic") == Resizing(None, None, "bicubic")


def test_a_model_without_the_layer_says_nothing(model):
    normalized = tiny.build_small(include_preprocessing=False, input_shape=(32, 32, 3))
    carry_resizing(normalized, TIMMS)
    assert carried_resizing(normalized) is None and carried_resizing(taking_pixels(normalized)) is None
    nested = keras.Sequential([keras.Input((32, 32, 3)), model])
    carry_resizing(nested, TIMMS)
    assert carried_resizing(nested) == carried_resizing(model) == TIMMS
