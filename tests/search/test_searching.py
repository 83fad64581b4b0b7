"""The search command: it measures networks, is interrupted and resumed, refuses bad input, and writes a front."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from scripts import ROOT, run
from short_search import LARGE, RECIPE, SPACE, STEPS

import mixnet_tf
from mixnet_tf.data import DATA_VERSION
from mixnet_tf.networks import count_parts
from mixnet_tf.runs import RunConfig
from mixnet_tf.search import SearchSpace, costs, front, measuring, searching
from mixnet_tf.training import read_metrics

_SHORT = ("--dataset=digits", "--image_size=16", "--train_batch_size=64", f"--estimate_steps={STEPS}", "--population=3")


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return tmp_path / "space.json"


@pytest.fixture
def held_out_once(data, monkeypatch):
    """Searches that hold out as many images as `data` take it, where each would read all images to choose them."""
    hold_out = searching.hold_out
    monkeypatch.setattr(searching, "hold_out", lambda *asked: data if asked[1] == 0.2 else hold_out(*asked))


@pytest.fixture
def trained_once(short, digits_space, data, monkeypatch):
    """All searches share one short training, which resets its weights for each network."""

    def same(space, own_data, recipe, steps):
        assert space.encode() == digits_space.encode() and space.global_params == digits_space.global_params
        assert [own.num_examples for own in own_data] == [split.num_examples for split in data]
        assert (recipe, steps) == (RECIPE, STEPS)
        return short

    monkeypatch.setattr(searching, "ShortTraining", same)


def _flags(space, data_dir, *flags):
    return (f"--space={space}", f"--data_dir={data_dir}", f"--search_dir={space.parent / 'search'}", *_SHORT, *flags)


def _report(space):
    return json.loads((space.parent / "search" / "front.json").read_text())


@pytest.mark.soak
def test_a_search_is_interrupted_resumed_and_leaves_a_front_of_networks(
    space, data_dir, held_out_once, trained_once, monkeypatch, capfd
):
    pytest.importorskip("matplotlib")
    measure, calls = measuring.Measurement.__call__, []

    def interrupting(self, choice):
        calls.append(tuple(choice))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, choice)

    monkeypatch.setattr(measuring.Measurement, "__call__", interrupting)
    flags = _flags(space, data_dir, "--evaluations=3")
    code, _, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 75, err
    assert [tuple(row["choice"]) for row in _report(space)["tried"]] == calls == [(0, 0, 0, 0, 0), LARGE]
    code, out, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 0, err
    assert "Searching: 3/3 networks, front " in out and "mixnet_tf" not in err and "Next: python train.py" in out

    report = _report(space)
    tried = [tuple(row["choice"]) for row in report["tried"]]
    assert len(tried) == len(set(tried)) == 3
    assert calls[-1] == (0, 1, 2, 1, 1) and report["mixnet-s"][0]["blocks"] == [
        "r1_k3_a1_p1_s22_e1_i8_o8",
        "r2_k3.5.7_a1_p1_s11_e6_i8_o8_se0.5_sw",
    ]
    assert report["ranking"] == "not checked" and len(calls) == 4
    assert (space.parent / "search" / "front.png").read_bytes().startswith(b"\x89PNG")
    front = sorted((space.parent / "search" / "front").iterdir())
    assert [f"front/{path.name}" for path in front] == [row["file"] for row in report["front"]]
    for path, row in zip(front, report["front"], strict=True):
        model = mixnet_tf.build_model(path, input_shape=(16, 16, 3))
        assert mixnet_tf.multiply_adds(model) == row["multiply_adds"]
        assert model.output_shape == (None, 10)
        assert not any(
            other["multiply_adds"] <= row["multiply_adds"] and other["cross_entropy"] < row["cross_entropy"]
            for other in report["tried"]
        )

    code, _, err = run(capfd, "-m mixnet_tf.search", *flags, "--estimate_steps=5", "--held_out=0.3")
    assert code == 2
    assert "is of another search; name another search_dir." in err
    assert "held_out: 0.2 there, 0.3 here" in err and "estimate_steps: 3 there, 5 here" in err


def test_a_stale_network_file_that_another_worker_removes_first_is_no_error(space, tmp_path, monkeypatch):
    stale, gone, remove = tmp_path / "front" / "07.json", [], tf.io.gfile.remove
    stale.parent.mkdir()
    stale.write_text("{}")

    def remove_after_another_worker(path):
        remove(path)
        gone.append(path)
        remove(path)

    monkeypatch.setattr(tf.io.gfile, "remove", remove_after_another_worker)
    trial = front.Trial((0, 0, 0, 0, 0), 1.0, {"cross_entropy": 1.0})
    studies = {"search": [trial]}
    front.write_front(SearchSpace.read(space).with_classes(10), studies, str(tmp_path), 16, costs.MULTIPLY_ADDS)
    assert gone == [str(stale)] and [path.name for path in stale.parent.iterdir()] == ["00.json"]


@pytest.mark.soak
def test_a_worker_that_holds_out_other_images_is_refused_and_a_search_of_0_2_0_keeps_its_rule(
    space, data_dir, monkeypatch, capfd
):
    pytest.importorskip("matplotlib")
    flags = _flags(space, data_dir, "--evaluations=2")
    code, _, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 0, err
    path = space.parent / "search" / "search.json"
    config = json.loads(path.read_text())
    assert config["data_version"] == DATA_VERSION and len(config["held_out_digest"]) == 16
    path.write_text(json.dumps({**config, "held_out_digest": "0" * 16}))
    code, _, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 2 and f"held_out_digest: '{'0' * 16}' there, '{config['held_out_digest']}' here" in err

    path.write_text(json.dumps({k: v for k, v in config.items() if k not in ("data_version", "held_out_digest")}))
    code, _, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 0, err
    again = json.loads(path.read_text())
    assert again["data_version"] == 0 and again["held_out_digest"] is None


@pytest.mark.soak
def test_a_supernet_is_trained_once_and_measures_all_and_networks_drawn_at_random(
    space, data_dir, held_out_once, monkeypatch, capfd
):
    made, shared_weights = [], searching.SharedWeights
    monkeypatch.setattr(searching, "SharedWeights", lambda *args: made.append(shared_weights(*args)) or made[0])
    space.write_text(json.dumps({**SPACE, "blocks": ["r1_k3|5|7|3.5_a1_p1_s22_e1_i8_o8"]}))
    flags = _flags(space, data_dir, "--estimate=supernet", "--train_steps=4")
    code, out, err = run(capfd, "-m mixnet_tf.search", *flags, "--evaluations=2")
    assert code == 0, err
    assert "Training: 4/4 steps" in out
    rows = (space.parent / "search" / "supernet" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 4
    monkeypatch.setattr(searching, "SharedWeights", lambda *_: made[0])  # a second one would be traced again
    code, out, err = run(capfd, "-m mixnet_tf.search", *flags, "--evaluations=3", "--random_baseline")
    assert code == 0, err
    report = _report(space)
    assert "Training" not in out and len(report["tried"]) == len(report["random"]) == 3
    assert report["hypervolume"]["networks"] == 3 and 0 < report["hypervolume"]["search"] < 1


@pytest.mark.soak
def test_the_ranking_is_checked_by_whole_trainings_that_are_not_repeated(space, data_dir, capfd):
    flags = _flags(space, data_dir, "--evaluations=2", "--train_steps=3", "--check_ranking=5")
    code, out, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 0, err
    assert "Network 5 of 5 by the whole recipe" in out and "Kendall's tau with 5 whole trainings" in out
    found = json.loads((space.parent / "search" / "ranking.json").read_text())
    assert _report(space)["ranking"] == {name: found[name] for name in ("networks", "estimate", "multiply_adds")}
    assert found["networks"] == 5 and -1 <= found["estimate"]["low"] <= found["estimate"]["tau"] <= 1
    for row in found["trained"]:
        folder = space.parent / "search" / "ranking" / "-".join(map(str, row["choice"]))
        assert RunConfig.read(folder).network["blocks"] == row["blocks"]
        assert read_metrics(folder)[-1]["step"] == 3
    code, out, err = run(capfd, "-m mixnet_tf.search", *flags)
    assert code == 0 and "by the whole recipe" not in out, err
    assert json.loads((space.parent / "search" / "ranking.json").read_text())["trained"] == found["trained"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--held_out=1",), "expected a number above 0 and below 1"),
        (("--max_cost=0",), "expected a number above 0"),
        (("--freeze=bn",), "freeze='bn': a search trains networks from random weights"),
        (("--class_weights=balanced",), "class_weights='balanced': a search compares networks without"),
        (("--search_dir=gs://bucket/search",), "is on remote storage, where SQLite keeps no study; give --storage"),
        (("--space=mixnet-x",), "mixnet-x"),
        (("--latency_table=phone.json",), "latency_table goes with cost='latency'; received cost='multiply-adds'"),
        (("--cost=latency", "--latency_table=missing.json"), "There is no file missing.json"),
        (("--storage=nothing://x",), "storage: 'nothing://x' cannot be opened"),
        (("--population=1",), "population"),
        (("--check_ranking=4",), "check_ranking: expected 0 or a whole number from 5; received 4"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(flags, message, space, data_dir, capfd):
    code, _, err = run(capfd, "-m mixnet_tf.search", *_flags(space, data_dir), *flags)
    assert code != 0 and message in err
    assert not (space.parent / "search" / "front.json").exists()


def test_latency_is_the_sum_over_blocks_that_are_measured_once(space, data_dir, tmp_path, monkeypatch):
    measured = []

    def measuring(models, runs=30):
        measured.extend(models)
        return {name: float(model.count_params()) for name, model in models.items()}

    monkeypatch.setattr(costs, "litert_latencies", measuring)
    searched = SearchSpace.read(space)
    table = costs.LatencyTable(searched, 16, tmp_path / "latencies.json")
    for choice in ((0, 0, 0, 0, 0), (0, 1, 0, 0, 0), (1, 1, 2, 1, 1), (0, 0, 0, 0, 0)):
        stages = searched.stages_of(choice)
        rows = count_parts(stages, searched.global_params, 16)
        assert table(choice) == sum(row.parameters for row in rows)
    assert len(measured) == len(set(measured))
    assert "stem @ 16" in measured and "head @ 4" in measured and "r1_k3_a1_p1_s22_e1_i8_o8 @ 8" in measured
    monkeypatch.setattr(costs, "litert_latencies", None)
    assert costs.LatencyTable(searched, 16, tmp_path / "latencies.json")((1, 1, 2, 1, 1)) == table((1, 1, 2, 1, 1))
    given = tmp_path / "phone.json"
    given.write_text(json.dumps({"stem @ 16": 1.0}))
    with pytest.raises(ValueError, match="has no time of 'r1_k3_a1_p1_s22_e1_i8_o8 @ 8'; measure it"):
        costs.LatencyTable(searched, 16, tmp_path / "latencies.json", given)((0, 0, 0, 0, 0))
    given.write_text("[1]")
    with pytest.raises(ValueError, match="expected a JSON object of milliseconds by block"):
        costs.LatencyTable(searched, 16, tmp_path / "latencies.json", given)


@pytest.mark.soak
def test_a_search_by_latency_measures_the_front_as_a_whole(space, data_dir, capfd):
    code, out, err = run(
        capfd, "-m mixnet_tf.search", *_flags(space, data_dir, "--cost=latency", "--evaluations=3", "--image_size=32")
    )
    assert code == 0, err
    assert " ms, " in out
    for row in _report(space)["front"]:
        assert 0.3 < row["latency_ms"] / row["whole_latency_ms"] < 3
    assert (space.parent / "search" / "latencies.json").exists()


@pytest.mark.soak
def test_a_search_killed_twice_loses_nothing_and_two_workers_share_it(space, data_dir):
    command = [sys.executable, "-m", "mixnet_tf.search", *_flags(space, data_dir, "--evaluations=14")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start():
        return subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill(process, delay):
        for line in process.stdout:
            if line.startswith("Searching: "):
                break
        time.sleep(delay)
        process.kill()
        process.communicate()

    kill(start(), np.random.RandomState(0).uniform(0, 5))
    workers = [start(), start()]
    kill(workers[0], 0)
    workers[0] = start()
    for worker in workers:
        out, _ = worker.communicate(timeout=900)
        assert worker.returncode == 0, out
    tried = [tuple(row["choice"]) for row in _report(space)["tried"]]
    assert len(set(tried)) == len(tried) >= 14
    assert {(0, 0, 0, 0, 0), (1, 1, 2, 1, 1)} <= set(tried)
