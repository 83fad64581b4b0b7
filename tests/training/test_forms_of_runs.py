"""The forms of layers in a run: how they are chosen, recorded and kept."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
from short_run import RECIPE, train_tiny
from tiny import build_small, images, randomise

from mixnet_tf.networks import CPU_FORMS, TPU_FORMS, Forms
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import RunOptions, Trainer, run
from mixnet_tf.training.distribution import check_forms, default_forms

pytestmark = pytest.mark.usefixtures("tiny_network")


def _losses(forms, steps=10, **kwargs):
    """The losses of some steps of one model, and its weights after them."""
    recipe = Recipe(train_batch_size=8, base_learning_rate=0.02, warmup_epochs=0.0, learning_rate_schedule="constant")
    model = build_small(input_shape=(32, 32, 3), override_params={"dropout_rate": 0.0, "batch_norm_momentum": 0.9})
    randomise(model)
    run.set_forms(model, forms)
    trainer = Trainer(model, recipe, 4.0, **kwargs)
    labels = np.arange(8) % 10
    losses = [float(trainer.train_step(images(8, 32, 32, 3, seed=i), labels)["loss"]) for i in range(steps)]
    return losses, [weight.numpy() for weight in model.weights]


def _assert_same_training(ours, theirs, tolerance):
    np.testing.assert_allclose(ours[0], theirs[0], rtol=tolerance)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1, np.abs(other).max()))


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("forms", [Forms("dense", "split", "one_pass"), CPU_FORMS])
def test_ten_steps_are_those_of_the_split_form(forms):
    _assert_same_training(_losses(forms), _losses(Forms()), 1e-3)  # rounding that ten steps amplify


@pytest.mark.soak
@pytest.mark.parametrize("forms", [TPU_FORMS, Forms(depthwise_form="dense")])
def test_ten_steps_compiled_by_xla_are_those_of_the_split_form(forms):
    _assert_same_training(_losses(forms, jit_compile=True), _losses(Forms()), 1e-3)


def test_a_new_run_has_the_forms_of_its_devices():
    device, tpu = tf.distribute.get_strategy(), object.__new__(tf.distribute.TPUStrategy)
    assert default_forms(device, jit_compile=False) == CPU_FORMS == Forms("dense", "explicit", "fused")
    assert default_forms(device, jit_compile=True) == Forms()
    assert default_forms(tpu, jit_compile=True) == TPU_FORMS == Forms("dense", "dense", "one_pass")


def test_what_is_given_replaces_what_was():
    options = RunOptions("run", "data", depthwise_form="split", pointwise_form="split")
    assert options.forms(TPU_FORMS) == Forms("split", "split", "one_pass")
    assert RunOptions("run", "data").forms(TPU_FORMS) == TPU_FORMS


@pytest.fixture
def begin(data_dir, monkeypatch):
    """Begins or resumes a run on what counts as a TPU, stops it before a step, and gives the forms of its layers."""
    trained = []
    monkeypatch.setattr(run, "default_forms", lambda *_: TPU_FORMS)
    monkeypatch.setattr(run, "check_forms", lambda *_: None)
    monkeypatch.setattr(run, "fit", lambda trainer, *_: trained.append(trainer.model) or signal.SIGTERM)

    def begun(folder, **options):
        assert train_tiny(folder, data_dir, RECIPE, **options) == 75
        model = trained.pop()
        expand, mixconv, norm = (model.get_layer(f"block_1_{role}") for role in ("expand_conv", "mixconv", "expand_bn"))
        return expand.dense, mixconv.dense, norm.one_pass

    return begun


def test_a_run_records_its_forms_and_keeps_them(begin, tmp_path, data_dir, monkeypatch):
    assert begin(tmp_path, depthwise_form="split") == (True, False, True)
    assert RunConfig.read(tmp_path).forms == Forms("dense", "split", "one_pass")
    monkeypatch.setattr(run, "default_forms", lambda *_: Forms())  # on another machine
    assert begin(tmp_path) == (True, False, True)
    with pytest.raises(ValueError, match="pointwise_form: 'dense' there, 'split' now"):
        train_tiny(tmp_path, data_dir, RECIPE, pointwise_form="split")


def test_a_run_of_an_older_version_resumes_in_the_split_form(begin, tmp_path):
    assert begin(tmp_path, **Forms()._asdict()) == (False, False, False)
    config = tmp_path / "config.json"
    fields = json.loads(config.read_text())
    assert fields.pop("forms") == Forms()._asdict()
    config.write_text(json.dumps(fields))
    assert begin(tmp_path) == (False, False, False)
    assert json.loads(config.read_text())["forms"] == Forms()._asdict()


def test_a_cpu_takes_the_dense_form_with_xla_alone(tmp_path, data_dir):
    with pytest.raises(ValueError, match="depthwise_form=dense: without XLA, .* Add --jit_compile; or"):
        train_tiny(tmp_path / "run", data_dir, RECIPE, depthwise_form="dense")
    assert not (tmp_path / "run").exists()
    check_forms(TPU_FORMS, tf.distribute.get_strategy(), jit_compile=True)
    check_forms(TPU_FORMS, object.__new__(tf.distribute.TPUStrategy), jit_compile=False)


@pytest.mark.parametrize(
    "forms, message",
    [({"pointwise_form": "wide"}, "pointwise_form: expected one of"), ({"stem_form": "split"}, "stem_form")],
)
def test_a_form_of_a_newer_version_is_refused(forms, message, begin, tmp_path):
    RunConfig("tiny", 10, "digits", 1437, RECIPE).write(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "forms": forms}))
    with pytest.raises(ValueError, match=f"config.json.*{message}"):
        RunConfig.read(tmp_path)
