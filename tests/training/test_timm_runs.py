"""A run that starts from timm's own weights: config.json and a checkpoint alone give the same answers."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
import tiny_run
from scripts import run
from tiny import GOLDEN

from mixnet_tf.data import load_split, preprocess_for_eval
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import Resizing, carried_resizing
from mixnet_tf.runs import RunConfig
from mixnet_tf.saved_models import open_model
from mixnet_tf.training import INTERRUPTED, RunOptions, read_metrics, train

pytestmark = pytest.mark.soak

_RECIPE = RECIPES["finetune"]._replace(
    train_batch_size=32,
    train_steps=4,
    image_size=32,
    interpolation="bicubic",
    flip=False,
    warmup_epochs=0.0,
    model_overrides={"depth_multiplier": 0.25},
)


def test_a_run_from_timms_weights_resumes_evaluates_and_exports_as_it_was_built(
    data_dir, tmp_path, monkeypatch, capfd, logged
):
    pytest.importorskip("safetensors")
    weights = GOLDEN / "timm-mixnet-s-quarter" / "model.safetensors"
    folder = tmp_path / "run"
    options = RunOptions(str(folder), data_dir, steps_per_loop=1, checkpoint_steps=2, eval_every=0.0)

    def train_on():
        return train("mixnet-s", "digits", _RECIPE, options, str(weights))

    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 3, signal.SIGINT)
        assert train_on() == INTERRUPTED
    assert "bilinear" not in logged()  # the weights and the run want the same
    config = RunConfig.read(folder)
    assert config.weights_params == {"padding": "symmetric", "batch_norm_epsilon": 1e-5}
    assert config.resizing == Resizing(32, None, "bicubic")

    assert train_on() == 0
    finished = open_model(model_dir=folder)
    assert carried_resizing(finished.model) == config.resizing and finished.source.endswith("final.keras")
    [expected] = [each for each in read_metrics(folder) if each["kind"] == "eval"]

    (folder / "final.keras").unlink()
    again = open_model(model_dir=folder)
    assert "checkpoints" in again.source and carried_resizing(again.model) == config.resizing
    assert again.model.get_layer("stem_conv").__class__.__name__ == "SymmetricConv2D"
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(again.model(pixels), finished.model(pixels), rtol=0, atol=1e-6)

    code, _, err = run(
        capfd, "eval.py", f"--model_dir={folder}", f"--data_dir={data_dir}", f"--output_json={tmp_path}/out.json"
    )
    assert code == 0, err
    measured = json.loads((tmp_path / "out.json").read_text())
    assert measured["cross_entropy"] == pytest.approx(expected["cross_entropy"], rel=1e-5)

    where = (f"--model_dir={folder}", f"--data_dir={data_dir}", f"--output_dir={tmp_path}/out")
    code, _, err = run(
        capfd, "export_tflite.py", *where, "--formats=fp32,saved_model", "--num_images=8", "--latency_runs=0"
    )
    assert code == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["crop"], report["crop_padding"], report["interpolation"]) == (True, 32, "bicubic")
    served = tf.saved_model.load(str(tmp_path / "out" / "mixnet_s_32_saved_model")).signatures["image_bytes"]
    [example] = load_split("digits", data_dir, False).read().take(1).as_numpy_iterator()
    prepared = preprocess_for_eval(example["image"], 32, config.resizing)[tf.newaxis]
    found = served(image_bytes=tf.constant([example["image"]]))["probabilities"]
    np.testing.assert_allclose(found, finished.model(prepared), rtol=0, atol=1e-5)
