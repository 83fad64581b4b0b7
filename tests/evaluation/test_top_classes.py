import keras
import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.data import Split
from mixnet_tf.evaluation import build_evaluator, is_among, top_classes
from mixnet_tf.reports.predictions import predict

_CLASSES, _SIZE = 20, 4


def _split():
    """An image of each class."""
    image = tf.io.encode_png(np.zeros((_SIZE, _SIZE, 3), np.uint8))

    def read(shuffle_seed=None, shard=0, num_shards=1):
        labels = tf.data.Dataset.range(_CLASSES).shard(num_shards, shard)
        return labels.map(lambda label: {"image": image, "label": label, "id": tf.as_string(label)})

    return Split("flat", "test", _CLASSES, None, _CLASSES, read)


def _constant(logits, end):
    """A model that gives the same logits for every image, and ends as `end` says."""
    image = keras.Input((_SIZE, _SIZE, 3))
    x = keras.layers.Flatten()(image)
    activation = end if isinstance(end, str) else None
    dense = keras.layers.Dense(_CLASSES, activation=activation)
    outputs = dense(x) if end is None or activation else end(dense(x))
    model = keras.Model(image, outputs)
    dense.set_weights([np.zeros((_SIZE * _SIZE * 3, _CLASSES)), np.array(logits, "float32")])
    return model


@pytest.fixture(autouse=True)
def _plain_decoder(monkeypatch):
    """Each measurement traces its pipeline anew: a decoder without branches, as every image is the same."""
    decode = lambda image, *_: tf.cast(tf.io.decode_png(image, 3), "float32")  # noqa: E731
    monkeypatch.setattr("mixnet_tf.data.pipeline.preprocess_for_eval", decode)


def _measure(model):
    measured = build_evaluator(model, _split(), crop=False)()
    predicted = predict(model, _split(), crop=False).metrics()
    assert measured.pop("cross_entropy") == pytest.approx(predicted.pop("cross_entropy"))  # sums round otherwise
    assert measured == predicted
    return measured["top_1_accuracy"], measured["top_5_accuracy"]


def test_of_equal_scores_the_lowest_number_comes_first():
    assert top_classes([[1.0, 3.0, 3.0, 3.0, 2.0, 1.0, 1.0]], 6).numpy().tolist() == [[1, 2, 3, 4, 0, 5]]
    assert top_classes([[1.0, 3.0, 3.0]], 1).numpy().tolist() == [[1]]
    assert is_among([0, 1], top_classes([[0.0, 1.0], [0.0, 1.0]], 1)).numpy().tolist() == [0, 1]


def test_a_constant_answer_has_the_share_of_one_class_and_of_five():
    assert _measure(_constant(np.zeros(_CLASSES), "softmax")) == (1 / _CLASSES, 5 / _CLASSES)


@pytest.mark.parametrize("end", ["softmax", keras.layers.Softmax(), keras.layers.Activation("sigmoid"), None])
def test_classes_are_ranked_by_logits_though_probabilities_are_all_0_or_1(end):
    logits = np.array([1e3, *(-1e4 - np.arange(_CLASSES - 1))])  # all but the first underflow
    assert _measure(_constant(logits, end)) == (1 / _CLASSES, 5 / _CLASSES)
    assert _measure(_constant(-np.abs(logits[::-1]), end)) == (1 / _CLASSES, 5 / _CLASSES)


def test_a_model_inside_another_is_ranked_by_its_logits(monkeypatch):
    inner = _constant(np.array([1e3, *(-1e4 - np.arange(_CLASSES - 1))]), "softmax")
    image = keras.Input((_SIZE, _SIZE, 3))
    assert _measure(keras.Model(image, inner(image, training=False))) == (1 / _CLASSES, 5 / _CLASSES)


@pytest.mark.parametrize("end", ["softmax", keras.layers.Activation("sigmoid"), None, "probabilities"])
def test_the_cross_entropy_is_of_the_softmax_of_the_logits(end):
    logits = np.random.default_rng(0).normal(size=_CLASSES)
    expected = np.log(np.exp(logits).sum()) - logits.mean()  # a mean over images of all classes
    if end == "probabilities":  # of a layer that hides its logits
        end = keras.layers.EinsumDense("bi,io->bo", _CLASSES, activation="softmax", kernel_initializer="identity")
    model = _constant(logits, end)
    assert build_evaluator(model, _split(), crop=False)()["cross_entropy"] == pytest.approx(expected, rel=1e-5)
