"""Training in one call of Python."""

import signal

import numpy as np
import pytest
import tiny_run

import mixnet_tf
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.runs import RunConfig
from mixnet_tf.saved_models import open_model

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")
_QUICK = {"image_size": 16, "train_batch_size": 32, "train_steps": 6, "warmup_epochs": 0.0, "steps_per_loop": 2}


def test_one_call_trains_resumes_and_returns_the_model_and_its_metrics(data_dir, tmp_path, capsys, monkeypatch):
    def train():
        return mixnet_tf.train(data_dir, tmp_path, "tiny", dataset="digits", recipe="digits", **_QUICK)

    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 4, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train()
    assert "Saved at step 4 of 6" in capsys.readouterr().out
    run = train()
    shown = capsys.readouterr().out
    assert "Resuming from" in shown and "Training: 6/6 steps" in shown
    assert run.model_dir == str(tmp_path) and run.model.output_shape == (None, 10)
    image = np.zeros((1, 16, 16, 3), "float32")
    np.testing.assert_array_equal(run.model(image), open_model(model_dir=tmp_path).model(image))
    np.testing.assert_array_equal(run.metrics["train/step"], [2, 4, 6])
    assert run.metrics["train/loss"].shape == (3,) and run.metrics["eval/top_1_accuracy"].shape == (1,)
    expected = RECIPES["digits"]._replace(image_size=16, train_batch_size=32, train_steps=6, warmup_epochs=0.0)
    assert RunConfig.read(tmp_path).recipe == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"learning_rate": 0.1},
            r"Unknown fields \['learning_rate'\]; expected those of a recipe, .*base_learning_rate",
        ),
        ({"recipe": "best"}, "recipe: expected a Recipe or one of .*own_images.*; received 'best'"),
        ({"image_size": 0}, "image_size: expected a whole number from 1; received 0"),
        ({"dataset": "folder"}, "there is no folder"),
    ],
)
def test_bad_arguments_are_one_error_before_the_work(arguments, message, tmp_path):
    arguments = {"dataset": "digits", **arguments}
    with pytest.raises(ValueError, match=message):
        mixnet_tf.train(tmp_path / "none", tmp_path / "run", "tiny", **arguments)
    assert not (tmp_path / "run").exists()
