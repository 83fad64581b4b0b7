import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf.weights import load_weights, saved_classes

CHECKPOINT = str(tiny.GOLDEN / "tiny-s" / "model.ckpt")
X = tiny.images(2, 40, 40, 3)


@pytest.fixture(scope="module")
def source():
    """A model whose weights are saved as every kind of file that the resolver takes."""
    model = tiny.build_tiny()
    mixnet_tf.load_official_checkpoint(model, CHECKPOINT)
    return model


@pytest.fixture(scope="module")
def files(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    source.save(folder / "m.keras")
    source.save_weights(folder / "m.weights.h5")
    return {"keras": str(folder / "m.keras"), "h5": str(folder / "m.weights.h5"), "checkpoint": CHECKPOINT}


@pytest.fixture(scope="module")
def three_classes():
    return tiny.build_tiny(classes=3)


@pytest.fixture(scope="module")
def headless():
    return tiny.build_tiny(include_top=False)


@pytest.fixture(scope="module")
def other():
    return tiny.build_tiny("tiny-m")


@pytest.fixture(scope="module")
def built():
    return tiny.build_tiny()


@pytest.fixture
def target(built):
    """A model like `source` with other values."""
    tiny.randomise(built, seed=4)
    return built


KINDS = ["keras", "h5", "checkpoint"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_answers_of_its_source(source, target, files, kind):
    load_weights(target, files[kind])
    np.testing.assert_array_equal(target(X), source(X))


def test_build_model_takes_what_the_resolver_takes(source, files):
    np.testing.assert_array_equal(tiny.build_tiny(weights=files["h5"])(X), source(X))


@pytest.mark.parametrize("kind", KINDS)
def test_skip_head_reads_all_but_the_dense_layer(source, three_classes, files, kind):
    tiny.randomise(three_classes, seed=5)
    head = [w.numpy() for w in three_classes.get_layer("head_dense").weights]
    load_weights(three_classes, files[kind], skip_head=True)
    np.testing.assert_equal([w.numpy() for w in three_classes.get_layer("head_dense").weights], head)
    for ours, theirs in zip(tiny.values(three_classes)[:-2], tiny.values(source)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_classes_of_saved_weights_are_known_without_a_model(files, kind):
    assert saved_classes(files[kind]) == 10


@pytest.mark.parametrize("name", ["headless.keras", "headless.weights.h5"])
def test_saved_weights_without_a_classifier_have_no_classes(headless, tmp_path, name):
    path = tmp_path / name
    headless.save(path) if name.endswith(".keras") else headless.save_weights(path)
    assert saved_classes(path) is None


def test_the_published_weights_are_of_1000_classes():
    assert saved_classes("imagenet") == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_class_count_are_refused_and_nothing_changes(three_classes, files, kind):
    tiny.randomise(three_classes, seed=6)
    with tiny.refusal(three_classes, ValueError, f"{re.escape(files[kind])} does not fit model"):
        load_weights(three_classes, files[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_architecture_are_refused_and_nothing_changes(other, files, kind):
    tiny.randomise(other)
    with tiny.refusal(other, ValueError, "does not fit model 'mixnet-m'"):
        load_weights(other, files[kind], skip_head=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_its_top_takes_the_rest(source, headless, files, kind):
    tiny.randomise(headless)
    load_weights(headless, files[kind])
    for ours, theirs in zip(tiny.values(headless), tiny.values(source)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_headless_file_fits_a_model_whose_head_is_skipped(source, headless, three_classes, tmp_path, kind):
    headless.set_weights(source.get_weights()[:-2])
    path = tmp_path / ("m.keras" if kind == "keras" else "m.weights.h5")
    headless.save(path) if kind == "keras" else headless.save_weights(path)
    load_weights(three_classes, path, skip_head=True)
    for ours, theirs in zip(tiny.values(three_classes)[:-2], tiny.values(source)[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(three_classes, path)


def test_a_file_without_the_preprocessing_stage_fits_a_model_with_it(source, target, tmp_path):
    bare = tiny.build_tiny(include_preprocessing=False)
    bare.set_weights(source.get_weights())
    bare.save_weights(tmp_path / "bare.weights.h5")
    bare.save(tmp_path / "bare.keras")
    for name in ("bare.weights.h5", "bare.keras"):
        tiny.randomise(target)
        load_weights(target, tmp_path / name)
        np.testing.assert_array_equal(target(X), source(X))


def test_a_keras_file_of_something_else_is_refused(source, tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    for name in ("other.keras", "other.weights.h5"):
        with tiny.refusal(source, ValueError, f"{name} does not fit model 'mixnet-s'"):
            load_weights(source, tmp_path / name)


@pytest.mark.parametrize("name", ["text.keras", "text.weights.h5"])
def test_a_file_of_other_contents_is_refused_by_its_name(source, tmp_path, name):
    (tmp_path / name).write_text("not weights")
    with pytest.raises(ValueError, match=f"{name} does not fit model 'mixnet-s': "):
        load_weights(source, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is not a readable file of Keras 3: "):
        saved_classes(tmp_path / name)


def test_a_plain_h5_file_says_which_name_is_expected(source, files, tmp_path):
    shutil.copy(files["h5"], tmp_path / "m.h5")
    for read in (lambda path: load_weights(source, path), saved_classes):
        with pytest.raises(ValueError, match="m.h5 is named neither .keras nor .weights.h5"):
            read(tmp_path / "m.h5")


@pytest.mark.parametrize("name", ["none.keras", "none.weights.h5", "none/model.ckpt", "none"])
def test_weights_that_are_not_there_are_named(source, tmp_path, name):
    for read in (lambda path: load_weights(source, path), saved_classes):
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / name))):
            read(tmp_path / name)


@pytest.mark.parametrize("weights", [3, ["a"], b"m.keras", True])
def test_what_is_no_path_is_refused(source, weights):
    with pytest.raises(ValueError, match="weights: expected"):
        load_weights(source, weights)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_files_are_read_from_any_file_system_of_tensorflow(source, target, files, kind):
    remote = "ram://weights/" + files[kind].rsplit("/", 1)[-1]
    tf.io.gfile.copy(files[kind], remote, overwrite=True)
    load_weights(target, remote)
    np.testing.assert_array_equal(target(X), source(X))
