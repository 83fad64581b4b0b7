"""Runs killed at any moment, and runs of several processes, end as one unbroken run of one process."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from cli import ROOT
from tiny import values

from mixnet_tf.saved import load_keras_file

_RUN = (
    "--model_name=tiny",
    "--image_size=16",
    "--train_batch_size=64",
    "--train_epochs=6",
    "--checkpoint_steps=3",
    "--steps_per_loop=2",
    "--deterministic",
)


def _start(model_dir, data_dir, *flags, **environment):
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "tiny_run.py"),
            "train.py",
            *_RUN,
            f"--model_dir={model_dir}",
            f"--data_dir={data_dir}",
            *flags,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(process):
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def prepared(data_dir):
    """The data folder, with digits prepared, so that no run is killed at that."""
    from mixnet_tf.data import load_split

    load_split("digits", data_dir, True)
    return data_dir


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, prepared):
    """The weights that an unbroken run ends with."""
    folder = tmp_path_factory.mktemp("unbroken")
    _finish(_start(folder, prepared))
    return values(load_keras_file(str(folder / "final.keras")))


def _kill_at_random_moments(times, model_dir, data_dir, number, rng):
    for _ in range(times):
        process = _start(model_dir, data_dir)
        seen = 0
        wanted = rng.randrange(1, 12)
        for line in process.stdout:  # from the first step on: a random number of lines, then a random moment
            seen += line.startswith("step ")
            if seen >= wanted:
                break
        time.sleep(rng.random() * 0.2)
        process.send_signal(number)
        process.communicate()
        newest = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
        assert newest is None or tf.train.load_checkpoint(newest).get_variable_to_shape_map()
    return _finish(_start(model_dir, data_dir))


def _assert_bit_equal(model_dir, expected):
    for value, other in zip(values(load_keras_file(str(model_dir / "final.keras"))), expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_run_killed_twice_ends_bit_equal(tmp_path, prepared, unbroken):
    out = _kill_at_random_moments(2, tmp_path, prepared, signal.SIGKILL, random.Random(0))
    assert "Going on from" in out
    _assert_bit_equal(tmp_path, unbroken)


@pytest.mark.soak
def test_a_run_killed_twenty_times_ends_bit_equal(tmp_path, prepared, unbroken):
    _kill_at_random_moments(20, tmp_path, prepared, signal.SIGKILL, random.Random(1))
    _assert_bit_equal(tmp_path, unbroken)


@pytest.mark.soak
def test_a_run_terminated_ten_times_ends_bit_equal(tmp_path, prepared, unbroken):
    _kill_at_random_moments(10, tmp_path, prepared, signal.SIGTERM, random.Random(2))
    _assert_bit_equal(tmp_path, unbroken)


@pytest.mark.soak
def test_two_workers_end_with_the_weights_of_one_device(tmp_path, prepared):
    with socket.socket() as first, socket.socket() as second:
        first.bind(("localhost", 0))
        second.bind(("localhost", 0))
        cluster = {"worker": [f"localhost:{s.getsockname()[1]}" for s in (first, second)]}
    shared = tmp_path / "workers"
    # Each host reads its own half, so that only one batch of everything is the same batch: the full 1,436 images.
    flags = ("--train_batch_size=1436", "--train_epochs=4", "--sync_batch_norm")
    workers = [
        _start(shared, prepared, *flags, TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}))
        for i in range(2)
    ]  # fmt: skip
    outputs = [_finish(worker) for worker in workers]
    assert "evaluation of 360 images" in outputs[0]
    alone = tmp_path / "alone"
    _finish(_start(alone, prepared, *flags))
    two, one = (load_keras_file(str(folder / "final.keras")) for folder in (shared, alone))
    for weight, other in zip(two.weights, one.weights, strict=True):
        # One image of 1,437 is left out of an epoch, another one on two hosts than on one: hence the tolerance.
        np.testing.assert_allclose(weight, other, rtol=0.05, atol=0.02, err_msg=weight.path)
