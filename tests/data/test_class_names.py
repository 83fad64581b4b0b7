import socket
import time

import keras
import numpy as np
import pytest
from weights_server import silent_server

import mixnet_tf
from mixnet_tf import downloads
from mixnet_tf.data.class_names import label_names, read_labels
from mixnet_tf.imagenet import wordnet_ids

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


def test_imagenets_classes_are_called_by_their_names_and_any_others_by_their_own(index):
    assert label_names(1000, None, wordnet_ids())[:2] == ("class_0", "class_1")
    assert label_names(2, None, None, ["n01440764", "cat"], ["dog", "owl"]) == ("n01440764", "cat")
    assert label_names(2, None, None) is None


def test_without_the_index_imagenets_classes_are_called_by_their_wordnet_ids(monkeypatch, logged):
    def offline(*_, **__):
        raise Exception("URL fetch failure")

    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", None)
    monkeypatch.setattr(decode.__globals__["file_utils"], "get_file", offline)
    assert label_names(1000, None, wordnet_ids()) == wordnet_ids()
    assert "shown by their WordNet ids" in logged()


def test_the_wordnet_ids_are_tensorflow_datasets_own():
    assert (len(set(wordnet_ids())), wordnet_ids()[0], wordnet_ids()[-1]) == (1000, "n01440764", "n15075141")


def test_a_line_break_in_a_file_of_labels_is_refused(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"0": "cat\\ndog", "1": "owl"}')
    with pytest.raises(ValueError, match="labels.json: class 0 is named"):
        read_labels(path, 2)


def test_a_server_of_the_index_that_stays_silent_is_given_up(weights_cache, monkeypatch):
    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", None)
    monkeypatch.setattr(downloads, "TIMEOUT", (0.5, 0.5))
    with silent_server() as (url, asked):
        monkeypatch.setitem(decode.__globals__, "CLASS_INDEX_PATH", url + "/imagenet_class_index.json")
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="Place imagenet_class_index.json in"):
            mixnet_tf.decode_predictions(np.zeros((1, 1000)))
        assert asked and time.monotonic() - start < 3  # the server gives up after four seconds
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name, text", [("names.txt", "grün\nrot\n"), ("names.json", '{"0": "grün", "1": "rot"}')])
def test_a_mark_of_byte_order_is_no_part_of_a_name_and_another_encoding_is_named(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert read_labels(path, 2) == ("grün", "rot")
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{name} is not text in UTF-8: .* Save it in UTF-8"):
        read_labels(path, 2)
