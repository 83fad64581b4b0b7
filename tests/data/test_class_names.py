import keras
import numpy as np
import pytest

import mixnet_tf
from mixnet_tf.data import read_labels

INDEX = {str(i): [f"n{i:08d}", f"class_{i}"] for i in range(1000)}


@pytest.fixture
def index(monkeypatch):
    """Keras' index of class names, as if it had been downloaded."""
    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", INDEX)


def test_predictions_decode_to_the_most_probable_names(index):
    preds = np.zeros((2, 1000), "float32")
    preds[0, [388, 362, 387]] = 0.9, 0.05, 0.04
    preds[1, 5] = 1
    first, second = mixnet_tf.decode_predictions(preds, top=3)
    assert [(identity, name) for identity, name, _ in first] == [tuple(INDEX[i]) for i in ("388", "362", "387")]
    np.testing.assert_allclose([value for *_, value in first], [0.9, 0.05, 0.04], rtol=1e-6)
    assert second[0][1] == "class_5" and len(second) == 3


def test_five_names_are_given_unless_more_are_asked_for(index):
    preds = keras.ops.softmax(keras.ops.reshape(keras.ops.arange(1000, dtype="float32"), (1, 1000)))
    assert [name for _, name, _ in mixnet_tf.decode_predictions(preds)[0]] == [
        f"class_{i}" for i in range(999, 994, -1)
    ]


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 1, 1000)])
def test_predictions_of_another_shape_are_refused(index, shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 1000\) predictions, received shape"):
        mixnet_tf.decode_predictions(np.zeros(shape))


@pytest.mark.parametrize("top", [0, -1, 1001, 2.0, None, True])
def test_a_top_out_of_range_is_refused(index, top):
    with pytest.raises(ValueError, match="expected top from 1 to 1000"):
        mixnet_tf.decode_predictions(np.zeros((1, 1000)), top=top)


def test_without_the_index_the_error_says_where_to_place_it(weights_cache, monkeypatch):
    decode = keras.applications.imagenet_utils.decode_predictions

    def get_file(*_, **__):
        raise Exception("URL fetch failure")

    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", None)
    monkeypatch.setattr(decode.__globals__["file_utils"], "get_file", get_file)
    with pytest.raises(
        ConnectionError, match=f"URL fetch failure\nPlace imagenet_class_index.json in {weights_cache.parent}"
    ):
        mixnet_tf.decode_predictions(np.zeros((1, 1000)))


@pytest.mark.parametrize("name, text", [("names.txt", "grün\nrot\n"), ("names.json", '{"0": "grün", "1": "rot"}')])
def test_a_mark_of_byte_order_is_no_part_of_a_name_and_another_encoding_is_named(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert read_labels(path, 2) == ("grün", "rot")
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{name} is not text in UTF-8: .* Save it in UTF-8"):
        read_labels(path, 2)
