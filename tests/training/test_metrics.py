"""metrics.jsonl and TensorBoard: each loop on a local disk; on remote storage, where it costs an upload, seldom."""

import json

import pytest
import tensorflow as tf

from mixnet_tf.progress import silent
from mixnet_tf.training import metrics
from mixnet_tf.training.metrics import MetricsLog, read_metrics

_METRICS = {"loss": 1.0, "top_1_accuracy": 0.5, "learning_rate": 0.1}


@pytest.fixture
def appended(monkeypatch):
    """The files that were opened to be written to, each as often as it was."""
    opened, gfile = [], tf.io.gfile.GFile

    def recorded(name, mode="r"):
        if "r" not in mode:
            opened.append(name)
        return gfile(name, mode)

    monkeypatch.setattr(tf.io.gfile, "GFile", recorded)
    return opened


def _train(reported, steps):
    with silent("Training") as phase:
        for step in steps:
            reported.train(step, _METRICS, phase)


def test_a_local_file_has_each_loop_at_once(tmp_path, appended):
    reported = MetricsLog(str(tmp_path), 0, 4)
    _train(reported, (1, 2, 3))
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
    assert len(appended) == 3


def test_a_remote_file_is_written_at_checkpoints_and_evaluations(tmp_path, appended):
    folder = f"ram://{tmp_path.name}"
    reported = MetricsLog(folder, 0, 4)
    _train(reported, range(1, 100))
    assert appended == []
    reported.flush()  # as the run does with a checkpoint
    reported.flush()
    assert len(appended) == 1 and len(read_metrics(folder)) == 99
    _train(reported, (100,))
    reported.evaluation(100, {"num_images": 5, "top_1_accuracy": 0.5, "top_5_accuracy": 0.5})
    assert len(appended) == 2 and len(read_metrics(folder)) == 101


def test_a_remote_file_is_never_older_than_five_minutes(tmp_path, appended, monkeypatch):
    now = 0.0
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now)
    reported = MetricsLog(f"ram://{tmp_path.name}", 0, 4)
    for step in range(1, 11):
        now = 60.0 * step
        _train(reported, (step,))
    assert len(appended) == 2 and len(read_metrics(f"ram://{tmp_path.name}")) == 10


def test_the_progress_line_shows_the_last_evaluation(tmp_path):
    words = []

    class Phase:
        def update(self, step, line):
            words.append(line)

    reported = MetricsLog(str(tmp_path), 0, 4)
    for step, measured in (
        (1, {}),
        (2, {"num_images": 5, "top_1_accuracy": 0.5, "top_5_accuracy": 0.9, "cross_entropy": 0.75}),
        (3, {"num_images": 5, "AP": 0.25, "AP50": 0.5}),
    ):
        if measured:
            reported.evaluation(step - 1, measured)
        reported.train(step, _METRICS, Phase())
    shown = [line.removeprefix("loss 1.0000, accuracy 0.500").partition(", rate 0.1, ")[0] for line in words]
    assert shown == ["", " (evaluated: accuracy 0.500, loss 0.750)", " (evaluated: AP 0.250)"]


def test_half_a_row_of_a_killed_run_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "lo')
    _train(MetricsLog(str(tmp_path), 1, 4), (2,))
    assert [row["step"] for row in read_metrics(tmp_path)] == [2]


def test_a_worker_that_is_not_the_chief_writes_nothing(tmp_path, appended):
    reported = MetricsLog(None, 0, 4)
    _train(reported, (1,))
    reported.flush()
    assert appended == []


def test_a_measurement_that_is_not_finite_is_null_in_the_file(tmp_path):
    reported = MetricsLog(str(tmp_path), 0, 4)
    with silent("Training") as phase:
        reported.train(1, {**_METRICS, "loss": float("nan")}, phase)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert [row["loss"] for row in read_metrics(tmp_path)] == [None]


@pytest.mark.parametrize("place", ["local", "ram"])
def test_every_line_is_a_row_also_of_a_run_that_resumes(place, tmp_path):
    folder = str(tmp_path) if place == "local" else f"ram://{tmp_path.name}"
    for step in (1, 2):
        reported = MetricsLog(folder, step - 1, 4)
        _train(reported, (step,))
        reported.flush()
    with tf.io.gfile.GFile(f"{folder}/metrics.jsonl") as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
