"""The study of kernel sizes: it trains the networks of a figure one by one, resumes, reports and draws."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_run
from scripts import ROOT, run
from tiny import values

from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import count_parts, network_content, stages_and_params, unroll
from mixnet_tf.networks.layers import MixConv
from mixnet_tf.saved_models import load_keras_file
from mixnet_tf.training import RunOptions, train

_SCRIPT = "studies/kernel_sizes.py"
_NETWORK = {
    "blocks": ["r1_k3_a1_p1_s22_e1_i8_o8", "r2_k3_a1_p1_s11_e2_i8_o8", "r1_k3_a1_p1_s11_e1_i8_o8"],
    "params": {"stem_size": 8, "feature_size": 16},
}
_RECIPE = RECIPES["digits"]._replace(image_size=16, train_batch_size=256, train_epochs=1.0, warmup_epochs=0.0)
_SHORT = ("--image_size=16", "--train_batch_size=256", "--train_epochs=1", "--warmup_epochs=0", "--deterministic")


@pytest.fixture(scope="module", autouse=True)
def figures():
    """The module `studies/figures.py`."""
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(ROOT / "studies"))
    import figures

    yield figures
    sys.path.remove(str(ROOT / "studies"))


@pytest.fixture
def small(tmp_path):
    """A base network that trains in a moment."""
    (tmp_path / "small.json").write_text(json.dumps(_NETWORK))
    return tmp_path / "small.json"


def _study(capfd, small, data_dir, *flags):
    common = (f"--networks={small}", "--dataset=digits", f"--data_dir={data_dir}", *_SHORT)
    return run(capfd, _SCRIPT, *common, f"--model_dir={small.parent}/study", *flags)


def _paper(figure):
    import drawing

    return drawing.paper_networks(figure)


@pytest.mark.parametrize("network", ["mobilenet-v1", "mobilenet-v2"])
@pytest.mark.parametrize("figure", [1, 4, 6])
def test_each_network_adds_the_multiply_adds_that_the_papers_dot_does(figure, network, figures):
    curves = {}
    for point in figures.variations(figure, network):
        cost = sum(part.multiply_adds for part in count_parts(point.stages, point.params))
        curves.setdefault(point.series, []).append((point.place, cost))
    paper = _paper(figure)[network]
    assert list(curves) == list(paper) == list(figures.SERIES[figure])
    for series, points in curves.items():
        dots = [(dot["place"], dot["multiply_adds"]) for dot in paper[series]]
        assert [place for place, _ in points] == [place for place, _ in dots]
        for (_, ours), (_, theirs) in zip(points, dots, strict=True):
            assert (ours - points[0][1]) == pytest.approx(theirs - dots[0][1], abs=3.2e6)  # read off a picture


def test_figures_of_one_folder_share_their_networks(figures):
    names = {figure: [point.name for point in figures.variations(figure, "mobilenet-v1", 7)] for figure in (1, 4, 6)}
    assert names[1] == ["k3", "k5", "k7"]
    assert names[4] == ["k3", "k5", "k7", "k3", "k3.5", "k3.5.7"]
    assert names[6][3:] == ["k3", "k3.5-exponential", "k3.5.7-exponential", "k3", "k3.5-dilated", "k3.5.7-dilated"]


def test_figure_5_changes_one_of_fifteen_layers(figures):
    base, *points = figures.variations(5, "mobilenet-v2")
    assert (base.series, base.name) == ("base", "k3")
    plain = unroll(base.stages, base.params)
    assert unroll(*stages_and_params("mobilenet-v2")) == plain
    assert len(points) == 2 * 15 and {point.series for point in points} == {"9x9", "3.5.7.9"}
    kernels = {"9x9": (9,), "3.5.7.9": (3, 5, 7, 9)}
    for point in points:
        changed = plain.copy()
        changed[point.place + 1] = changed[point.place + 1]._replace(dw_ksize=kernels[point.series])
        assert unroll(point.stages, point.params) == changed
    # Where the paper marks a stride of 2 a stage starts, with these strides.
    assert [plain[layer + 1].strides[0] for layer in (0, 2, 5, 9, 12)] == [2, 2, 2, 1, 2]
    assert {series: len(curve) for series, curve in _paper(5)["mobilenet-v2"].items()} == {
        "base": 1,
        "9x9": 15,
        "3.5.7.9": 15,
    }


def test_figure_5_keeps_a_networks_width(tmp_path, figures):
    network = {**_NETWORK, "params": {**_NETWORK["params"], "depth_multiplier": 1.5}}
    (tmp_path / "wide.json").write_text(json.dumps(network))
    base, *points = figures.variations(5, str(tmp_path / "wide.json"))
    widths = [block.output_filters for block in unroll(base.stages, base.params)]
    assert widths == [12 // 8 * 8 + 8] * 4  # round_filters: 12 to the next multiple of 8
    for point in points:
        assert [block.output_filters for block in unroll(point.stages, point.params)] == widths


@pytest.mark.soak
def test_a_study_is_interrupted_resumed_reported_and_drawn(small, data_dir, monkeypatch, capfd):
    folder = small.parent / "study"
    figure_1 = ("--figure=1", "--largest_kernel=5", "--seeds=2", "--steps_per_loop=2")
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 4, signal.SIGTERM)
        code, out, err = _study(capfd, small, data_dir, *figure_1)
    assert code == 75, err
    assert "Figure 1: 4 runs of 5 steps, 1,280 images; 0 are finished." in out and "Saved at step 4 of 5" in out

    code, out, err = _study(capfd, small, data_dir, *figure_1)
    assert code == 0, err
    assert "Resuming from" in out and "Run 4 of 4: small-k5, seed 1, about 0 min left" in out
    report = json.loads((folder / "figure-1.json").read_text())
    assert (report["figure"], report["dataset"], report["train_images"]) == (1, "digits", 1437)
    assert report["recipe"]["train_batch_size"] == 256 and "--figure=1" in report["command"]
    [points] = report["networks"]["small"].values()
    assert [(point["place"], point["name"]) for point in points] == [(3, "k3"), (5, "k5")]
    for point in points:
        assert [row["seed"] for row in point["runs"]] == [0, 1]
        accuracies = [row["top_1_accuracy"] for row in point["runs"]]
        assert point["mean"] == statistics.mean(accuracies)
        assert point["standard_deviation"] == statistics.stdev(accuracies)
        assert all((row["step"], row["num_images"], row["split"]) == (5, 360, "test") for row in point["runs"])
        model = load_keras_file(f"{point['runs'][0]['model_dir']}/final.keras")
        sizes = {tuple(layer.kernel_size) for layer in model.layers if isinstance(layer, MixConv)}
        assert sizes == {(point["place"],)}
        assert point["parameters"] == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (folder / "figure-1.png").read_bytes().startswith(b"\x89PNG")

    # The same as one run of train.py.
    options = RunOptions(str(small.parent / "alone"), data_dir, deterministic=True)
    network = folder / "networks" / "small-k5.json"
    assert train(network, "digits", _RECIPE._replace(seed=1), options) == 0
    alone = values(load_keras_file(str(small.parent / "alone" / "final.keras")))
    studied = values(load_keras_file(f"{points[1]['runs'][1]['model_dir']}/final.keras"))
    for value, other in zip(studied, alone, strict=True):
        np.testing.assert_array_equal(value, other)

    # Another figure in the folder trains what it does not share.
    before = (folder / "small-k3" / "seed-0" / "final.keras").stat().st_mtime_ns
    code, out, err = _study(capfd, small, data_dir, "--figure=4", "--largest_kernel=5", "--seeds=1")
    assert code == 0, err
    assert "Figure 4: 3 runs of 5 steps, 1,280 images; 2 are finished." in out and "Run 1 of 1: small-k3.5," in out
    assert (folder / "small-k3" / "seed-0" / "final.keras").stat().st_mtime_ns == before
    curves = json.loads((folder / "figure-4.json").read_text())["networks"]["small"]
    assert curves["one size"][0]["runs"] == curves["mixed"][0]["runs"] and len(curves["mixed"]) == 2
    assert curves["mixed"][0]["standard_deviation"] is None

    # A run of another configuration is found before any is trained.
    code, _, err = _study(capfd, small, data_dir, "--figure=4", "--largest_kernel=7", "--seeds=1", "--flip")
    assert code == 2 and "small-k3/seed-0 is of another configuration" in err and "flip: False there, True now" in err
    assert not (folder / "small-k7").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        ((), "figure"),
        (("--figure=2",), "should be one of"),
        (("--figure=4", "--networks=dreamt"), "Unknown model 'dreamt'"),
        (("--figure=1", "--largest_kernel=4"), "expected an odd number from 3"),
        (("--figure=4", "--dataset=dreamt"), "Unknown dataset 'dreamt'"),
    ],
)
def test_a_study_that_cannot_be_is_one_line(flags, message, tmp_path, capfd):
    code, out, err = run(capfd, _SCRIPT, f"--model_dir={tmp_path}/study", *flags)
    assert code != 0 and message in out + err and "Traceback" not in err
    assert not (tmp_path / "study").exists()


def test_figure_5_refuses_a_network_without_layers_between(tmp_path, figures):
    stages, params = stages_and_params(None, _NETWORK["blocks"][:1], _NETWORK["params"])
    (tmp_path / "one.json").write_text(json.dumps(network_content(stages, params)))
    with pytest.raises(ValueError, match="needs a network of at least 3 blocks; .*one.json has 1"):
        figures.variations(5, str(tmp_path / "one.json"))


@pytest.mark.parametrize("figure", [4, 5, 6])
def test_every_figure_is_drawn_beside_the_papers(figure, tmp_path, figures):
    import drawing

    networks = {}
    for point in figures.variations(figure, "mobilenet-v2"):
        drawn = {"place": point.place, "multiply_adds": 3e8, "parameters": 3e6, "mean": 0.7, "runs": [{}]}
        networks.setdefault("mobilenet-v2", {}).setdefault(point.series, []).append(drawn)
    drawing.draw({"figure": figure, "dataset": "digits", "networks": networks}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.soak
def test_two_replicas_train_one_network_after_the_other(small, data_dir, capfd):
    flags = ("--figure=1", "--largest_kernel=5", "--seeds=1", "--strategy=mirrored")
    code, out, err = _study(capfd, small, data_dir, *flags)
    assert code == 0, err
    assert "Run 2 of 2" in out


@pytest.mark.soak
def test_a_study_killed_at_random_moments_ends_bit_equal(small, data_dir, capfd):
    flags = ("--figure=4", "--largest_kernel=5", "--seeds=1", "--steps_per_loop=1", "--checkpoint_steps=2")
    code, _, err = _study(capfd, small, data_dir, *flags)
    assert code == 0, err
    killed = small.parent / "killed"
    command = [
        *(sys.executable, str(ROOT / _SCRIPT), f"--networks={small}", "--dataset=digits", f"--data_dir={data_dir}"),
        *(*_SHORT, *flags, f"--model_dir={killed}"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    random = np.random.RandomState(0)
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.startswith("Run "):
                break
        time.sleep(random.uniform(1, 12))
        process.kill()
        process.communicate()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("small-k3", "small-k5", "small-k3.5"):
        one, other = (
            values(load_keras_file(str(folder / name / "seed-0" / "final.keras")))
            for folder in (small.parent / "study", killed)
        )
        for value, expected in zip(other, one, strict=True):
            np.testing.assert_array_equal(value, expected)
