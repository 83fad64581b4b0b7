"""The comparison of a search's networks: which networks it trains, on which split, and what it refuses."""

import json

import pytest
from scripts import run

from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.runs import RunConfig

_SCRIPT = "studies/found_networks.py"
_NETWORKS = {kernels: [f"r1_k{kernels}_a1_p1_s22_e1_i8_o8"] for kernels in ("3", "5", "7", "3.5", "3.5.7")}


def _row(kernels, cost, cross_entropy):
    return {"blocks": _NETWORKS[kernels], "multiply_adds": cost, "cross_entropy": cross_entropy}


_FRONT = {
    "cost": "multiply-adds",
    "mixnet-s": [_row("3.5.7", 50, 1.5)],
    "tried": [_row("7", 60, 1.0), _row("5", 50, 1.2), _row("3", 20, None)],
    "random": [_row("3", 20, 1.4), _row("3.5", 40, 1.3), _row("7", 60, 1.1)],
}


@pytest.fixture
def searched(tmp_path):
    """The folder of a search."""
    recipe = RECIPES["digits"]._replace(image_size=16, train_batch_size=256, train_steps=2)
    config = {
        "recipe": recipe._asdict(),
        "dataset": "digits",
        "train_split": "train",
        "space": {"params": {"feature_size": 16, "num_classes": 10}},
    }
    (tmp_path / "search.json").write_text(json.dumps(config))
    (tmp_path / "front.json").write_text(json.dumps(_FRONT))
    return tmp_path


def _compare(capfd, searched, data_dir, *flags):
    folders = (f"--search_dir={searched}", f"--model_dir={searched}/found", f"--data_dir={data_dir}")
    return run(capfd, _SCRIPT, *folders, *flags)


@pytest.mark.soak
def test_the_best_that_cost_no_more_than_mixnet_s_are_trained_on_the_whole_split(searched, data_dir, capfd):
    code, out, err = _compare(capfd, searched, data_dir, "--seeds=1")
    assert code == 0, err
    assert "Found networks: 3 runs of 2 steps, 512 images; 0 are finished." in out
    report = json.loads((searched / "found" / "found.json").read_text())
    expected = {"found": _FRONT["tried"][1], "random": _FRONT["random"][1], "mixnet-s": _FRONT["mixnet-s"][0]}
    assert {name: row["searched"] for name, row in report["networks"].items()} == expected
    for name, row in expected.items():
        config = RunConfig.read(searched / "found" / name / "seed-0")
        assert config.network["blocks"] == row["blocks"]
        assert (config.train_split, config.num_train_images, config.eval_split) == ("train", 1437, "test")
    code, out, err = _compare(capfd, searched, data_dir, "--seeds=1")
    assert code == 0 and "3 are finished" in out, err


@pytest.mark.parametrize(
    "change, message",
    [
        ({"random": []}, "the search has no random networks; finish it with --random_baseline"),
        ({"random": [_row("7", 60, 1.1)]}, "no network of 'random' costs at most 50, as MixNet-S's pattern"),
    ],
)
def test_a_search_without_what_is_compared_is_one_line(change, message, searched, data_dir, capfd):
    (searched / "front.json").write_text(json.dumps({**_FRONT, **change}))
    code, _, err = _compare(capfd, searched, data_dir)
    assert code == 2 and message in err
    code, _, err = run(capfd, _SCRIPT, f"--search_dir={searched}/nothing")
    assert code == 2 and "There is no file" in err
