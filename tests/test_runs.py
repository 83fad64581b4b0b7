"""What a run leaves behind, and what weights of any kind open as."""

import io
import json
import zipfile

import keras
import numpy as np
import pytest
from tiny import GOLDEN, SMALL_NETWORK, build_small, images, randomise, values

from mixnet_tf.data import DATA_VERSION, Reading, Split, load_objects, load_split
from mixnet_tf.imagenet import wordnet_ids
from mixnet_tf.models import build_model
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import GOOGLES, Resizing, carried_resizing
from mixnet_tf.networks.endpoints import endpoints
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import SOME_TRAINING_IMAGES, TRAINING_IMAGES, RunConfig, noting_training_images, save_model
from mixnet_tf.saved_models import load_keras_file, open_model

pytestmark = pytest.mark.usefixtures("tiny_network")
_CONFIG = RunConfig("tiny", 5, "digits", 100, Recipe(image_size=32), ("a", "b", "c", "d", "e"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_network):
    """A tiny classifier with random weights, as a .keras file of a run's folder."""
    model = _CONFIG.build_model()
    randomise(model)
    folder = tmp_path_factory.mktemp("run")
    _CONFIG.write(folder)
    save_model(model, str(folder / "final.keras"))
    return model, folder


def test_a_config_reads_back_as_it_was_written(tmp_path):
    for recipe in RECIPES.values():
        config = _CONFIG._replace(recipe=recipe, missing_shards=("train-00003-of-01024",))
        config.write(tmp_path)
        assert RunConfig.read(tmp_path) == config


def test_a_runs_model_says_how_the_run_crops_and_resizes_and_older_ones_did_it_as_today(tmp_path):
    recipe = _CONFIG.recipe._replace(interpolation="bicubic")
    assert carried_resizing(_CONFIG._replace(recipe=recipe).build_model()) == Resizing(32, None, "bicubic")
    whole = _CONFIG._replace(recipe=recipe._replace(crop=False, interpolation="bilinear"))
    assert whole.resizing == Resizing(None, None, "bilinear")
    _CONFIG.write(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert (fields.pop("crop_padding"), fields["recipe"].pop("interpolation")) == (32, "bilinear")
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert RunConfig.read(tmp_path) == _CONFIG and _CONFIG.resizing == GOOGLES


def test_a_config_without_a_data_version_is_of_the_rules_of_0_2_0(tmp_path):
    _CONFIG._replace(data_version=1).write(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert RunConfig.read(tmp_path).data_version == fields.pop("data_version") == 1
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert RunConfig.read(tmp_path).data_version == 0


@pytest.mark.parametrize("data_version", [DATA_VERSION + 1, -1, "1", None, True])
def test_a_data_version_that_is_not_known_is_one_clear_error(data_version, tmp_path):
    _CONFIG._replace(data_version=data_version).write(tmp_path)
    with pytest.raises(ValueError, match=r"config.json: data_version: expected .* from 0 to 1, received"):
        RunConfig.read(tmp_path)
    for load in (load_split, load_objects):
        with pytest.raises(ValueError, match="data_version: expected .*, received"):
            load("digits", tmp_path, True, reading=Reading(data_version))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no training run"):
        RunConfig.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(ValueError, match="not the configuration of a training run"):
        RunConfig.read(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", '"a"', "null"])
def test_a_config_that_is_no_object_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="not the configuration of a training run: it is no JSON object"):
        RunConfig.read(tmp_path)


def _rezipped(content, name, inside):
    """The content of a .keras file with a file of it replaced, or left out where `inside` is None."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
        for each in old.namelist():
            if each != name:
                new.writestr(each, old.read(each))
        if inside is not None:
            new.writestr(name, inside)
    return changed.getvalue()


_DAMAGED = {
    "empty": lambda content: b"",
    "text": lambda content: b"<html>",
    "cut short": lambda content: content[: len(content) // 2],
    "zeros inside": lambda content: content[: len(content) // 2] + bytes(200) + content[len(content) // 2 + 200 :],
    "zeros at the beginning": lambda content: content[:60] + bytes(200) + content[260:],
    "no configuration": lambda content: _rezipped(content, "config.json", None),
    "another configuration": lambda content: _rezipped(content, "config.json", b"[]"),
    "no weights": lambda content: _rezipped(content, "model.weights.h5", None),
    "other weights": lambda content: _rezipped(content, "model.weights.h5", b"garbage"),
}


@pytest.mark.parametrize("damage", _DAMAGED)
def test_a_damaged_keras_file_is_named(damage, saved, tmp_path):
    content = (saved[1] / "final.keras").read_bytes()
    (tmp_path / "final.keras").write_bytes(_DAMAGED[damage](content))
    _CONFIG.write(tmp_path)
    for opening in ({"weights": tmp_path / "final.keras"}, {"model_dir": tmp_path}):
        with pytest.raises(ValueError, match="final.keras is not a readable .keras file: ") as error:
            open_model(**opening)
        assert "File not found" not in str(error.value) and "\n" not in str(error.value)


def test_a_keras_file_that_is_not_there_is_named_before_its_description_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights: there is no file .*a.keras"):
        open_model(weights=tmp_path / "a.keras", model_name="mixnet-s")


def test_waiting_for_a_config_ends(tmp_path):
    with pytest.raises(FileNotFoundError):
        RunConfig.wait_for(tmp_path, seconds=0.01, timeout=0.05)


def test_differences_name_the_fields_of_run_and_recipe():
    other = _CONFIG._replace(dataset="folder", recipe=_CONFIG.recipe._replace(weight_decay=0.5))
    assert _CONFIG.differences(other) == ["dataset: 'digits' there, 'folder' now", "weight_decay: 1e-05 there, 0.5 now"]
    assert _CONFIG.differences(_CONFIG) == []


@pytest.mark.parametrize(
    "field, there, now",
    [
        ("train_split", "train", "validation"),
        ("eval_split", "validation", "test"),
        ("train_shards", 1024, 1000),
        ("missing_shards", (), ("train-00003-of-01024",)),
    ],
)
def test_other_splits_and_shards_are_differences_where_they_were_recorded(field, there, now):
    ours, theirs = _CONFIG._replace(**{field: there}), _CONFIG._replace(**{field: now})
    assert ours.differences(theirs) == [f"{field}: {there!r} there, {now!r} now"]
    assert _CONFIG.differences(theirs) == []


def test_a_run_opens_as_its_best_model_else_its_final_one(saved, tmp_path):
    model, folder = saved
    opened = open_model(model_dir=folder)
    assert opened.source.endswith("final.keras") and opened.config == _CONFIG
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(opened.model(x), model(x))
    for name in ("config.json", "final.keras"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    best = _CONFIG.build_model()
    save_model(best, str(tmp_path / "best.keras"))
    opened = open_model(model_dir=tmp_path)
    assert opened.source.endswith("best.keras")
    np.testing.assert_array_equal(opened.model(x), best(x))


def test_a_runs_folder_is_not_weights(saved):
    with pytest.raises(ValueError, match="is the folder of a training run; give it as model_dir"):
        open_model(weights=saved[1])


def test_a_keras_file_opens_alone_and_a_weights_file_with_its_network(saved, tmp_path):
    model, folder = saved
    opened = open_model(weights=folder / "final.keras")
    assert opened.config is None
    for ours, theirs in zip(values(opened.model), values(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    full = build_model("tiny", classes=3, input_shape=(32, 32, 3))
    full.save_weights(tmp_path / "x.weights.h5")
    opened = open_model(weights=tmp_path / "x.weights.h5", model_name="tiny", num_label_classes=3, image_size=32)
    np.testing.assert_array_equal(opened.model.get_weights()[0], full.get_weights()[0])
    assert opened.model.input_shape == (None, 32, 32, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "either weights or model_dir"),
        ({"weights": "a.keras", "model_dir": "b"}, "either weights or model_dir"),
        (
            {"model_dir": "b", "model_name": "mixnet-m", "image_size": 64},
            r"b describes its own model; leave out \['model",
        ),
        ({"model_dir": "b", "kernel_size": 3}, r"leave out \['kernel_size'\]"),
        (
            {"weights": GOLDEN / "version-0.1.0" / "model.keras", "num_label_classes": 3},
            r"leave out \['num_label_classes'\]",
        ),
        ({"weights": "a.weights.h5"}, "say of which network"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        open_model(**arguments)


def test_what_is_no_classifier_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_keras_file(str(tmp_path / "no.keras"))
    (tmp_path / "text.keras").write_text("text")
    with pytest.raises(ValueError, match="not a readable .keras file"):
        load_keras_file(str(tmp_path / "text.keras"))
    save_model(build_small(include_top=False), str(tmp_path / "features.keras"))
    with pytest.raises(ValueError, match="neither an image classifier nor an SSDLite"):
        load_keras_file(str(tmp_path / "features.keras"))


def test_a_model_saved_to_another_file_system_opens_there(saved, tmp_path):
    model, _ = saved
    folder = f"ram://{tmp_path.name}"
    _CONFIG.write(folder)
    save_model(model, f"{folder}/final.keras")
    opened = open_model(model_dir=folder)
    x = images(1, 32, 32, 3)
    np.testing.assert_array_equal(opened.model(x), model(x))
    assert isinstance(opened.model, keras.Model)


def _one_block(**kwargs):
    return build_small(blocks_args=SMALL_NETWORK["blocks"], **kwargs)


@pytest.fixture
def keras_file(tmp_path):
    """Saves a model as a .keras file, and returns its path."""

    def write(model):
        path = tmp_path / "m.keras"
        model.save(path)
        return path

    return write


def _softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_a_model_for_images_of_any_size_opens_at_the_size_that_is_given(keras_file):
    model = _one_block(classifier_activation="softmax")
    randomise(model)
    path = keras_file(model)
    opened = open_model(weights=path, image_size=40).model
    assert opened.input_shape == (None, 40, 40, 3)
    x = images(2, 40, 40, 3)
    np.testing.assert_array_equal(opened(x), model(x))
    assert list(endpoints(opened)) == list(endpoints(model))
    with pytest.raises(ValueError, match="takes images of any size; give the one to use as image_size"):
        open_model(weights=path)


def test_a_model_of_another_size_or_shape_is_refused(keras_file):
    path = keras_file(_one_block(input_shape=(40, 40, 3), classifier_activation="softmax"))
    assert open_model(weights=path, image_size=40).model.input_shape == (None, 40, 40, 3)
    with pytest.raises(ValueError, match=r"takes images of \(40, 40, 3\); expected \(32, 32, 3\), for image_size=32"):
        open_model(weights=path, image_size=32)
    path = keras_file(_one_block(input_shape=(40, 32, 3)))
    with pytest.raises(ValueError, match=r"takes images of \(40, 32, 3\); expected \(40, 40, 3\), square"):
        open_model(weights=path)


def test_a_model_that_ends_in_logits_opens_with_a_softmax(keras_file):
    x = images(2, 32, 32, 3)
    model = _one_block(input_shape=(32, 32, 3))
    base = _one_block(input_shape=(32, 32, 3), include_top=False, pooling="avg")
    own = keras.Model(base.input, keras.layers.Dense(4)(base.output))
    nested = keras.Sequential([keras.Input((32, 32, 3)), base, keras.layers.Dense(4)])
    for ends_in_logits in (model, own, nested):
        randomise(ends_in_logits)
        opened = open_model(weights=keras_file(ends_in_logits)).model
        np.testing.assert_allclose(opened(x), _softmax(ends_in_logits(x).numpy()), rtol=1e-5, atol=1e-7)
    assert endpoints(open_model(weights=keras_file(model)).model).keys() == endpoints(model).keys()


def _ending_in(operation):
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, operation(keras.layers.Dense(3)(keras.layers.Flatten()(inputs))))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_model_that_ends_in_probabilities_opens_unchanged(keras_file, activation):
    x = images(2, 32, 32, 3)
    for model in (
        _one_block(input_shape=(32, 32, 3), classifier_activation=activation),
        keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation)]),
        _ending_in(getattr(keras.ops, activation)),
        _ending_in(keras.layers.Softmax()),
    ):
        np.testing.assert_array_equal(open_model(weights=keras_file(model)).model(x), model(x))


def test_a_model_whose_end_gives_no_probabilities_is_refused(keras_file):
    with pytest.raises(ValueError, match="ends in layer 'predictions'; expected softmax, sigmoid, or logits"):
        open_model(weights=keras_file(_one_block(input_shape=(32, 32, 3), classifier_activation="relu")))


def test_a_run_on_imagenets_shards_knows_its_classes_though_an_older_version_recorded_none():
    config = _CONFIG._replace(dataset="tfrecord", train_split="train", train_shards=1024, label_names=None)
    assert config.class_names == wordnet_ids()
    assert config._replace(train_shards=1000).class_names is None
    assert config._replace(label_names=("a", "b")).class_names == ("a", "b")


def test_other_class_names_are_told_in_a_line():
    ours, theirs = _CONFIG._replace(label_names=("cat", "dog")), _CONFIG._replace(label_names=("dog", "owl"))
    assert ours.differences(theirs) == ["class names: 'cat' only there, 'owl' only now"]


def test_a_split_that_a_run_trained_on_is_noted_and_without_a_run_one_called_train():
    run = RunConfig("tiny", 10, "folder", 5, Recipe(), train_split="mine")
    older = run._replace(train_split=None)

    def noted(config, dataset, name):
        split = Split(dataset, name, 5, None, 10, None, notes=("before",))
        return noting_training_images(split, config).notes == ("before", TRAINING_IMAGES)

    assert noted(run, "folder", "mine") and noted(older, "folder", "train") and noted(None, "any", "train")
    assert not noted(run, "folder", "train") and not noted(run, "other", "mine") and not noted(None, "any", "mine")


def test_a_share_that_may_have_training_images_is_noted():
    run = RunConfig("tiny", 10, "folder", 5, Recipe(), train_split="train", validation_fraction=0.2, hash_version=1)

    def notes(config, name, fraction):
        split = Split("folder", name, 5, None, 10, None, validation_fraction=fraction)
        return noting_training_images(split, config).notes

    some = (SOME_TRAINING_IMAGES,)
    assert notes(run, "all", 0.2) == notes(None, "all", 0.2) == notes(run, "validation", 0.3) == some
    assert notes(run, "validation", 0.2) == notes(run, "validation", 0.1) == notes(None, "validation", 0.3) == ()
    assert notes(run, "train", 0.2) == (TRAINING_IMAGES,)


def test_a_run_keeps_its_share_and_compares_no_path_of_a_list(tmp_path):
    run = _CONFIG._replace(dataset="list", validation_fraction=0.3, hash_version=1, list="a.csv")
    assert run.differences(run._replace(list="elsewhere/a.csv")) == []
    assert run.differences(run._replace(validation_fraction=0.2)) == ["validation_fraction: 0.3 there, 0.2 now"]
    run.write(tmp_path)
    reading = RunConfig.read(tmp_path).reading("list")
    assert (reading.fraction, reading.list, reading.validation_fraction) == (0.3, "a.csv", None)
    assert RunConfig.read(tmp_path).reading("folder").fraction == 0.2


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("hash_version", 2, "hash_version: expected 1, received 2. A larger one was written by a newer mixnet_tf"),
        ("validation_fraction", 2, "validation_fraction: expected a number above 0 and below 1, received 2"),
    ],
)
def test_a_share_of_a_newer_version_is_refused(field, value, message, tmp_path):
    _CONFIG._replace(dataset="folder", validation_fraction=0.2, hash_version=1).write(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(ValueError, match=f"config.json: {message}"):
        RunConfig.read(tmp_path)
