"""Fine-tuning: which weights are loaded, which are frozen, and how the others are trained."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_run
from shared_trainers import shared
from tiny import images, randomise, values

from mixnet_tf.models import build_model
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import class_names
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.saved_models import load_keras_file, open_model
from mixnet_tf.training import RunOptions, Trainer, train
from mixnet_tf.training.optim import build_optimizer

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")
_RECIPE = RECIPES["finetune"]._replace(
    train_batch_size=32, train_steps=4, image_size=16, crop=False, flip=False, warmup_epochs=0.0
)
_X, _Y = images(8, 16, 16, 3), np.arange(8, dtype="int32") % 5


def _build(classes=5, **kwargs):
    return build_model("tiny", classes=classes, input_shape=(16, 16, 3), **kwargs)


def _trained(strategy=None, steps=2, **fields):
    """The arrays of a model before and after some steps, by layer, and the trainer."""
    recipe = Recipe(train_batch_size=8, base_learning_rate=1.0, warmup_epochs=0.0, learning_rate_schedule="constant")
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = _build(classifier_activation=None, override_params={"dropout_rate": 0.0})
        randomise(model)
        trainer = shared(model, recipe._replace(**fields), 4.0, strategy)
    before = {layer.name: [w.numpy() for w in layer.weights] for layer in model.layers}
    for _ in range(steps):
        trainer.train_step(_X, _Y)
    after = {layer.name: [w.numpy() for w in layer.weights] for layer in model.layers}
    return before, after, trainer


def _moved(before, after):
    """The layers of which some weight or statistic is another than before."""
    return {
        name
        for name, arrays in before.items()
        if any((old != new).any() for old, new in zip(arrays, after[name], strict=True))
    }


def _layers_with_weights(model):
    return {layer.name for layer in model.layers if layer.weights and layer.name != "head_dropout"}


_FROZEN_BACKBONE = {"freeze": "backbone", "optimizer": "sgd", "weight_decay": 0.1}


@pytest.mark.parametrize(
    "fields", [{"optimizer": "sgd"}, {"freeze": "bn"}, _FROZEN_BACKBONE], ids=["none", "bn", "backbone"]
)
def test_what_is_frozen_keeps_weights_and_statistics_and_all_the_rest_moves(fields):
    before, after, trainer = _trained(**fields)
    everything = _layers_with_weights(trainer.model)
    norms = {name for name in everything if name.endswith("_bn")}
    assert len(norms) > 3
    expected = {"none": everything, "bn": everything - norms, "backbone": {"head_dense"}}[trainer.recipe.freeze]
    assert _moved(before, after) == expected


def test_a_frozen_backbone_answers_in_training_as_in_inference():
    _, _, trainer = _trained(steps=0, **_FROZEN_BACKBONE)
    np.testing.assert_array_equal(trainer.model(_X, training=True), trainer.model(_X, training=False))
    _, _, free = _trained(steps=0)
    assert (free.model(_X, training=True).numpy() != free.model(_X, training=False).numpy()).any()


def test_the_optimizer_holds_the_trainables_alone_and_the_average_covers_all():
    _, _, trainer = _trained(**_FROZEN_BACKBONE)
    kernel, bias = trainer.model.get_layer("head_dense").weights
    assert {tuple(v.shape) for v in trainer.optimizer.variables} == {(), tuple(kernel.shape), tuple(bias.shape)}
    assert len(trainer.ema_model.weights) == len(trainer.model.weights)
    stem, average = (m.get_layer("stem_conv").kernel for m in (trainer.model, trainer.ema_model))
    np.testing.assert_array_equal(stem, average)
    average_kernel = trainer.ema_model.get_layer("head_dense").kernel
    assert (average_kernel.numpy() != kernel.numpy()).any()


def test_the_l2_term_of_a_frozen_backbone_is_the_classifiers():
    _, _, trainer = _trained(steps=0, **_FROZEN_BACKBONE)
    expected = 0.1 * sum(0.5 * np.sum(np.square(w)) for w in trainer.model.get_layer("head_dense").get_weights())
    metrics = trainer.train_step(_X, _Y)
    np.testing.assert_allclose(float(metrics["loss"]) - float(metrics["cross_entropy"]), expected, rtol=1e-4)


@pytest.mark.soak
def test_a_frozen_run_over_two_replicas_is_one_devices(two_replicas):
    fields = {"freeze": "bn", "optimizer": "sgd", "base_learning_rate": 0.1}
    one, two = _trained(**fields)[1], _trained(two_replicas, **fields)[1]
    for name in set(one) - {"head_dropout"}:
        for array, other in zip(one[name], two[name], strict=True):
            np.testing.assert_allclose(array, other, rtol=1e-4, atol=1e-5)  # sums of 4 + 4 round otherwise than of 8


def test_a_model_without_a_classifier_to_train_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="trains only the layer head_dense"):
        Trainer(model, Recipe(train_batch_size=8, freeze="backbone"), 1.0)


def test_sgd_is_nesterovs_with_the_rate_inside_the_momentum():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=3), rng.normal(size=(6, 3))
    rates = [0.1, 0.1, 0.3, 0.3, 0.05, 0.0]

    class Rates(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return tf.gather(tf.constant(rates, tf.float32), step)

    ours = keras.Variable(start, dtype="float32")
    optimizer = build_optimizer(Recipe(optimizer="sgd", momentum=0.8), Rates(), [ours])
    weights, velocity = start, np.zeros(3)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.apply([tf.constant(gradient, tf.float32)], [ours])
        velocity = 0.8 * velocity - rate * gradient
        weights = weights + 0.8 * velocity - rate * gradient
        np.testing.assert_allclose(ours, weights, rtol=1e-5)


@pytest.mark.parametrize(
    "images_of_an_epoch, momentum", [(256 * 5, 0.9), (256 * 100, 0.9), (256 * 200, 0.95), (256 * 1000, 0.99)]
)
def test_batch_normalization_adapts_to_the_steps_of_an_epoch(images_of_an_epoch, momentum):
    config = RunConfig("tiny", 5, "digits", images_of_an_epoch, RECIPES["transfer"]._replace(image_size=16))
    norms = [layer for layer in config.build_model().layers if layer.name.endswith("_bn")]
    np.testing.assert_allclose([layer.momentum for layer in norms], momentum, rtol=1e-9)
    own = config._replace(recipe=config.recipe._replace(model_overrides={"batch_norm_momentum": 0.5}))
    assert own.build_model().get_layer("stem_bn").momentum == 0.5


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A .keras file of three classes and one of ten, with random weights."""
    folder = tmp_path_factory.mktemp("pretrained")
    for classes in (3, 10):
        model = _build(classes)
        randomise(model, seed=classes)
        model.save(folder / f"{classes}.keras")
    return folder


def _finetune(model_dir, data_dir, weights, **fields):
    options = RunOptions(str(model_dir), data_dir, steps_per_loop=2, checkpoint_steps=2)
    return train("tiny", "digits", _RECIPE._replace(**fields), options, weights)


@pytest.mark.usefixtures("without_end", "eagerly")
def test_weights_of_other_classes_are_loaded_but_the_head_and_a_line_says_so(pretrained, data_dir, tmp_path, logged):
    path = str(pretrained / "3.keras")
    assert _finetune(tmp_path, data_dir, path, train_steps=2, freeze="backbone") == 0
    said = f"Loaded all weights of {path} but the classifier, head_dense (there it is of 3 classes): the new one, of 10"
    assert said in logged()
    source, tuned = load_keras_file(path), open_model(model_dir=tmp_path).model
    for ours, theirs in zip(values(tuned)[:-2], values(source)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert tuned.output_shape == (None, 10)


_AS_LOADED = {"train_steps": 2, "freeze": "bn", "base_learning_rate": 0.0, "weight_decay": 0.0}


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
def test_weights_of_the_same_classes_are_loaded_with_their_head(pretrained, data_dir, tmp_path, logged):
    path = str(pretrained / "10.keras")
    assert _finetune(tmp_path, data_dir, path, **_AS_LOADED) == 0
    assert f"Loaded all weights of {path}, the classifier of 10 classes included; class names not compared." in logged()
    tuned = open_model(model_dir=tmp_path).model
    for ours, theirs in zip(values(tuned), values(load_keras_file(path)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _named(folder, names):
    model = _build(len(names), class_names=names)
    randomise(model, seed=1)
    model.save(folder / "named.keras")
    return str(folder / "named.keras"), model


@pytest.mark.usefixtures("without_end", "eagerly")
def test_a_classifier_of_the_same_names_in_another_order_is_put_into_the_datasets(data_dir, tmp_path, logged):
    names = list("9876543210")
    path, source = _named(tmp_path, names)
    assert _finetune(tmp_path / "run", data_dir, path, **_AS_LOADED) == 0
    assert "its classes were put into the order of the dataset's." in logged()
    tuned = open_model(model_dir=tmp_path / "run").model
    x = images(3, 16, 16, 3)
    np.testing.assert_allclose(tuned(x).numpy()[:, ::-1], source(x), rtol=1e-5)
    assert class_names(tuned) == tuple("0123456789")


@pytest.mark.usefixtures("without_end", "eagerly")
def test_a_classifier_of_as_many_other_classes_is_left_out_and_a_line_says_so(data_dir, tmp_path, logged):
    path, source = _named(tmp_path, list("abcdefghij"))
    assert _finetune(tmp_path / "run", data_dir, path, train_steps=2, freeze="backbone") == 0
    assert "(there it is of 10 classes with other names, such as 'a', 'b', 'c'): the new one, of 10" in logged()
    tuned = open_model(model_dir=tmp_path / "run").model
    for ours, theirs in zip(values(tuned)[:-2], values(source)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(values(tuned)[-2], values(source)[-2])


@pytest.mark.soak
@pytest.mark.usefixtures("without_end")
def test_a_frozen_run_with_overrides_goes_on_without_its_source_and_ends_as_an_unbroken_one(
    pretrained, data_dir, tmp_path, monkeypatch, logged
):
    path = tmp_path / "gone.keras"
    path.write_bytes((pretrained / "3.keras").read_bytes())
    fields = {"freeze": "bn", "optimizer": "sgd", "model_overrides": {"activation": "mish", "dropout_rate": 0.0}}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert _finetune(whole, data_dir, str(path), **fields) == 0

    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 2, signal.SIGTERM)
        assert _finetune(broken, data_dir, str(path), **fields) == 75
    path.unlink()
    logged()
    assert _finetune(broken, data_dir, str(path), **fields) == 0
    assert "Resuming from" in (printed := logged()) and "Loaded" not in printed
    resumed, unbroken = (open_model(model_dir=folder).model for folder in (broken, whole))
    for value, other in zip(values(resumed), values(unbroken), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)  # bit-equal only with --deterministic
    assert resumed.get_layer("block_1_expand_activation").activation is keras.activations.mish


@pytest.mark.usefixtures("without_end", "eagerly")
def test_one_optimizers_slots_are_not_read_as_anothers(pretrained, data_dir, tmp_path):
    path = str(pretrained / "10.keras")
    assert _finetune(tmp_path, data_dir, path, **_AS_LOADED) == 0
    options = RunOptions(str(tmp_path), data_dir, allow_config_change=True)
    with pytest.raises(ValueError, match="None of the checkpoints"):
        train("tiny", "digits", _RECIPE._replace(optimizer="sgd", **_AS_LOADED), options, path)


def test_freezing_random_weights_is_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match="freeze='backbone' keeps what is loaded; give the weights"):
        _finetune(tmp_path / "new", data_dir, None, freeze="backbone")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "overrides, message", [({"activation": "swoosh"}, "swoosh"), ({"dropout": 0.3}, "Unknown override_params")]
)
def test_bad_overrides_are_refused_before_the_data_is_looked_at(overrides, message, tmp_path):
    options = RunOptions(str(tmp_path / "new"), str(tmp_path / "data"))
    with pytest.raises(ValueError, match=message):
        train("tiny", "no_such_dataset", _RECIPE._replace(model_overrides=overrides), options)
    assert list(tmp_path.iterdir()) == []
