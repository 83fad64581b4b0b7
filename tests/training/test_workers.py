"""Runs of several processes end as a run of one process, and end together."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import worker_run
from child_runs import EVALUATED, finish_run, start_run, wait_for_loops
from scripts import ROOT
from tiny import listing, values
from weights_server import write_archive

from mixnet_tf.detection import is_detector
from mixnet_tf.saved_models import load_keras_file
from mixnet_tf.training.metrics import read_metrics
from mixnet_tf.weights import google, pretrained


@pytest.mark.soak
def test_two_workers_train_one_detector(tmp_path, small_scenes, detection_flags):
    outputs = _two_workers(lambda config: start_run(tmp_path, small_scenes, *detection_flags, TF_CONFIG=config))
    assert all("on 5 images: AP" in out for out in outputs)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".worker")]
    assert is_detector(load_keras_file(str(tmp_path / "final.keras")))


def _start_two(start):
    """What `start(TF_CONFIG)` starts for each of two workers."""
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("localhost", 0))
        cluster = {"worker": [f"localhost:{free.getsockname()[1]}" for free in (first, second)]}
    return [start(json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})) for i in range(2)]


def _two_workers(start):
    """What two workers print, once both have finished."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # one that nobody reads from would wait, and then the other
        return list(pool.map(finish_run, _start_two(start)))


@pytest.mark.soak
def test_two_workers_end_with_the_weights_of_one_device(tmp_path):
    script, output = ROOT / "tests" / "worker_run.py", tmp_path / "weights.npz"

    def start(tf_config):
        return subprocess.Popen(
            [sys.executable, str(script), str(output)],
            env={**os.environ, "TF_CONFIG": tf_config},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    _two_workers(start)
    alone = worker_run.train(tf.distribute.get_strategy())
    expected = values(alone.model) + values(alone.ema_model)
    written = np.load(output)
    for name, other in zip(written.files, expected, strict=True):
        # Sums over 4 + 4 images round otherwise than over 8.
        np.testing.assert_allclose(written[name], other, rtol=1e-4, atol=1e-5)


@pytest.mark.soak
def test_two_workers_train_evaluate_and_leave_one_final_model(tmp_path, prepared):
    flags = (*EVALUATED, "--eval_batch_size=48", "--early_stopping=100")
    outputs = _two_workers(lambda tf_config: start_run(tmp_path, prepared, *flags, TF_CONFIG=tf_config))
    assert all(out.count("on 144 images: top-1") == 6 for out in outputs)
    rows = [row for row in read_metrics(tmp_path) if row["kind"] == "eval"]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["top_1_accuracy"] == max(row["top_1_accuracy"] for row in rows)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".worker")]
    assert load_keras_file(str(tmp_path / "final.keras")).output_shape == (None, 10)


def _sober(name, shape):
    """A value that a network can start from."""
    return np.full(shape, 1.0 if name.endswith(("gamma", "moving_variance")) else 0.01, "float32")


@pytest.mark.soak
def test_two_workers_start_from_published_weights_that_only_one_has_converted(tmp_path, prepared, monkeypatch):
    averages = {row["name"]: _sober(row["name"], row["shape"]) for row in listing("mixnet-m")["variables"]}
    archive = write_archive(tmp_path, "mixnet-m", averages)  # nobody has published what mixnet-m's is like
    homes = [tmp_path / "home-0", tmp_path / "home-1"]
    for home in homes:
        monkeypatch.setenv("KERAS_HOME", str(home))
        google.cache_folder().mkdir(parents=True)
        (google.cache_folder() / archive.name).symlink_to(archive)
    pretrained.published_weights("mixnet-m")  # in the second home

    def start(tf_config):
        index = json.loads(tf_config)["task"]["index"]
        flags = ("--model_name=mixnet-m", "--weights=imagenet", "--train_batch_size=512", "--train_epochs=0.4")
        return start_run(tmp_path / "run", prepared, *flags, TF_CONFIG=tf_config, KERAS_HOME=str(homes[index]))

    outputs = _two_workers(start)
    assert all("Loaded all weights of imagenet but the classifier" in out for out in outputs)
    assert load_keras_file(str(tmp_path / "run" / "final.keras")).output_shape == (None, 10)


@pytest.mark.soak
@pytest.mark.parametrize(
    "place, number, codes",
    [
        (1, signal.SIGKILL, (75, -9)),
        (0, signal.SIGKILL, (-9, 75)),
        (1, signal.SIGINT, (130, 130)),
        (0, signal.SIGTERM, (75, 75)),
        (1, signal.SIGTERM, (75, 75)),
    ],
)
def test_a_signal_to_one_worker_ends_the_other_with_the_code_that_a_supervisor_needs(
    place, number, codes, tmp_path, prepared
):
    evaluates = ("--eval_every=0.01",) if place == 0 and number == signal.SIGTERM else ()  # most of the time
    flags = ("--train_epochs=500", *evaluates)
    workers = _start_two(lambda tf_config: start_run(tmp_path, prepared, *flags, TF_CONFIG=tf_config))
    wait_for_loops(tmp_path, workers[place], 1)
    workers[place].send_signal(number)
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert tuple(worker.returncode for worker in workers) == codes
    assert not any("Traceback" in out for out in printed)
    if number == signal.SIGKILL:
        assert "Another host was lost" in printed[1 - place]
    else:
        assert all("Saved at step" in out for out in printed)
