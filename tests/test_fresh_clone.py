"""Every target of the Makefile runs once in a fresh clone of the committed files, with long work shortened."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
from scripts import ROOT
from tiny import DETECTOR_NETWORK

_COLLECT = ("--collect-only", "-q", "tests/test_files.py", "tests/test_documents.py", "tests/export/test_int8.py")
# Flags that are added, by script or module.
_SHORT = {
    "train.py": ("--model_name=small.json", "--train_steps=2", "--warmup_epochs=0"),
    "export_tflite.py": ("--num_images=8", "--calibration_images=8", "--latency_runs=0", "--allow_accuracy_drop"),
    "studies/kernel_sizes.py": ("--networks=small.json", "--largest_kernel=5", "--seeds=1", "--train_steps=2"),
    "mixnet_tf.search": ("--evaluations=2", "--population=2", "--estimate_steps=2"),
    "examples/web/serve.py": ("--noserve",),
    "benchmarks/bench_input.py": ("--images=32", "--rounds=1", "--image_size=32"),
    "benchmarks/bench_train.py": ("--models=small.json", "--noefficientnet", "--rounds=1", "--loop_steps=1"),
    "benchmarks/bench_depthwise.py": ("--runs=2",),
    "benchmarks/bench_tflite.py": ("--models=mixnet-s", "--others=", "--formats=fp32", "--runs=2", "--image_size=32"),
    "benchmarks/accelerators/gpu.py": ("--models=mixnet-s", "--image_size=32", "--images=1"),
    "benchmarks/bench_rivals.py": ("--cores=cortex-a76",),
    "benchmarks/accelerators/npu.py": ("--models=mixnet-s", "--image_size=32", "--soc_models=SM8750"),
    "benchmarks/tpu/table.py": ("--topology=v6e",),  # of which there is no result
    "pytest": _COLLECT,
}
# Target: words that it says. In the order of what each needs from those before; clean goes last.
_SAYS = {
    "lint": "Success: no issues found",
    "demo": "Wrote runs/demo/report/report.html",
    "detection-demo": "Wrote runs/detection-demo/scenes.png",
    "study": "Wrote runs/study/figure-4.json",
    "search": "Next: python train.py",
    "web": "",
    "docs": "",
    "test": "tests collected",
    "test-fast": "tests collected",
    "soak": "tests collected",
    "soak-training": "tests collected",
    "seeds": "tests collected",
    "bench": "mixnet-s split fp32",
    "arm64": "cortex-a53",
    "rivals": "LiteRT, ours, int8",
    "gpu-check": "mixnet-s split fp32",
    "npu-check": "mixnet-s split int8_full",
    "tpu": "cycles an image",
    "tpu-table": "not measured",
    "verify-weights": "",
    "clean": "",
}
_PYTHON = """#!{python}
import json, os, sys
arguments = sys.argv[1:]
called = arguments[1] if arguments[0] == "-m" else arguments[0]
os.execv({python!r}, [{python!r}, *arguments, *json.loads({short!r}).get(called, ())])
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory, small_scenes):
    """The files under version control, a .venv of this Python whose long work is short, and a few scenes to detect."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone of the repository")
    folder = tmp_path_factory.mktemp("clone") / "mixnet_tf"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "small.json").write_text(json.dumps(DETECTOR_NETWORK))
    tools, bin_folder = sysconfig.get_path("scripts"), folder / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("ruff", "lint-imports", "mypy", "sphinx-build"):
        (bin_folder / name).symlink_to(os.path.join(tools, name))
    _write(bin_folder / "python", _PYTHON.format(python=sys.executable, short=json.dumps(_SHORT)))
    _write(bin_folder / "npm", "#!/bin/sh\nmkdir -p examples/web/node_modules/@litertjs/core\n")  # no network in tests
    installed = folder / ".venv" / "installed" / "tensorflow"
    installed.mkdir(parents=True)
    shutil.copytree(small_scenes, folder / "data")
    for extras in re.findall(r"\$\(INSTALLED\)/([a-z,]+)", (ROOT / "Makefile").read_text()):
        (installed / extras).touch()
    return folder


def _write(path, text):
    path.write_text(text)
    path.chmod(0o755)


def _make(clone, target):
    """What `make target` writes, and its exit code."""
    environment = {name: value for name, value in os.environ.items() if name not in ("TF", "MAKEFLAGS", "MAKELEVEL")}
    environment |= {
        "PYTHONPATH": str(clone),
        "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}",
        "KERAS_HOME": str(clone / "keras"),
        "MIXNET_TF_WEIGHTS_URL": "http://127.0.0.1:9",  # where nobody listens
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        ["make", target, f"PYTHON={clone}/.venv/bin/python"],
        cwd=clone, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_every_target_has_its_words():
    [line] = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {*line.split(), "soak-training"} == set(_SAYS) and list(_SAYS)[-1] == "clean"


@pytest.mark.soak
@pytest.mark.parametrize("target", list(_SAYS))
def test_a_target_works_in_a_fresh_clone(target, clone):
    if target in ("arm64", "rivals") and not (clone / ".arm64").exists():
        if not (ROOT / ".arm64").exists():
            pytest.skip("needs an ARM64 system, which takes root and the network to make: make arm64")
        (clone / ".arm64").symlink_to(ROOT / ".arm64")
    if target == "rivals":
        if not (ROOT / ".rivals").exists():
            pytest.skip("needs other engines, which take torch and the network to convert for: make rivals")
        (clone / ".rivals").symlink_to(ROOT / ".rivals")
    if target == "gpu-check" and shutil.which("chromium") is None:
        pytest.skip("needs Debian's chromium, which takes root and the network to install: make gpu-check")
    if target == "npu-check":
        if not (ROOT / ".npu").exists():
            pytest.skip("needs compilers for NPUs, which take the network to install: make npu-check")
        (clone / ".npu").symlink_to(ROOT / ".npu")
    if target == "tpu":
        if not (ROOT / ".tpu").exists():
            pytest.skip("needs the TPU's compiler, which takes the network to install: make tpu")
        (clone / ".tpu").symlink_to(ROOT / ".tpu")
    code, written = _make(clone, target)
    assert _SAYS[target] in written, written
    if target == "verify-weights":  # which needs the network
        assert code != 0 and "error: " in written and "Traceback" not in written, written
    else:
        assert code == 0, written
    if target == "clean":
        assert not (clone / ".venv").exists() and (clone / "train.py").exists()
