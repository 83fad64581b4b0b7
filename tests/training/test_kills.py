"""Runs killed at any moment end as an unbroken run."""

import json
import os
import pty
import random
import select
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from child_runs import EVALUATED, RUN, finish_run, start_run, wait_for_loops
from scripts import ROOT
from shared_trainers import share
from tiny import read_checkpoint, values, write_small_network

from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.saved_models import load_keras_file
from mixnet_tf.training import RunOptions, train
from mixnet_tf.training.metrics import read_metrics


def _train_here(model_dir, data_dir, network="tiny", epochs=2.0, **fields):
    """Runs what `RUN` says in this process."""
    recipe = RECIPES["digits"]._replace(image_size=16, train_batch_size=32, train_epochs=epochs, **fields)
    options = RunOptions(str(model_dir), data_dir, checkpoint_steps=100, steps_per_loop=20, deterministic=True)
    with pytest.MonkeyPatch.context() as patch:
        share(patch)
        assert train(network, "digits", recipe, options) == 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, prepared, tiny_network):
    """The weights that an unbroken run ends with."""
    folder = tmp_path_factory.mktemp("unbroken")
    _train_here(folder, prepared)
    return values(load_keras_file(str(folder / "final.keras")))


def _kill_at_a_random_moment(model_dir, data_dir, number, rng, *flags):
    process = start_run(model_dir, data_dir, *flags)
    wait_for_loops(model_dir, process, len(read_metrics(model_dir)) + rng.randrange(1, 8))
    time.sleep(rng.random() * 0.2)  # and a random moment
    process.send_signal(number)
    process.communicate()
    newest = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
    assert newest is None or tf.train.load_checkpoint(newest).get_variable_to_shape_map()


def _kill_at_random_moments(times, model_dir, data_dir, number, rng, *flags):
    for _ in range(times):
        _kill_at_a_random_moment(model_dir, data_dir, number, rng, *flags)
    return finish_run(start_run(model_dir, data_dir, *flags))


def _assert_bit_equal(model_dir, expected):
    for value, other in zip(values(load_keras_file(str(model_dir / "final.keras"))), expected, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.fixture(scope="module")
def small_network(tmp_path_factory):
    """A network file."""
    path = tmp_path_factory.mktemp("network") / "small.json"
    write_small_network(path)
    return str(path)


@pytest.fixture(scope="module")
def hung_up(tmp_path_factory, prepared, small_network):
    """The folder of a run whose terminal goes away, and its exit code."""
    folder = tmp_path_factory.mktemp("hung_up")
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, has it ignored
        command = [sys.executable, str(ROOT / "train.py"), *RUN, f"--model_name={small_network}", "--train_epochs=1"]
        os.execv(command[0], [*command, f"--model_dir={folder}", f"--data_dir={prepared}"])
    while len(read_metrics(folder)) < 3 and os.waitpid(child, os.WNOHANG) == (0, 0):
        if select.select([terminal], [], [], 0.01)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    return folder, os.waitstatus_to_exitcode(status)


@pytest.mark.soak
def test_a_run_whose_terminal_goes_away_is_saved(hung_up):
    folder, code = hung_up
    assert code == 75
    assert tf.train.latest_checkpoint(str(folder / "checkpoints")) is not None


def _state(model_dir):
    """The weights, averages and slots of a run's newest checkpoint."""
    arrays = read_checkpoint(tf.train.latest_checkpoint(str(model_dir / "checkpoints")))
    return {name: value for name, value in arrays.items() if name.startswith(("raw/", "averages/", "optimizer/"))}


@pytest.mark.soak
@pytest.mark.usefixtures("without_end")
def test_a_run_that_was_hung_up_ends_bit_equal(hung_up, tmp_path, prepared, small_network):
    resumed = shutil.copytree(hung_up[0], tmp_path / "resumed")
    for folder in (tmp_path / "unbroken", resumed):
        _train_here(folder, prepared, small_network, epochs=1.0)
    np.testing.assert_equal(_state(resumed), _state(tmp_path / "unbroken"))


@pytest.mark.soak
def test_a_run_killed_four_times_ends_bit_equal(tmp_path, prepared, unbroken):
    out = _kill_at_random_moments(4, tmp_path, prepared, signal.SIGKILL, random.Random(1))
    assert "Resuming from" in out
    _assert_bit_equal(tmp_path, unbroken)


@pytest.mark.soak
def test_a_run_terminated_twice_ends_bit_equal(tmp_path, prepared, unbroken):
    _kill_at_random_moments(2, tmp_path, prepared, signal.SIGTERM, random.Random(2))
    _assert_bit_equal(tmp_path, unbroken)


@pytest.mark.soak
def test_a_run_with_every_addition_to_the_recipe_killed_twice_ends_bit_equal(tmp_path, prepared):
    (tmp_path / "weights.json").write_text(json.dumps({str(number): 1 + number for number in range(10)}))
    flags = (
        "--randaugment_layers=2",
        "--color_jitter=0.4",
        "--erasing=0.25",
        "--mixup=0.2",
        "--cutmix=1",
        f"--class_weights={tmp_path}/weights.json",
        "--optimizer=adamw",
        "--weight_decay=0.05",
        "--clip_norm=1",
        "--minimum_learning_rate=1e-5",
        '--model_overrides={"drop_path": 0.4}',
    )
    finish_run(start_run(tmp_path / "whole", prepared, *flags))
    out = _kill_at_random_moments(2, tmp_path / "broken", prepared, signal.SIGKILL, random.Random(5), *flags)
    assert "Resuming from" in out
    _assert_bit_equal(tmp_path / "broken", values(load_keras_file(str(tmp_path / "whole" / "final.keras"))))


def _wait_for_an_evaluation(model_dir, process, after):
    """Waits until a run has trained to the next of its evaluations, each ten steps, and returns the step."""
    while process.poll() is None:
        step = max((row["step"] for row in read_metrics(model_dir)), default=0)
        if step > after and step % 10 == 0:
            return step
        time.sleep(0.005)
    raise AssertionError("the run ended before it was killed")


@pytest.mark.soak
def test_a_run_killed_amid_evaluations_ends_with_the_same_models_and_the_same_early_stop(tmp_path, prepared):
    flags = (*EVALUATED, "--early_stopping=3", "--base_learning_rate=0", "--train_epochs=4")
    finish_run(start_run(tmp_path / "whole", prepared, *flags))
    rng, amid, broken = random.Random(4), [], tmp_path / "broken"
    for after in (0, 10, 20):
        process = start_run(broken, prepared, *flags)
        step = _wait_for_an_evaluation(broken, process, after)
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.communicate()
        amid.append((step, "eval") not in [(row["step"], row["kind"]) for row in read_metrics(broken)])
    assert sum(amid) >= 2
    out = finish_run(start_run(broken, prepared, *flags))
    assert "Resuming from" in out
    for name in ("final.keras", "best.keras"):
        arrays = [values(load_keras_file(str(folder / name))) for folder in (broken, tmp_path / "whole")]
        np.testing.assert_equal(*arrays)
    configs, bests, rows = (
        [read(folder) for folder in (broken, tmp_path / "whole")]
        for read in (
            lambda folder: json.loads((folder / "config.json").read_text()),
            lambda folder: json.loads((folder / "best.json").read_text()),
            lambda folder: [row for row in read_metrics(folder) if row["kind"] == "eval"],
        )
    )
    assert configs[0]["stopped_at"] >= 40
    assert configs[0] == configs[1] and bests[0] == bests[1] and rows[0] == rows[1]


@pytest.fixture(scope="module")
def unbroken_detector(tmp_path_factory, small_scenes, detection_flags):
    """The weights that an unbroken run ends with."""
    folder = tmp_path_factory.mktemp("unbroken_detector")
    finish_run(start_run(folder, small_scenes, *detection_flags))
    return values(load_keras_file(str(folder / "final.keras")))


@pytest.mark.soak
@pytest.mark.parametrize("number, times", [(signal.SIGKILL, 3), (signal.SIGTERM, 1)])
def test_a_detectors_run_that_was_killed_ends_bit_equal(
    number, times, tmp_path, small_scenes, detection_flags, unbroken_detector
):
    _kill_at_random_moments(times, tmp_path, small_scenes, number, random.Random(3), *detection_flags)
    _assert_bit_equal(tmp_path, unbroken_detector)
