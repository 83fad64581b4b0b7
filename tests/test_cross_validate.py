"""Cross-validation within the training digits: each image is held out once, and no test image is read."""

import functools
import json
import pathlib

import numpy as np
import pytest
from scripts import ROOT, run
from tiny import write_small_network

import mixnet_tf.data
import mixnet_tf.evaluation

_IMAGES = 301  # training digits that the tests use
_SCRIPT = "benchmarks/cross_validate.py"


def _ids(split):
    return _ids_as_read_by(split.read)


@functools.cache
def _ids_as_read_by(read):
    return [example["id"] for example in read().as_numpy_iterator()]


@pytest.fixture
def record(monkeypatch):
    """What the script asks for: the splits it loads, and for each fold and run the images and the averaged weights."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    record = {"loaded": [], "trained": [], "held_out": [], "weights": []}
    load_split, train_batches = mixnet_tf.data.load_split, mixnet_tf.data.train_batches
    build_evaluator = mixnet_tf.evaluation.build_evaluator

    def load(dataset, data_dir, train):
        record["loaded"].append((dataset, train))
        split = load_split(dataset, data_dir, train)
        return split._replace(num_examples=_IMAGES, read=lambda *args: split.read(*args).take(_IMAGES))

    def train(split, recipe, batch_size):
        record["trained"].append((recipe.seed, _ids(split)))
        assert len(record["trained"][-1][1]) == split.num_examples
        return train_batches(split, recipe, batch_size)

    def build(model, split, crop):
        evaluate = build_evaluator(model, split, crop)

        def recorded():
            record["held_out"].append(_ids(split))
            record["weights"].append(model.get_weights())
            result = evaluate()
            assert result["num_images"] == split.num_examples == len(record["held_out"][-1])
            return result

        return recorded

    monkeypatch.setattr(mixnet_tf.data, "load_split", load)
    monkeypatch.setattr(mixnet_tf.data, "train_batches", train)
    monkeypatch.setattr(mixnet_tf.evaluation, "build_evaluator", build)
    return record


def _validate(capfd, data_dir, *flags, epochs=1.3):
    network = pathlib.Path(data_dir, "small.json")
    write_small_network(network)
    settings = (f"--model_name={network}", "--image_size=16", "--train_batch_size=64", "--flip")
    code, out, err = run(capfd, _SCRIPT, *settings, f"--train_epochs={epochs}", f"--data_dir={data_dir}", *flags)
    assert code == 0, err
    return out


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
def test_each_training_image_is_held_out_once_and_no_test_image_is_read(record, data_dir, tmp_path, capfd):
    out = _validate(capfd, data_dir, "--folds=2", "--seeds=2", "--seed=5", f"--output={tmp_path}/cv.json", epochs=0.5)
    assert record["loaded"] == [("digits", True)]
    everything = set(_ids(mixnet_tf.data.load_split("digits", data_dir, True)))
    assert len(everything) == _IMAGES
    for (_, trained), held_out in zip(record["trained"], record["held_out"], strict=True):
        assert sorted(trained + held_out) == sorted(everything)
    assert [seed for seed, _ in record["trained"]] == [5, 6] * 2
    first_seed = record["held_out"][::2]
    assert set().union(*first_seed) == everything and {len(fold) for fold in first_seed} == {150, 151}

    report = json.loads((tmp_path / "cv.json").read_text())
    assert (
        report["recipe"]["flip"] and report["recipe"]["image_size"] == 16 and "cross_validate.py" in report["command"]
    )
    rows = report["rows"]
    assert [(row["fold"], row["seed"]) for row in rows] == [(fold, seed) for fold in range(2) for seed in (5, 6)]
    assert {row["steps"] for row in rows} == {1} and all(row["seconds"] > 0 for row in rows)
    accuracies = [row["top_1_accuracy"] for row in rows]
    assert report["mean"] == pytest.approx(np.mean(accuracies))
    assert report["standard_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert (report["lowest"], report["highest"]) == (min(accuracies), max(accuracies))
    assert f"mean {report['mean']:.2%}" in out


@pytest.mark.soak
def test_a_run_is_the_same_alone_as_after_others(record, data_dir, capfd):
    _validate(capfd, data_dir, "--folds=2", "--seeds=2", "--seed=0")
    _validate(capfd, data_dir, "--folds=2", "--seeds=1", "--seed=1")
    (first, second, _, last), (alone, last_alone) = record["weights"][:4], record["weights"][4:]
    for after_others, by_itself in [(second, alone), (last, last_alone)]:
        for a, b in zip(after_others, by_itself, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert any(np.abs(a - b).max() > 1e-2 for a, b in zip(first, second, strict=True))
