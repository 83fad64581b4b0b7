"""The watcher beside a run: it evaluates each checkpoint, and keeps the best model."""

import os

import pytest
import tensorflow as tf
from short_run import STEPS, copy_run

from mixnet_tf.classifiers import load_keras_file, open_model
from mixnet_tf.data import load_split
from mixnet_tf.evaluation import watching
from mixnet_tf.files import read_json

pytestmark = pytest.mark.usefixtures("tiny_network")


def test_watch_evaluates_to_the_last_step_and_keeps_the_best(unbroken, data_dir):
    rows = []
    last = watching.watch(str(unbroken), load_split("digits", data_dir, False), seconds=0.01, report=rows.append)
    assert last["step"] == STEPS and rows[-1] == last
    opened = open_model(model_dir=unbroken)
    assert opened.source.endswith("best.keras")
    best = read_json(str(unbroken / "best.json"))
    assert (best["dataset"], best["split"], best["num_images"]) == ("digits", "test", 360)
    os.remove(unbroken / "best.keras")
    os.remove(unbroken / "best.json")


def test_watch_survives_a_checkpoint_deleted_under_it(unbroken, tmp_path, data_dir, monkeypatch):
    copy_run(unbroken, tmp_path)
    newest = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    named = iter([newest.replace("-22", "-7"), newest])
    monkeypatch.setattr(watching, "newest_checkpoint", lambda folder: next(named))
    rows = []
    watching.watch(str(tmp_path), load_split("digits", data_dir, False), seconds=0.01, report=rows.append)
    assert "skipped" in rows[0] and rows[1]["step"] == STEPS


def test_watch_gives_up_in_time(unbroken, tmp_path, data_dir):
    (tmp_path / "config.json").write_bytes((unbroken / "config.json").read_bytes())
    with pytest.raises(TimeoutError, match="No new checkpoint"):
        watching.watch(str(tmp_path), load_split("digits", data_dir, False), seconds=0.01, timeout=0.05)


def test_the_best_model_is_only_replaced_by_a_better_one(unbroken, tmp_path):
    model = load_keras_file(str(unbroken / "final.keras"))
    for accuracy, best in ((0.5, 0.5), (0.4, 0.5), (0.6, 0.6)):
        watching.archive_best(model, {"step": 1, "top_1_accuracy": accuracy}, str(tmp_path))
        assert watching.read_json(str(tmp_path / "best.json"))["top_1_accuracy"] == best
