"""The weights of classes in the loss, and a run with every field of the recipe that is off by default."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
import tiny_run
from short_run import RECIPE, train_tiny
from tiny import values

from mixnet_tf.data import Split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.files import read_json
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.saved_models import load_keras_file, open_model
from mixnet_tf.training import read_metrics
from mixnet_tf.training.class_weights import check_class_weights, choose_class_weights
from mixnet_tf.training.objectives import classification
from mixnet_tf.training.optim import smoothed_cross_entropy

_NAMES = ("ant", "bee", "cat")


def _split(labels=(0, 0, 0, 1, 1, 2), names=_NAMES, counts=None):
    """A split whose images nobody reads."""

    def read():
        return tf.data.Dataset.from_tensor_slices({"label": np.int64(labels)})

    return Split("folder", "train", len(labels), names, 3, read, class_counts=counts)


def _file(tmp_path, content):
    path = tmp_path / "weights.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_balanced_weights_are_scikit_learns_whether_counted_or_known(logged):
    class_weight = pytest.importorskip("sklearn.utils.class_weight")
    labels = [0, 0, 0, 1, 1, 2]
    expected = class_weight.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    recipe = Recipe(class_weights="balanced")
    for split in (_split(labels), _split(labels, counts=(3, 2, 1))):
        np.testing.assert_allclose(choose_class_weights(recipe, split, None), expected, rtol=1e-12)
        assert "Class weights, balanced: from 0.6667 ('ant') to 2 ('cat')." in logged()
    assert choose_class_weights(recipe, _split([0, 0, 0, 1]), None) == (2 / 3, 2.0, 1.0)
    assert choose_class_weights(Recipe(), _split(), None) is None


def test_weights_of_a_file_are_taken_by_name(tmp_path):
    recipe = Recipe(class_weights=_file(tmp_path, {"cat": 3, "ant": 1, "bee": 2.5}))
    assert choose_class_weights(recipe, _split(), None) == (1.0, 2.5, 3.0)
    _file(tmp_path, {"2": 3.0, "0": 1.0, "1": 2.0})
    assert choose_class_weights(recipe, _split(names=None), None) == (1.0, 2.0, 3.0)


def test_a_run_that_has_begun_keeps_its_numbers_for_its_classes_alone(tmp_path):
    path = _file(tmp_path, {"ant": 1.0, "bee": 2.0, "cat": 3.0})
    recipe = Recipe(class_weights=path)
    before = RunConfig("tiny", 3, "folder", 6, recipe, _NAMES, class_weights=(7.0, 8.0, 9.0))
    assert choose_class_weights(recipe, _split(), before) == (7.0, 8.0, 9.0)
    assert choose_class_weights(recipe, _split(names=_NAMES[::-1]), before) == (3.0, 2.0, 1.0)
    assert choose_class_weights(recipe, _split(), before._replace(recipe=Recipe())) == (1.0, 2.0, 3.0)
    before.write(tmp_path)
    assert RunConfig.read(tmp_path) == before


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not valid JSON"),
        ("[1, 2, 3]", "has no weights by class name"),
        ("{}", "has no weights by class name"),
        ({"ant": 0, "bee": 1, "cat": 1}, "'ant': expected a number above 0, received 0"),
        ({"ant": "2", "bee": 1, "cat": 1}, "'ant': expected a number above 0, received '2'"),
        ({"ant": True, "bee": 1, "cat": 1}, "'ant': expected a number above 0, received True"),
        ('{"ant": NaN, "bee": 1, "cat": 1}', "'ant': expected a number above 0, received nan"),
    ],
)
def test_a_file_of_something_else_is_refused_before_the_data_is_read(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_class_weights(Recipe(class_weights=_file(tmp_path, content)), None)


def test_a_file_that_is_not_there_or_has_other_classes_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="class_weights: there is no file"):
        check_class_weights(Recipe(class_weights=str(tmp_path / "no.json")), None)
    path = _file(tmp_path, {"ant": 1.0, "bee": 1.0, "dog": 1.0})
    with pytest.raises(InputError, match="Not named: 'cat'; not a class: 'dog'"):
        choose_class_weights(Recipe(class_weights=path), _split(), None)


def test_each_image_counts_in_the_loss_by_the_weight_of_its_class():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 3)).astype("float32"), np.int32([0, 2, 1, 2, 0, 2])
    recipe, weights = Recipe(class_weights="balanced"), (0.5, 1.0, 4.0)
    loss, _ = classification(recipe, weights).share(tf.constant(logits), tf.constant(labels))
    plain = smoothed_cross_entropy(tf.constant(logits), tf.constant(labels), recipe.label_smoothing).numpy()
    np.testing.assert_allclose(loss, np.mean(plain * np.float32(weights)[labels]), rtol=1e-6)
    for arguments in ((recipe, None), (Recipe(), weights)):
        with pytest.raises(InputError, match="give both or neither"):
            classification(*arguments)


_WEIGHTED = RECIPE._replace(
    train_steps=16,
    base_learning_rate=0.008,
    optimizer="adamw",
    weight_decay=0.05,
    clip_norm=1.0,
    minimum_learning_rate=1e-4,
    model_overrides={"drop_path": 0.4},
)
_OPTIONS = {"train_split": "train[:30%]", "eval_split": "train[90%:]", "eval_batch_size": 48, "eval_every": 1.0}


@pytest.mark.soak
@pytest.mark.usefixtures("tiny_network", "shared_trainers")
def test_a_run_with_every_field_resumes_bit_equal_and_does_not_read_its_file_again(
    tmp_path, data_dir, monkeypatch, logged
):
    weights = {str(number): 1.0 + number for number in range(10)}
    recipe = _WEIGHTED._replace(class_weights=_file(tmp_path, weights))

    def train(folder):
        return train_tiny(tmp_path / folder, data_dir, recipe, deterministic=True, **_OPTIONS)

    assert train("whole") == 0
    assert "mean over classes" in logged()
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 10, signal.SIGTERM)
        assert train("broken") == 75
    (tmp_path / "weights.json").unlink()
    assert train("broken") == 0
    for name in ("final.keras", "best.keras"):
        whole, broken = (values(load_keras_file(str(tmp_path / run / name))) for run in ("whole", "broken"))
        np.testing.assert_equal(broken, whole)
    config = RunConfig.read(tmp_path / "broken")
    assert config.class_weights == tuple(weights.values())
    rows = [row for row in read_metrics(tmp_path / "whole") if row["kind"] == "eval"]
    best, highest = read_json(tmp_path / "whole" / "best.json"), max(row["mean_class_accuracy"] for row in rows)
    assert best["mean_class_accuracy"] == highest
    with pytest.raises(ValueError, match="class_weights: '.*weights.json' there, 'balanced' now"):
        train_tiny(tmp_path / "broken", data_dir, recipe._replace(class_weights="balanced"), **_OPTIONS)
    layers = open_model(model_dir=tmp_path / "whole").model.layers
    assert [layer.rate for layer in layers if layer.name.endswith("drop_path")] == pytest.approx([0.4 / 3, 0.8 / 3])


def test_accuracy_over_classes_is_scikit_learns_on_any_number_of_replicas(two_replicas):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    labels = rng.choice(4, 50, p=(0.6, 0.3, 0.1, 0.0))  # no image of class 3
    pictures = rng.integers(0, 256, (50, 8, 8, 3)).astype("uint8")
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pictures])

    def read(*_):
        return tf.data.Dataset.from_tensor_slices({"image": encoded, "label": np.int64(labels)})

    split = Split("any", "test", 50, None, 4, read)
    with two_replicas.scope():
        tf.keras.utils.set_random_seed(1)
        layers = [tf.keras.layers.Rescaling(1 / 255), tf.keras.layers.Flatten(), tf.keras.layers.Dense(4)]
        model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), *layers])
    predicted = model(pictures.astype("float32")).numpy().argmax(-1)
    expected = metrics.recall_score(labels, predicted, average="macro", labels=range(3), zero_division=0)
    measured = build_evaluator(model, split, False, 16, two_replicas, by_class=True)()
    assert measured["mean_class_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert measured["num_images"] == 50 and measured["top_1_accuracy"] == np.mean(predicted == labels)
