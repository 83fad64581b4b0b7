"""Runs killed at any moment, and runs of several processes, end as one unbroken run of one process."""

import concurrent.futures
import json
import os
import pty
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import worker_run
from scripts import ROOT
from shared_trainers import share
from tiny import DETECTOR_NETWORK, listing, read_checkpoint, values, write_small_network
from weights_server import write_archive

from mixnet_tf.detection import is_detector
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.saved_models import load_keras_file
from mixnet_tf.training import RunOptions, train
from mixnet_tf.training.metrics import read_metrics
from mixnet_tf.weights import google, pretrained

_RUN = (
    "--model_name=tiny",
    "--image_size=16",
    "--train_batch_size=32",
    "--train_epochs=2",
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


def _train_here(model_dir, data_dir, network="tiny", epochs=2.0, **fields):
    """Runs what `_RUN` says in this process."""
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


def _wait_for_loops(model_dir, process, number):
    """Waits until a run has reported a number of loops of steps, or has ended."""
    while len(read_metrics(model_dir)) < number and process.poll() is None:
        time.sleep(0.01)


def _kill_at_a_random_moment(model_dir, data_dir, number, rng, *flags):
    process = _start(model_dir, data_dir, *flags)
    _wait_for_loops(model_dir, process, len(read_metrics(model_dir)) + rng.randrange(1, 8))
    time.sleep(rng.random() * 0.2)  # and a random moment
    process.send_signal(number)
    process.communicate()
    newest = tf.train.latest_checkpoint(str(model_dir / "checkpoints"))
    assert newest is None or tf.train.load_checkpoint(newest).get_variable_to_shape_map()


def _kill_at_random_moments(times, model_dir, data_dir, number, rng, *flags):
    for _ in range(times):
        _kill_at_a_random_moment(model_dir, data_dir, number, rng, *flags)
    return _finish(_start(model_dir, data_dir, *flags))


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
        command = [sys.executable, str(ROOT / "train.py"), *_RUN, f"--model_name={small_network}", "--train_epochs=1"]
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
    _finish(_start(tmp_path / "whole", prepared, *flags))
    out = _kill_at_random_moments(2, tmp_path / "broken", prepared, signal.SIGKILL, random.Random(5), *flags)
    assert "Resuming from" in out
    _assert_bit_equal(tmp_path / "broken", values(load_keras_file(str(tmp_path / "whole" / "final.keras"))))


# 30 steps an epoch, of which three are evaluated, each in 48 batches of 3 images; every third step is a checkpoint.
_EVALUATED = ("--train_split=train[:67%]", "--eval_split=train[90%:]", "--eval_every=0.33", "--eval_batch_size=3")


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
    flags = (*_EVALUATED, "--early_stopping=3", "--base_learning_rate=0", "--train_epochs=4")
    _finish(_start(tmp_path / "whole", prepared, *flags))
    rng, amid, broken = random.Random(4), [], tmp_path / "broken"
    for after in (0, 10, 20):
        process = _start(broken, prepared, *flags)
        step = _wait_for_an_evaluation(broken, process, after)
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.communicate()
        amid.append((step, "eval") not in [(row["step"], row["kind"]) for row in read_metrics(broken)])
    assert sum(amid) >= 2
    out = _finish(_start(broken, prepared, *flags))
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
def detection_flags(tmp_path_factory):
    """Of a run of 30 steps."""
    network = tmp_path_factory.mktemp("network") / "small.json"
    network.write_text(json.dumps(DETECTOR_NETWORK))
    return "--task=detection", f"--model_name={network}", "--image_size=64", "--train_batch_size=16"


@pytest.fixture(scope="module")
def unbroken_detector(tmp_path_factory, small_scenes, detection_flags):
    """The weights that an unbroken run ends with."""
    folder = tmp_path_factory.mktemp("unbroken_detector")
    _finish(_start(folder, small_scenes, *detection_flags))
    return values(load_keras_file(str(folder / "final.keras")))


@pytest.mark.soak
@pytest.mark.parametrize("number, times", [(signal.SIGKILL, 3), (signal.SIGTERM, 1)])
def test_a_detectors_run_that_was_killed_ends_bit_equal(
    number, times, tmp_path, small_scenes, detection_flags, unbroken_detector
):
    _kill_at_random_moments(times, tmp_path, small_scenes, number, random.Random(3), *detection_flags)
    _assert_bit_equal(tmp_path, unbroken_detector)


@pytest.mark.soak
def test_two_workers_train_one_detector(tmp_path, small_scenes, detection_flags):
    outputs = _two_workers(lambda config: _start(tmp_path, small_scenes, *detection_flags, TF_CONFIG=config))
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
        return list(pool.map(_finish, _start_two(start)))


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
    flags = (*_EVALUATED, "--eval_batch_size=48", "--early_stopping=100")
    outputs = _two_workers(lambda tf_config: _start(tmp_path, prepared, *flags, TF_CONFIG=tf_config))
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
        return _start(tmp_path / "run", prepared, *flags, TF_CONFIG=tf_config, KERAS_HOME=str(homes[index]))

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
    workers = _start_two(lambda tf_config: _start(tmp_path, prepared, *flags, TF_CONFIG=tf_config))
    _wait_for_loops(tmp_path, workers[place], 1)
    workers[place].send_signal(number)
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert tuple(worker.returncode for worker in workers) == codes
    assert not any("Traceback" in out for out in printed)
    if number == signal.SIGKILL:
        assert "Another host was lost" in printed[1 - place]
    else:
        assert all("Saved at step" in out for out in printed)
