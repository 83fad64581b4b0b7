"""Exported files on LiteRT's GPU code, on a GPU of software: answers and dispatches; and what a file costs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from exported_digits import row
from scripts import ROOT, run

from mixnet_tf import multiply_adds
from mixnet_tf.export import Detector, ExportOptions, gates, quantize
from mixnet_tf.export.convert import convert_function, to_tflite
from mixnet_tf.export.costs import costs_of
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.rewrite import AsWritten

sys.path.append(str(ROOT / "benchmarks"))
from accelerators import software_gpu

_COMMAND = "benchmarks/accelerators/gpu.py"
SOAK = pytest.mark.soak


@pytest.mark.parametrize("format_name", ["fp32", "fp16"])
def test_the_costs_of_a_file_are_those_of_its_ops_and_constants_are_free(format_name):
    rng = np.random.default_rng(0)
    full, depthwise, dense = (rng.normal(size=size).astype("float32") for size in ((3, 3, 4, 6), (5, 5, 6, 1), (6, 7)))

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 4), tf.float32)], autograph=False)
    def function(x):
        x = tf.nn.depthwise_conv2d(tf.nn.conv2d(x, full, 2, "SAME"), depthwise, (1, 1, 1, 1), "SAME")
        return tf.reduce_mean(x, (1, 2)) @ dense

    costs = costs_of(convert_function(function, quantize.configure(format_name)))
    maps, values = 4 * 4 * 6, 6
    assert costs.ops == 4
    assert costs.multiply_adds == maps * 3 * 3 * 4 + maps * 5 * 5 + 6 * 7
    assert costs.activation_bytes == 4 * ((8 * 8 * 4 + maps) + (maps + maps) + (maps + values) + (values + 7))


def test_a_plain_conversion_has_the_multiply_adds_of_keras(untrained):
    assert costs_of(to_tflite(AsWritten(untrained), 32)).multiply_adds == multiply_adds(untrained)


def test_without_a_gpu_of_software_one_line_says_how_to_make_it(capfd, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="make gpu-check"):
        software_gpu.check(tmp_path / "none")
    code, _, err = run(capfd, _COMMAND, f"--files={tmp_path}/a.tflite")
    assert code == 2 and f"{tmp_path}/a.tflite" in err
    code, _, err = run(capfd, _COMMAND, "--models=mixnet-s", "--forms=flat")
    assert code == 2 and "flat" in err and "plain" in err
    (tmp_path / "a.tflite").touch()
    code, _, err = run(capfd, _COMMAND, f"--files={tmp_path}/a.tflite", f"--gpu={tmp_path}/none")
    assert code == 2 and "make gpu-check" in err


def test_what_is_missing_is_named_where_it_cannot_be_installed(tmp_path):
    """A user without gcc who is not root."""
    for name in ("sh", "dirname"):
        os.symlink(f"/bin/{name}" if name == "sh" else f"/usr/bin/{name}", tmp_path / name)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    command = ["sh", ROOT / "benchmarks/accelerators/build_gpu.sh", tmp_path / "gpu"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not (tmp_path / "gpu").exists()
    [line] = done.stderr.splitlines()
    assert line.startswith("make gpu-check needs Debian's") and line.endswith("gcc libc6-dev")


@SOAK
@pytest.mark.parametrize(("name", "dispatches"), [("fp32", 116), ("fp16", 116), ("int8", 124), ("int8_full", 124)])
def test_a_classifier_of_digits_passes_its_gates_on_a_gpu(name, dispatches, exported, trained, digits, gpu_folder):
    """The gates of the CPU, on all test images."""
    images, labels = digits[False].images, digits[False].labels
    content = (exported[0] / row(exported, name)["file"]).read_bytes()
    ran = software_gpu.run(content, images, gpu_folder)
    assert ran.accelerated and ran.refused == [] and ran.dispatches == dispatches
    answers = ran.outputs["probabilities"]
    failures, _ = gates.judge(name, gates.compare(trained.predict(images, verbose=0), answers, labels))
    assert failures == []
    of_cpu = software_gpu.here(content, images)["probabilities"]
    if "int8" in name:  # a GPU computes in floats and rounds what falls between two steps to either of them
        assert (answers.argmax(-1) == of_cpu.argmax(-1)).mean() >= 0.99
        assert (np.abs(answers - of_cpu) > 1.5 / 256).mean() <= 0.02
    else:
        np.testing.assert_allclose(answers, of_cpu, rtol=0, atol=1e-5)


@SOAK
def test_a_detector_without_postprocessing_passes_its_gates_on_a_gpu(detector, pictures, gpu_folder, tmp_path):
    task = Detector(detector, ExportOptions(postprocess="none"))
    ran = software_gpu.run(Graphs(task, pictures, str(tmp_path)).convert("fp32"), pictures, gpu_folder)
    assert ran.accelerated and ran.dispatches == 109
    assert gates.judge_values("fp32", gates.compare_values(task.answers(pictures), ran.outputs)) == []


@SOAK
def test_the_cpu_runs_the_postprocessing_that_a_gpu_refuses(detector, pictures, gpu_folder, tmp_path):
    task = Detector(detector, ExportOptions(postprocess="nms"))
    content = Graphs(task, pictures, str(tmp_path)).convert("fp32")
    ran = software_gpu.run(content, pictures[:2], gpu_folder)
    [refused] = ran.refused
    assert not ran.accelerated and "TFLite_Detection_PostProcess" in refused and ran.dispatches == 108
    for name, expected in software_gpu.here(content, pictures[:2]).items():
        np.testing.assert_allclose(ran.outputs[name], expected, atol=1e-4, err_msg=name)


@SOAK
def test_the_command_counts_what_each_file_asks_of_a_gpu(exported, gpu_folder, capfd, tmp_path):
    path = exported[0] / row(exported, "fp32")["file"]
    report = tmp_path / "gpu.json"
    code, out, err = run(capfd, _COMMAND, f"--files={path}", f"--gpu={gpu_folder}", f"--json={report}")
    assert code == 0, err
    [found] = json.loads(report.read_text())["rows"]
    assert found["file"] == path.name and path.name in out
    assert (found["dispatches"], found["accelerated"], found["ops"]) == (
        116,
        True,
        sum(row(exported, "fp32")["ops"].values()),
    )
    assert 0 < found["difference"] <= 1e-4
