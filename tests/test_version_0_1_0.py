"""What version 0.1.0 wrote still opens, answers the same, and resumes.

tests/golden/version-0.1.0 was written by it: a MixNet-S of narrow layers as `.keras` and `.weights.h5`, and two runs
of the network "tiny" on digits with --deterministic, one stopped by SIGTERM at step 12 of 22 and one finished.
"""

import json
import shutil

import keras
import numpy as np
import pytest
from scripts import run
from tiny import GOLDEN

import mixnet_tf
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.runs import RunConfig
from mixnet_tf.saved_models import load_keras_file, open_model

pytestmark = pytest.mark.usefixtures("tiny_network")
_WRITTEN = GOLDEN / "version-0.1.0"
_NARROW = {"depth_multiplier": 0.1, "depth_divisor": 1, "feature_size": 8}


@pytest.fixture(scope="module")
def answers():
    """What version 0.1.0 answered: images and probabilities of `model` and of the finished `run`."""
    return np.load(_WRITTEN / "answers.npz")


@pytest.fixture
def stopped(tmp_path):
    """A copy of the run that was stopped, to resume."""
    return shutil.copytree(_WRITTEN / "stopped", tmp_path / "stopped")


def _assert_answers(model, answers, kind):
    images = answers[f"{kind}_images"].astype("float32")
    np.testing.assert_allclose(model(images), answers[f"{kind}_answers"], rtol=1e-4, atol=1e-6)


def test_a_keras_file_opens_and_answers_the_same(answers):
    _assert_answers(keras.models.load_model(_WRITTEN / "model.keras"), answers, "model")


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_saved_weights_load_into_a_new_model(name, answers):
    model = mixnet_tf.MixNetS(
        classes=10, input_shape=(32, 32, 3), override_params=_NARROW, weights=str(_WRITTEN / name)
    )
    _assert_answers(model, answers, "model")


def test_a_finished_run_opens_and_answers_the_same(answers):
    opened = open_model(model_dir=_WRITTEN / "finished")
    assert opened.source.endswith("final.keras") and opened.config.recipe.train_batch_size == 128
    _assert_answers(opened.model, answers, "run")


def test_a_stopped_run_opens_from_its_newest_checkpoint():
    assert open_model(model_dir=_WRITTEN / "stopped").source.endswith("ckpt-12")


def test_a_damaged_checkpoint_is_one_clear_line(stopped, data_dir, capfd):
    (stopped / "checkpoints" / "ckpt-12.data-00000-of-00001").write_bytes(b"")
    code, _, err = run(capfd, "eval.py", f"--model_dir={stopped}", f"--data_dir={data_dir}")
    assert code == 2 and "ckpt-12 cannot be read" in err and "Traceback" not in err


@pytest.mark.soak
def test_a_stopped_run_resumes_with_the_settings_it_began_with_whatever_the_recipe_is_by_now(
    stopped, data_dir, monkeypatch, answers, capfd
):
    monkeypatch.setitem(RECIPES, "digits", RECIPES["digits"]._replace(weight_decay=0.5, image_size=20, seed=9))
    flags = ("--model_name=tiny", f"--model_dir={stopped}", f"--data_dir={data_dir}", "--steps_per_loop=2")
    code, out, err = run(capfd, "train.py", *flags)
    assert code == 0, err
    assert "ckpt-12" in out and "Training: 22/22 steps" in out
    before = RunConfig.read(_WRITTEN / "stopped").recipe
    assert before == RunConfig.read(stopped).recipe
    _assert_answers(load_keras_file(str(stopped / "final.keras")), answers, "run")


def test_a_flag_given_still_counts_and_another_setting_is_refused(stopped, data_dir, capfd):
    flags = ("--model_name=tiny", f"--model_dir={stopped}", f"--data_dir={data_dir}")
    code, _, err = run(capfd, "train.py", *flags, "--weight_decay=0.25")
    assert code == 2 and "weight_decay: 0.0 there, 0.25 now" in err


def test_another_recipe_is_refused_where_the_run_recorded_its_own(stopped, data_dir, capfd):
    config = json.loads((stopped / "config.json").read_text())
    config["recipe"]["name"] = "digits"
    (stopped / "config.json").write_text(json.dumps(config))
    flags = ("--model_name=tiny", f"--model_dir={stopped}", f"--data_dir={data_dir}")
    code, _, err = run(capfd, "train.py", *flags, "--recipe=transfer")
    assert code == 2 and "recipe: 'digits' there, 'transfer' now" in err
