import re
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import mixnet_tf
from mixnet_tf.networks import class_names, name_classes
from mixnet_tf.weights.matching import variables
from mixnet_tf.weights.sources import load_weights, read_weights

X = tiny.images(2, 40, 40, 3)
_OFFICIAL = {"conv": "conv2d", "depthwise": "depthwise_conv2d", "bn": "batch_normalization", "se": "se/conv2d"}


@pytest.fixture(scope="module")
def source():
    """A model whose weights are saved in every kind of file."""
    model = tiny.build_small()
    tiny.randomise(model, seed=3)
    return model


def _write_official(model, prefix):
    """Writes a model's values as the moving averages of an official checkpoint, and returns its prefix."""
    arrays = {}
    for (part, kind, place, name), variable in variables(model).items():
        name = f"net/{part.replace('block', 'blocks')}/{_OFFICIAL.get(kind, kind)}_{place}/{name}"
        arrays |= {name: np.zeros(variable.shape), f"{name}/ExponentialMovingAverage": variable.numpy()}
    return tiny.write_checkpoint(prefix, arrays)


@pytest.fixture(scope="module")
def files(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    source.save(folder / "m.keras")
    source.save_weights(folder / "m.weights.h5")
    checkpoint = _write_official(source, folder / "model.ckpt")
    return {"keras": str(folder / "m.keras"), "h5": str(folder / "m.weights.h5"), "checkpoint": checkpoint}


@pytest.fixture(scope="module")
def three_classes():
    return tiny.build_small(classes=3)


@pytest.fixture(scope="module")
def headless():
    return tiny.build_small(include_top=False)


@pytest.fixture(scope="module")
def other():
    return _network(3)


@pytest.fixture(scope="module")
def built():
    return tiny.build_small()


@pytest.fixture
def target(built):
    """A model like `source` with other values."""
    name_classes(built, None)
    tiny.randomise(built, seed=4)
    return built


KINDS = ["keras", "h5", "checkpoint"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_answers_of_its_source(source, target, files, kind):
    load_weights(target, files[kind])
    np.testing.assert_array_equal(target(X), source(X))


def test_build_model_takes_what_the_resolver_takes(source, files):
    np.testing.assert_array_equal(tiny.build_small(weights=files["h5"])(X), source(X))


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
    assert read_weights(files[kind]).classes == 10


@pytest.mark.parametrize("name", ["headless.keras", "headless.weights.h5"])
def test_saved_weights_without_a_classifier_have_no_classes(headless, tmp_path, name):
    path = tmp_path / name
    headless.save(path) if name.endswith(".keras") else headless.save_weights(path)
    assert read_weights(path).classes is None


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_class_count_are_refused_and_nothing_changes(three_classes, files, kind):
    tiny.randomise(three_classes, seed=6)
    with tiny.refusal(three_classes, ValueError, f"{re.escape(files[kind])} does not fit model"):
        load_weights(three_classes, files[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_architecture_are_refused_and_nothing_changes(other, files, kind):
    tiny.randomise(other)
    with tiny.refusal(other, ValueError, "does not fit model 'mixnet'"):
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
    bare = tiny.build_small(include_preprocessing=False)
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
        with tiny.refusal(source, ValueError, f"{name} does not fit model 'mixnet'"):
            load_weights(source, tmp_path / name)


@pytest.mark.parametrize("name", ["text.keras", "text.weights.h5"])
def test_a_file_of_other_contents_is_refused_by_its_name(source, tmp_path, name):
    (tmp_path / name).write_text("not weights")
    with pytest.raises(ValueError, match=f"{name} is not a readable file of Keras 3: "):
        load_weights(source, tmp_path / name)


def test_a_plain_h5_file_says_which_name_is_expected(source, files, tmp_path):
    shutil.copy(files["h5"], tmp_path / "m.h5")
    for read in (lambda path: load_weights(source, path), read_weights):
        with pytest.raises(ValueError, match="m.h5 is named neither .keras nor .weights.h5"):
            read(tmp_path / "m.h5")


@pytest.mark.parametrize("name", ["none.keras", "none.weights.h5", "none/model.ckpt", "none"])
def test_weights_that_are_not_there_are_named(source, tmp_path, name):
    for read in (lambda path: load_weights(source, path), read_weights):
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


_BLOCK = "r{}_k3_a1_p1_s11_e2_i8_o8_se0.5_sw"


def _network(repeats, **kwargs):
    """A network of a few blocks of equal width."""
    overrides = {"feature_size": 8, "stem_size": 8}
    return mixnet_tf.build_model(
        blocks_args=[_BLOCK.format(repeats)], override_params=overrides, classes=4, input_shape=(8, 8, 3), **kwargs
    )


@pytest.fixture(scope="module")
def own():
    """A network of two blocks; a test may give its weights any values."""
    return _network(2)


def _saved(model, folder):
    """A model's `.keras` and `.weights.h5` files."""
    model.save(folder / "m.keras")
    model.save_weights(folder / "m.weights.h5")
    return [folder / "m.keras", folder / "m.weights.h5"]


@pytest.mark.parametrize("there, here, problem", [(3, 2, "left over: block_2_"), (2, 3, "missing: block_2/")])
def test_a_network_of_another_depth_is_refused_though_every_width_is_equal(there, here, problem, tmp_path):
    model = _network(here)
    for path in _saved(_network(there), tmp_path):
        with tiny.refusal(
            model, ValueError, f"{path.name} does not fit model 'mixnet'; nothing was loaded.\n.*{problem}"
        ):
            load_weights(model, path)


def test_no_saved_model_is_deserialized_for_its_weights(source, target, files, monkeypatch):
    for owner, name in ((keras.models, "load_model"), (keras.saving, "load_model"), (keras.Model, "from_config")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("a saved model was deserialized"))
    load_weights(target, files["keras"])
    np.testing.assert_array_equal(target(X), source(X))


def test_a_model_trained_by_keras_loads_without_its_optimizer(own, tmp_path):
    model = _network(2)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.apply([tf.ones_like(variable) for variable in model.trainable_variables], model.trainable_variables)
    for path in _saved(model, tmp_path):
        tiny.randomise(own)
        load_weights(own, path)
        np.testing.assert_equal(tiny.values(own), tiny.values(model))


def test_weights_saved_in_bfloat16_load_into_float32(own, tmp_path, monkeypatch):
    keras.config.set_dtype_policy("bfloat16")
    try:
        with monkeypatch.context() as patch:  # as version 0.2.0 built it
            patch.setattr("mixnet_tf.networks.mixnet.check_dtype_policy", lambda: None)
            model = _network(2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.weights[0].dtype == "bfloat16"
    for path in _saved(model, tmp_path):
        tiny.randomise(own)
        load_weights(own, path)
        for ours, theirs in zip(tiny.values(own), tiny.values(model), strict=True):
            np.testing.assert_array_equal(ours, theirs.astype("float32"))


@pytest.fixture(scope="module")
def bases():
    """Two networks without a top, for custom heads."""
    return [_network(2, include_top=False, pooling="avg") for _ in range(2)]


def _with_own_head(base, units=3, name="head_age"):
    model = keras.Model(base.input, keras.layers.Dense(units, name=name)(base.output))
    tiny.randomise(model, seed=8)
    return model


def test_a_layer_of_ones_own_on_a_mixnet_is_loaded_by_its_name(bases, tmp_path):
    model, again = map(_with_own_head, bases)
    others = (
        (_with_own_head(bases[1], units=4), "misshapen: head_age/"),
        (_with_own_head(bases[1], name="mine"), "mine"),
    )
    for path in _saved(model, tmp_path):
        tiny.randomise(again, seed=9)
        load_weights(again, path)
        np.testing.assert_equal(tiny.values(again), tiny.values(model))
        for unlike, problem in others:
            with tiny.refusal(unlike, ValueError, problem):
                load_weights(unlike, path)


def test_the_mixnet_under_a_layer_of_ones_own_loads_alone(bases, own, tmp_path):
    model, backbone = _with_own_head(bases[0]), bases[1]
    for path in _saved(model, tmp_path):
        for taker in (backbone, own):
            tiny.randomise(taker)
            load_weights(taker, path, skip_head=True)
            for ours, theirs in zip(tiny.values(taker)[: len(backbone.weights)], tiny.values(model)[:-2], strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_values_that_lie_in_another_file_are_refused(own, tmp_path):
    path = _saved(own, tmp_path)[1]
    (tmp_path / "secret").write_bytes(bytes(4 * 3 * 3 * 3 * 8))
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars"].create_dataset(
            "0", (3, 3, 3, 8), "float32", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
        )
    with tiny.refusal(own, ValueError, "m.weights.h5 is not a readable file of Keras 3: .* lies in another file"):
        load_weights(own, path)


def test_a_file_that_unpacks_to_more_than_any_mixnet_is_refused(own, tmp_path, monkeypatch):
    monkeypatch.setattr("mixnet_tf.weights.keras_files.MAX_UNPACKED", 10**6)
    path = _saved(own, tmp_path)[1]
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars"].create_dataset("0", (10**6,), "float32", chunks=(10**6,), compression="gzip")
    assert path.stat().st_size < 10**6
    with tiny.refusal(own, ValueError, "more bytes than any MixNet has"):
        load_weights(own, path)
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2 * 10**6))
    with tiny.refusal(own, ValueError, "more bytes than any MixNet has"):
        load_weights(own, tmp_path / "bomb.keras")


def _named(model, names):
    name_classes(model, names)
    tiny.randomise(model)
    return model


@pytest.fixture(scope="module")
def second():
    return tiny.build_small(classes=10)


def test_the_names_of_classes_come_with_a_keras_files_weights(target, second, tmp_path):
    _named(second, tuple("abcdefghij")).save(tmp_path / "named.keras")
    load_weights(target, tmp_path / "named.keras")
    assert class_names(target) == tuple("abcdefghij")
    name_classes(target, None)
    load_weights(target, tmp_path / "named.keras", skip_head=True)
    assert class_names(target) is None


def test_a_model_keeps_the_order_of_its_classes(target, second, tmp_path):
    source, model = _named(second, tuple("abcdefghij")), _named(target, tuple("jihgfedcba"))
    source.save(tmp_path / "named.keras")
    load_weights(model, tmp_path / "named.keras")
    np.testing.assert_allclose(model(X).numpy()[:, ::-1], source(X), rtol=1e-5)
    assert class_names(model) == tuple("jihgfedcba")


def test_weights_of_other_classes_are_refused_though_they_are_as_many(target, second, tmp_path):
    _named(second, tuple("abcdefghij")).save(tmp_path / "named.keras")
    with tiny.refusal(
        model := _named(target, tuple("0123456789")), ValueError, "has the classes 'a', 'b'.*has '0', '1'"
    ):
        load_weights(model, tmp_path / "named.keras")


def test_classes_of_one_name_cannot_be_put_into_another_order(second, tmp_path):
    _named(second, tuple("aacdefghij")).save(tmp_path / "named.keras")
    read = read_weights(tmp_path / "named.keras")
    assert read.in_order_of(tuple("aacdefghij")) is read
    with pytest.raises(ValueError, match="several are named 'a'"):
        read.in_order_of(tuple("jihgfedcaa"))


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.safetensors", "m.npz", "model.ckpt"])
def test_a_web_address_is_refused_with_what_to_do(name, target):
    url = f"https://example.com/{name}"
    with tiny.refusal(target, ValueError, f"cannot be read from {url}; download the file and give its path"):
        load_weights(target, url)
