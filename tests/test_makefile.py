"""The Makefile, run with a Python and a pip that only log their arguments."""

import os
import runpy
import shutil
import subprocess
import sys
import types

import pytest
from scripts import ROOT

_PYTEST = "python -m pytest --numprocesses=2 --dist=loadscope --no-loadscope-reorder"
# `python -m venv .venv` makes a pip and a python that log their calls; the python runs only `-c`.
_FAKE = f"""#!/usr/bin/env bash
if [ "$2" = venv ]; then
  mkdir -p .venv/bin && cp "$0" .venv/bin/python && cp "$0" .venv/bin/pip
elif [ "$1" = -c ]; then
  exec {sys.executable} "$@"
else
  echo "$(basename "$0") $*" >> log
  ! grep -qs "$*" broken
fi
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile, setup.py, and the Python to make .venv with."""
    for name in ("Makefile", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(_FAKE)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def _make(clone, *arguments, fails=False):
    """Runs `make arguments`, and returns the logged calls of pip and python."""
    (clone / "log").write_text("")
    environment = {key: value for key, value in os.environ.items() if key not in ("TF", "MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--silent", *arguments, f"PYTHON={clone}/python"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stderr
    return (clone / "log").read_text().splitlines()


@pytest.fixture
def asked(monkeypatch):
    """The packages that setup.py asks for, those for the tests included."""
    arguments = {}
    setuptools = types.SimpleNamespace(setup=arguments.update, find_packages=lambda include: [])
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    runpy.run_path(str(ROOT / "setup.py"))
    return set(arguments["install_requires"] + arguments["extras_require"]["test"])


@pytest.mark.parametrize(
    "target",
    [
        "demo",
        "detection-demo",
        "study",
        "search",
        "web",
        "docs",
        "test",
        "soak",
        "soak-training",
        "seeds",
        "lint",
        "bench",
        "arm64",
        "rivals",
        "gpu-check",
        "npu-check",
        "tpu",
        "tpu-table",
        "verify-weights",
        "clean",
    ],
)
def test_every_target_is_there(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_first_test_installs_and_the_second_does_not(clone):
    assert _make(clone, "test") == [
        "pip install --quiet --editable .[test]",
        _PYTEST,
    ]
    assert _make(clone, "test") == [_PYTEST]


@pytest.mark.parametrize("tensorflow", ["tensorflow-tpu", "tensorflow[and-cuda]"])
def test_another_tensorflow_goes_first_and_all_that_setup_asks_for_but_tensorflow_follows(tensorflow, clone, asked):
    assert _make(clone, "test", f"TF={tensorflow}") == [
        f"pip install --quiet {tensorflow}>=2.20",
        "pip install --quiet --no-deps --editable .",
        "pip install --quiet --requirement .venv/requirements.txt",
        _PYTEST,
    ]
    assert set((clone / ".venv" / "requirements.txt").read_text().split()) == asked - {"tensorflow>=2.20"}
    assert _make(clone, "test", f"TF={tensorflow}") == [_PYTEST]


def test_the_demo_installs_its_own_extras_and_the_tests_add_theirs(clone):
    assert _make(clone, "demo")[0] == "pip install --quiet --editable .[demo,export,report]"
    assert not [line for line in _make(clone, "demo") if "pip" in line]
    assert _make(clone, "test") == ["pip install --quiet --editable .[test]", _PYTEST]
    assert not [line for line in _make(clone, "test-fast") if "pip" in line]


def test_the_demo_of_another_tensorflow_installs_its_own_extras(clone):
    _make(clone, "demo", "TF=tensorflow-tpu")
    wanted = set((clone / ".venv" / "requirements.txt").read_text().split())
    assert {"numpy", "scikit-learn", "ai-edge-litert", "jinja2"} <= wanted
    assert not {"mediapipe", "optuna>=5", "pytest", "tensorflow>=2.20"} & wanted


def test_each_switch_to_another_tensorflow_makes_the_environment_anew(clone):
    _make(clone, "test")
    for arguments in (["TF=tensorflow-tpu"], [], ["TF=tensorflow[and-cuda]"]):
        (clone / ".venv" / "of the one before").touch()
        assert len(_make(clone, "test", *arguments)) > 1
        assert not (clone / ".venv" / "of the one before").exists()


def test_an_install_that_failed_is_done_again_and_leaves_nothing_to_another_tensorflow(clone):
    (clone / "broken").write_text("install --quiet --no-deps --editable .")
    _make(clone, "test", "TF=tensorflow-tpu", fails=True)
    (clone / ".venv" / "half").touch()
    assert "pip install --quiet tensorflow-tpu>=2.20" in _make(clone, "test", "TF=tensorflow-tpu", fails=True)
    assert (clone / ".venv" / "half").exists()
    assert len(_make(clone, "test")) == 2
    assert not (clone / ".venv" / "half").exists()


def test_clean_deletes_what_builds_make_and_no_runs_or_data(clone):
    _make(clone, "test")
    built = ("build", "dist", "mixnet_tf.egg-info", ".pytest_cache", ".ruff_cache", "mixnet_tf/__pycache__")
    kept = ("runs/train", "data/digits", "data/__pycache__", "mixnet_tf/export")
    for folder in (*built, *kept):
        (clone / folder).mkdir(parents=True)
    _make(clone, "clean")
    assert not [folder for folder in (".venv", *built) if (clone / folder).exists()]
    assert all((clone / folder).is_dir() for folder in kept)
