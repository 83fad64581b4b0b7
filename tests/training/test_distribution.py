"""TF_CONFIG: what a process is told to be among the others of a run."""

import json

import pytest
import tensorflow as tf
from scripts import run
from short_run import STEPS, copy_run

from mixnet_tf.errors import InputError
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import distribution, make_strategy

_TWO = {"worker": ["localhost:12345", "localhost:12346"]}


@pytest.mark.parametrize(
    "config, message",
    [
        ({"cluster": _TWO}, '"task": {"type": "worker", "index": 0}'),
        ({"cluster": _TWO, "task": {}}, "received {}"),
        ({"cluster": _TWO, "task": 0}, "received 0"),
        ({"cluster": _TWO, "task": {"type": "worker"}}, "received {'type': 'worker'}"),
        (
            {"cluster": _TWO, "task": {"type": "worker", "index": 2}},
            "of a task of its cluster, a different task on each host",
        ),
        (
            {"cluster": _TWO, "task": {"type": "worker", "index": -1}},
            "of a task of its cluster, a different task on each host",
        ),
        (
            {"cluster": _TWO, "task": {"type": "worker", "index": "first"}},
            "of a task of its cluster, a different task on each host",
        ),
        (
            {"cluster": _TWO, "task": {"type": "boss", "index": 0}},
            "of a task of its cluster, a different task on each host",
        ),
        ({"cluster": {**_TWO, "ps": ["localhost:1"]}, "task": {"type": "ps", "index": 0}}, "chief or worker"),
        ({"cluster": _TWO, "task": {"type": "evaluator", "index": 0}}, "an evaluator does not train"),
        (["cluster"], "is not the JSON of a cluster"),
        ({"cluster": ["localhost:12345"]}, "is not the JSON of a cluster"),
        ({"cluster": {"worker": 2}}, "is not the JSON of a cluster"),
    ],
)
def test_a_tf_config_without_a_task_that_trains_is_refused(config, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    for name in ("auto", "multi_worker"):
        with pytest.raises(InputError, match="TF_CONFIG") as error:
            make_strategy(name)
        assert message in str(error.value)


@pytest.mark.parametrize("config", [{}, {"cluster": {}}, {"cluster": {"worker": ["localhost:12345"]}}])
def test_a_tf_config_of_at_most_one_worker_needs_no_task(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert make_strategy("one_device") is tf.distribute.get_strategy() and not distribution.is_evaluator()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_network")
def test_the_evaluator_of_a_tf_config_watches_the_run_with_the_command_of_the_others(
    unbroken, tmp_path, data_dir, capfd, monkeypatch
):
    copy_run(unbroken, tmp_path)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": _TWO, "task": {"type": "evaluator", "index": 0}}))
    RunConfig.read(unbroken)._replace(eval_every=0.0).write(tmp_path)  # as where the hosts list an evaluator
    flags = ("--model_name=tiny", "--image_size=16", f"--model_dir={tmp_path}", f"--data_dir={data_dir}")
    code, out, err = run(capfd, "train.py", *flags, "--eval_split=train[90%:]")
    assert code == 0, err
    assert f"step {STEPS}" in out and "top_1_accuracy" in out
    assert (tmp_path / "best.keras").exists() and not (tmp_path / ".lock").exists()
