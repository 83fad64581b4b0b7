"""A run that evaluates itself: when it does, what it keeps, when that ends it, and how it resumes."""

import json
import os
import signal

import numpy as np
import pytest
import tiny_run
from short_run import RECIPE, train_tiny
from tiny import values

from mixnet_tf.data import Split
from mixnet_tf.evaluation import CHOSEN_ON, noting_origin, with_notes
from mixnet_tf.evaluation.watching import watch
from mixnet_tf.files import read_json
from mixnet_tf.progress import silent
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import RunConfig, newest_checkpoint
from mixnet_tf.saved_models import load_keras_file, open_model
from mixnet_tf.training import RunOptions, evaluating, read_metrics, run, tasks
from mixnet_tf.training.ending import report_end
from mixnet_tf.training.evaluating import Evaluations, evaluation_intervals

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")
_STEPS = 24
_RECIPE = RECIPE._replace(train_steps=_STEPS)
# 431 images to train on, 13.5 steps an epoch; 144 to evaluate on, in three batches.
_OPTIONS = {"train_split": "train[:30%]", "eval_split": "train[90%:]", "eval_batch_size": 48, "eval_every": 0.25}
_EVALUATED = [3, 7, 10, 13, 17, 20, 24]


def _train(model_dir, data_dir, **options):
    return train_tiny(model_dir, data_dir, _RECIPE, deterministic=True, **{**_OPTIONS, **options})


def _evaluations(model_dir):
    return [row for row in read_metrics(model_dir) if row["kind"] == "eval"]


def _saved(model_dir, name):
    return values(load_keras_file(str(model_dir / name)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir, tiny_network):
    """The folder of a run that nothing interrupted."""
    from shared_trainers import share

    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        share(patch)
        assert _train(folder, data_dir) == 0
    return folder


def test_a_run_evaluates_itself_and_keeps_its_best_model(whole):
    rows = _evaluations(whole)
    assert [row["step"] for row in rows] == _EVALUATED and {row["num_images"] for row in rows} == {144}
    assert all(row["cross_entropy"] > 0 for row in rows)
    best = read_json(str(whole / "best.json"))
    expected = max(rows, key=lambda row: row["top_1_accuracy"])
    assert {name: best[name] for name in ("step", "top_1_accuracy")} == {
        name: expected[name] for name in ("step", "top_1_accuracy")
    }
    assert (best["dataset"], best["split"], best["notes"]) == ("digits", "train[90%:]", [CHOSEN_ON])
    config = RunConfig.read(whole)
    assert (config.eval_every, config.early_stopping, config.stopped_at) == (0.25, None, None)
    assert config.last_step == _STEPS


@pytest.mark.soak
def test_evaluations_change_nothing_about_training(whole, tmp_path, data_dir):
    assert _train(tmp_path, data_dir, eval_every=0.0) == 0
    np.testing.assert_equal(_saved(tmp_path, "final.keras"), _saved(whole, "final.keras"))
    assert [row["step"] for row in _evaluations(tmp_path)] == [_STEPS]
    assert not (tmp_path / "best.keras").exists(), "--watch may choose it"


def _interrupt_evaluation(patch, step, number):
    """Has a run send itself a signal amid its evaluation at a step; gives the steps at which a batch was evaluated."""
    evaluate, seen, batches = Evaluations.run, evaluating._Inside.update, []

    def run_evaluation(self, *arguments):
        batches.append(self._trainer.step)
        evaluate(self, *arguments)

    def update(self, *arguments):
        batches.append(batches[-1])
        if batches.count(step) == 3:  # the second of its three batches
            os.kill(os.getpid(), number)
        seen(self, *arguments)

    patch.setattr(Evaluations, "run", run_evaluation)
    patch.setattr(evaluating._Inside, "update", update)
    return batches


@pytest.mark.soak
def test_a_run_that_was_stopped_amid_evaluations_ends_bit_equal(whole, tmp_path, data_dir, monkeypatch):
    # At step 7 a checkpoint is due, too; at step 10 none is.
    for step, number, code in ((7, signal.SIGTERM, 75), (10, signal.SIGINT, 130)):
        with monkeypatch.context() as patch:
            batches = _interrupt_evaluation(patch, step, number)
            assert _train(tmp_path, data_dir) == code
        assert batches.count(step) == 3, "the evaluation goes on after the signal"
        assert newest_checkpoint(tmp_path / "checkpoints").endswith(f"ckpt-{step}")
        assert _evaluations(tmp_path)[-1]["step"] < step
    assert _train(tmp_path, data_dir) == 0
    for name in ("final.keras", "best.keras"):
        np.testing.assert_equal(_saved(tmp_path, name), _saved(whole, name))
    assert _evaluations(tmp_path) == _evaluations(whole)
    assert read_json(str(tmp_path / "best.json")) == read_json(str(whole / "best.json"))


@pytest.fixture
def scripted(monkeypatch):
    """A function that scripts what evaluations of later runs measure: (accuracy, cross-entropy) by step."""
    trainers, trainer_for, script = [], run.trainer_for, {}

    def recorded(*arguments):
        trainers.append(trainer_for(*arguments))
        return trainers[-1]

    def build_evaluator(model, split, *_):
        def evaluate(progress=silent):
            accuracy, loss = script.get(trainers[-1].step, (0.0, 9.0))
            with progress("Evaluation", 48, "images") as phase:
                for done in (16, 32, 48):
                    phase.update(done)
            measured = {"top_1_accuracy": accuracy, "top_5_accuracy": 1.0, "cross_entropy": loss, "num_images": 48}
            return with_notes(measured, split.notes)

        return evaluate

    monkeypatch.setattr(run, "trainer_for", recorded)
    monkeypatch.setattr(tasks, "build_evaluator", build_evaluator)
    return lambda **by_step: script.update({int(step.removeprefix("at_")): found for step, found in by_step.items()})


def _assert_ended_early(model_dir, step):
    config = RunConfig.read(model_dir)
    assert (config.stopped_at, config.last_step) == (step, step)
    assert newest_checkpoint(model_dir / "checkpoints").endswith(f"ckpt-{step}")
    rows = _evaluations(model_dir)
    assert rows[-1]["step"] == step and rows[-1]["notes"] == [CHOSEN_ON]
    assert all("notes" not in row for row in rows[:-1] if row["step"] < 13)
    best = read_json(str(model_dir / "best.json"))
    assert (best["step"], best["top_1_accuracy"]) == (7, 0.6)


@pytest.mark.soak
def test_early_stopping_ends_the_run_which_is_finished_then_until_it_is_extended(
    tmp_path, data_dir, monkeypatch, scripted, logged
):
    scripted(at_3=(0.5, 1.0), at_7=(0.6, 0.9), at_10=(0.6, 0.8), at_13=(0.55, 0.7), at_17=(0.4, 0.6))
    with monkeypatch.context() as patch:
        _interrupt_evaluation(patch, 13, signal.SIGTERM)
        assert _train(tmp_path, data_dir, early_stopping=2) == 75
    assert RunConfig.read(tmp_path).stopped_at is None
    logged()
    assert _train(tmp_path, data_dir, early_stopping=2) == 0
    said = logged()
    assert "finished at step 13, early: 2 evaluations in turn were not better. final.keras: top-1 55.00%" in said
    assert (
        f"The best model is that of step 7. best.keras: top-1 60.00%, top-5 100.00%, cross-entropy 0.9000; {CHOSEN_ON}"
        in said
    )
    assert "by heart" not in said
    _assert_ended_early(tmp_path, 13)
    files = {name: (tmp_path / name).read_bytes() for name in ("final.keras", "best.keras", "metrics.jsonl")}

    with monkeypatch.context() as patch:  # the same command, also without the flags that the run knows, does no work
        patch.setattr(run, "trainer_for", lambda *_: pytest.fail("a model is built"))
        assert _train(tmp_path, data_dir, early_stopping=2) == 0
        assert _train(tmp_path, data_dir, eval_every=None) == 0
    assert logged().count("The run is finished at step 13, early") == 2
    assert files == {name: (tmp_path / name).read_bytes() for name in files}

    split = Split("digits", "train[90%:]", 144, None, 10, None)
    measured = watch(str(tmp_path), split, timeout=60, build=lambda *_: lambda: {"top_1_accuracy": 0.1})
    assert measured["step"] == 13 and files["best.keras"] == (tmp_path / "best.keras").read_bytes()
    assert CHOSEN_ON in noting_origin(split, open_model(model_dir=tmp_path)).notes
    os.remove(tmp_path / "best.keras")
    opened = open_model(model_dir=tmp_path)
    assert opened.source.endswith("final.keras") and CHOSEN_ON in noting_origin(split, opened).notes
    assert CHOSEN_ON not in noting_origin(split._replace(name="test"), opened).notes
    (tmp_path / "best.keras").write_bytes(files["best.keras"])

    assert _train(tmp_path, data_dir, early_stopping=2, allow_config_change=True) == 0
    _assert_ended_early(tmp_path, 20)  # two more evaluations


def test_an_evaluation_that_was_not_recorded_is_made_again_before_a_run_ends_early(
    tmp_path, data_dir, monkeypatch, scripted
):
    scripted(at_3=(0.5, 1.0), at_7=(0.6, 0.9))
    with monkeypatch.context() as patch:  # killed after step 13 was saved and evaluated, before final.keras
        patch.setattr(run, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _train(tmp_path, data_dir, early_stopping=2, checkpoint_steps=13)
    assert RunConfig.read(tmp_path).stopped_at is None and not (tmp_path / "final.keras").exists()
    assert _train(tmp_path, data_dir, early_stopping=2, checkpoint_steps=13) == 0
    _assert_ended_early(tmp_path, 13)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"eval_split": "test", "eval_every": 0.25}, "would choose the last step by test images, split 'test'"),
        ({"eval_split": "train[90%:]+test[:5%]"}, "would choose the last step by test images"),
        ({"eval_every": 0.0}, "early_stopping=2 counts evaluations .* give --eval_every=EPOCHS"),
    ],
)
def test_early_stopping_by_test_images_or_without_evaluations_is_refused(options, message, tmp_path, data_dir):
    with pytest.raises(ValueError, match=message) as error:
        _train(tmp_path / "run", data_dir, early_stopping=2, **options)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_test_images_are_evaluated_and_choose_nothing(tmp_path, data_dir, scripted):
    scripted(at_3=(0.5, 1.0), at_7=(0.6, 1.1), at_10=(0.6, 1.2))
    assert _train(tmp_path, data_dir, eval_split="test[:10%]") == 0
    assert [row["step"] for row in _evaluations(tmp_path)] == _EVALUATED
    assert not {"best.keras", "best.json"} & set(os.listdir(tmp_path))


@pytest.mark.parametrize(
    "losses, has_best, is_told",
    [
        ((1.0, 1.1, 1.2), True, True),
        ((1.0, 0.9, 1.2), True, False),
        ((1.0, 1.1), True, False),
        ((1.0, None, 1.2), True, False),  # a loss that was not finite
        ((1.0, 1.1, 1.2), False, False),  # on test images
    ],
)
def test_a_loss_that_rose_from_the_first_evaluation_on_is_told(losses, has_best, is_told, tmp_path, logged):
    rows = [
        {
            "step": step,
            "kind": "eval",
            "num_images": 4,
            "top_1_accuracy": 0.5,
            "top_5_accuracy": 1.0,
            "cross_entropy": loss,
        }
        for step, loss in enumerate(losses, 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if has_best:
        (tmp_path / "best.keras").touch()
        (tmp_path / "best.json").write_text(json.dumps(rows[0]))
    report_end(RunConfig("tiny", 2, "folder", 9, Recipe(), eval_split="val", eval_every=1.0), str(tmp_path))
    said = logged()
    assert f"The run is finished at step {len(losses)}. final.keras: top-1 50.00%, top-5 100.00%" in said
    assert ("The best model is that of step 1. best.keras: top-1 50.00%" in said) == has_best
    told = "The loss on split 'val' rose from the first evaluation on, 1.0000, to 1.2000: the network learns"
    assert (told in said) == ("by heart" in said) == is_told


@pytest.mark.soak
def test_a_run_without_evaluations_may_begin_to_evaluate_itself(tmp_path, data_dir, monkeypatch, scripted):
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 10, signal.SIGTERM)
        assert _train(tmp_path, data_dir, eval_every=0.0) == 75
    with pytest.raises(ValueError, match=r"eval_every: 0\.0 there, 0\.25 now"):
        _train(tmp_path, data_dir)
    assert _train(tmp_path, data_dir, allow_config_change=True) == 0
    assert [row["step"] for row in _evaluations(tmp_path)] == [10, 13, 17, 20, 24]


class _Trainer:
    step = 13


@pytest.mark.parametrize(
    "before, expected",
    [
        ({}, (0.6, 2, 10)),  # a run that resumes goes on counting
        ({"stopped_at": 13}, (0.6, 0, 13)),  # that was ended here, and trains on
        ({"stopped_at": 20}, (0.6, 0, 10)),  # whose newest checkpoint was lost
        ({"eval_split": "val"}, (np.nan, 0, 10)),
        ({"dataset": "list"}, (np.nan, 0, 10)),
        ({"class_weights": (1.0, 2.0)}, (np.nan, 0, 10)),  # whose score was the mean over classes
    ],
)
def test_what_was_counted_is_forgotten_where_a_run_trains_on_after_its_end_or_has_other_images(before, expected):
    config = RunConfig("tiny", 2, "folder", 100, Recipe(), eval_split="validation", eval_every=1.0, early_stopping=2)
    evaluations = Evaluations(config, _Trainer(), _split(1), lambda: {}, None)
    for name, value in zip(("best", "since", "step"), (0.6, 2, 10), strict=True):
        evaluations.state[name].assign(value)
    assert evaluations.begin_anew(config._replace(**before)) == bool(before)
    np.testing.assert_equal([float(evaluations.state[name]) for name in ("best", "since", "step")], expected)
    assert evaluations.end_the_run == (not before)


def _split(images, name="validation"):
    return Split("folder", name, images, None, 2, None)


@pytest.mark.parametrize(
    "train, evaluation, every",
    [(1437, 360, 3.0), (1_281_167, 50_000, 1.0), (100, 10, 1.0), (100, 11, 2.0), (10, 1000, 1000.0)],
)
def test_evaluations_see_at_most_a_tenth_as_many_images_as_training_but_wait_for_an_epoch(
    train, evaluation, every, monkeypatch
):
    splits = _split(train, "train"), _split(evaluation)
    options = RunOptions("run", "data")
    assert evaluation_intervals(options, None, *splits) == (every, None)
    assert evaluation_intervals(options._replace(eval_every=0.5, early_stopping=3), None, *splits) == (0.5, 3)
    before = RunConfig("tiny", 2, "folder", train, Recipe(), eval_every=7.0, early_stopping=2)
    assert evaluation_intervals(options, before, *splits) == (7.0, 2)
    assert evaluation_intervals(options._replace(early_stopping=4), before, *splits) == (7.0, 4)
    assert evaluation_intervals(options, before._replace(eval_every=None, early_stopping=None), *splits) == (None, None)
    cluster = {"worker": ["a:1", "b:1"], "evaluator": ["c:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
    assert evaluation_intervals(options, None, *splits) == (0.0, None)


@pytest.mark.parametrize("steps_per_epoch, every", [(13.47, 0.25), (0.5, 1.0), (1.001, 1.0), (7.0, 0.5), (2.5, 3.0)])
def test_evaluations_are_due_every_so_many_epochs_and_at_least_a_step_apart(steps_per_epoch, every):
    recipe = Recipe(train_batch_size=1000)
    config = RunConfig("tiny", 2, "folder", round(1000 * steps_per_epoch), recipe, eval_every=every)
    evaluations = Evaluations(config, _Trainer(), _split(1), lambda: {}, None)
    interval = max(1.0, every * round(1000 * steps_per_epoch) / 1000)
    expected = sorted({round(number * interval) for number in range(1, 500)})[:200]
    found, step = [], 0
    while len(found) < 200:
        step += evaluations.steps_to_next(step)
        found.append(step)
    assert found == expected
    assert [step for step in range(expected[-1] + 1) if evaluations.is_due(step)] == expected


@pytest.mark.soak
def test_two_replicas_evaluate_each_image_once_and_keep_the_best(tmp_path, data_dir, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_evaluation(patch, 7, signal.SIGTERM)
        assert _train(tmp_path, data_dir, strategy="mirrored") == 75
    assert _train(tmp_path, data_dir, strategy="mirrored") == 0
    rows = _evaluations(tmp_path)
    assert [row["step"] for row in rows] == _EVALUATED and {row["num_images"] for row in rows} == {144}
    assert read_json(str(tmp_path / "best.json"))["top_1_accuracy"] == max(row["top_1_accuracy"] for row in rows)
