"""The watcher beside a run: it evaluates each checkpoint, and keeps the best model."""

import math
import os

import keras
import pytest
import tensorflow as tf
from short_run import RECIPE, STEPS, copy_run

from mixnet_tf.data import Split, load_split
from mixnet_tf.evaluation import (
    CHOSEN_ON,
    has_test_images,
    may_choose,
    noting_origin,
    update_best,
    watching,
)
from mixnet_tf.files import read_json
from mixnet_tf.runs import TRAINING_IMAGES, RunConfig
from mixnet_tf.saved_models import open_model

pytestmark = pytest.mark.usefixtures("tiny_network")


_OLD = RunConfig("tiny", 10, "digits", 1437, RECIPE)  # as version 0.2.0 wrote it, which chose on any split


@pytest.mark.parametrize("eval_every, split", [(None, "test"), (0.0, "train")])
def test_watch_evaluates_to_the_last_step_and_keeps_the_best(eval_every, split, unbroken, tmp_path, data_dir):
    copy_run(unbroken, tmp_path)
    RunConfig.read(unbroken)._replace(eval_every=eval_every).write(tmp_path)
    rows, images = [], load_split("digits", data_dir, False, split)
    last = watching.watch(str(tmp_path), images, seconds=0.01, report=rows.append)
    assert last["step"] == STEPS and rows[-1] == last
    opened = open_model(model_dir=tmp_path)
    assert opened.source.endswith("best.keras")
    best = read_json(str(tmp_path / "best.json"))
    assert (best["dataset"], best["split"], best["num_images"]) == ("digits", split, images.num_examples)
    notes = [] if eval_every is None else [CHOSEN_ON]
    assert [note for note in best.get("notes", ()) if note != TRAINING_IMAGES] == notes
    assert [note for note in noting_origin(images, opened).notes if note != TRAINING_IMAGES] == notes
    others = load_split("digits", data_dir, False, "train" if split == "test" else "test")
    assert CHOSEN_ON not in noting_origin(others, opened).notes


@pytest.mark.parametrize(
    "eval_every, split, says",
    [
        (0.0, "test", "Split 'test' has test images, which choose no best model; --split names another one."),
        (1.0, "train", "evaluates itself and keeps its best model; these numbers choose none."),
    ],
)
def test_watch_only_measures_test_images_and_runs_that_evaluate_themselves(
    eval_every, split, says, unbroken, tmp_path, data_dir, logged
):
    copy_run(unbroken, tmp_path)
    RunConfig.read(unbroken)._replace(eval_every=eval_every).write(tmp_path)
    last = watching.watch(str(tmp_path), load_split("digits", data_dir, False, split), seconds=0.01)
    assert last["step"] == STEPS and not (tmp_path / "best.keras").exists()
    assert [line for line in logged().splitlines() if "choose" in line][0].endswith(says)


def test_watch_ends_when_early_stopping_has_ended_the_run(unbroken, tmp_path, data_dir, monkeypatch):
    copy_run(unbroken, tmp_path)
    config = RunConfig.read(unbroken)
    longer = config._replace(recipe=config.recipe._replace(train_epochs=2.0), eval_every=1.0)
    longer.write(tmp_path)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        longer._replace(stopped_at=STEPS).write(tmp_path)

    monkeypatch.setattr(watching.time, "sleep", sleep)
    last = watching.watch(str(tmp_path), load_split("digits", data_dir, False), seconds=7.0, timeout=60)
    assert last["step"] == STEPS and waits == [7.0]


@pytest.mark.parametrize(
    "name, is_test",
    [
        ("validation", False),
        ("val", False),
        ("train[80%:]", False),
        ("latest", False),
        ("test", True),
        ("test[:50%]", True),
        ("validation+test", True),
        ("train + test[10%:]", True),
        ("all", True),
        ("Test", True),
    ],
)
def test_what_has_test_images_is_known_by_its_name_and_by_its_images(name, is_test, data_dir):
    split = Split("folder", name, 1, None, 10, None)
    if name == "all":
        split = load_split("digits", data_dir, False, "all")
    assert has_test_images(split) == is_test
    for eval_every, chooses in ((None, True), (0.0, not is_test), (2.0, not is_test)):
        assert may_choose(_OLD._replace(eval_every=eval_every), split) == chooses


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


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def _archive(model, accuracy, folder, **where):
    """Archives a model of an accuracy, and gives (the accuracy of the best one, what was said)."""
    metrics = {"step": 1, "top_1_accuracy": accuracy, **({"num_images": 360} | where)}
    split = Split(metrics.pop("dataset", "digits"), metrics.pop("split", "test"), 360, None, 10, None)
    said = update_best(model, metrics, split, _OLD, str(folder))
    best = read_json(folder / "best.json") if (folder / "best.json").exists() else {"top_1_accuracy": None}
    return best["top_1_accuracy"], said


def test_the_best_model_is_only_replaced_by_a_better_one(model, tmp_path):
    for accuracy, best in ((0.5, 0.5), (0.4, 0.5), (0.6, 0.6)):
        assert _archive(model, accuracy, tmp_path)[0] == best
    os.remove(tmp_path / "best.keras")
    assert _archive(model, 0.1, tmp_path)[0] == 0.1, "there is no best model: what best.json says of it is moot"


def test_the_mean_over_classes_is_the_score_where_it_was_measured(model, tmp_path):
    assert _archive(model, 0.9, tmp_path)[0] == 0.9
    for accuracy, mean, best in ((0.6, 0.5, 0.6), (0.7, 0.4, 0.6), (0.5, 0.6, 0.5)):
        found, said = _archive(model, accuracy, tmp_path, mean_class_accuracy=mean)
        assert found == best
    assert said.endswith("its mean top-1 over classes was 50.00%.")


def test_what_is_not_a_number_is_never_the_best_and_always_beaten(model, tmp_path):
    best, said = _archive(model, math.nan, tmp_path)
    assert best is None and not (tmp_path / "best.keras").exists() and "is not a number" in said
    _archive(model, 0.2, tmp_path)
    for accuracy in (math.nan, None, math.inf):
        assert _archive(model, accuracy, tmp_path)[0] == 0.2
    for written in ("NaN", "null"):  # NaN: as version 0.2.0 wrote it
        (tmp_path / "best.json").write_text(f'{{"step": 1, "top_1_accuracy": {written}}}')
        assert _archive(model, 0.1, tmp_path)[0] == 0.1


@pytest.mark.parametrize("where", [{"split": "train"}, {"num_images": 12}, {"dataset": "folder"}])
def test_the_best_model_belongs_to_the_images_that_it_was_measured_on(where, model, tmp_path):
    there = {"dataset": "digits", "split": "test", "num_images": 360}
    _archive(model, 0.2, tmp_path, **there)
    before = (tmp_path / "best.keras").stat().st_mtime_ns
    best, said = _archive(model, 0.9, tmp_path, **{**there, **where})
    assert best == 0.2 and (tmp_path / "best.keras").stat().st_mtime_ns == before
    assert "best.keras stays: it was measured on another split than" in said
    assert "360 images of split 'test' of 'digits'" in said


def test_watch_on_another_split_measures_and_leaves_the_best_model_alone(unbroken, model, tmp_path, data_dir, logged):
    copy_run(unbroken, tmp_path)
    _archive(model, 0.01, tmp_path, dataset="digits", split="test", num_images=360)
    before = (tmp_path / "best.json").read_text()
    RunConfig.read(unbroken)._replace(eval_every=None).write(tmp_path)
    rows = []
    watching.watch(str(tmp_path), load_split("digits", data_dir, True), seconds=0.01, report=rows.append)
    assert rows[-1]["notes"] == [TRAINING_IMAGES]
    assert rows[-1]["num_images"] == 1437 and (tmp_path / "best.json").read_text() == before
    assert "best.keras stays: it was measured on another split than 'train' of 'digits'" in logged()
