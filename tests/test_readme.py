"""The README and the docs are true: their commands run, their figures are ours, and their links exist."""

import os
import pathlib
import re
import shlex

import pytest
from scripts import ROOT, run
from tiny import write_small_network

import mixnet_tf
from mixnet_tf.networks import count_parts, stages_and_params

_README = (ROOT / "README.md").read_text()
_DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Flags that make a documented command short enough for a test.
_SHORTER = {
    "train.py": ["--model_name=small.json", "--train_epochs=0.05", "--warmup_epochs=0"],
    "export_tflite.py": ["--latency_runs=0", "--num_images=32", "--calibration_images=16"],
}
_SCRIPTS = (*_SHORTER, "eval.py", "-m mixnet_tf.search", "studies/kernel_sizes.py", "studies/found_networks.py")


def _blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _commands(path):
    lines = "".join(_blocks(path.read_text(), "sh")).replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def _script_and_flags(command):
    """("train.py", [flags]) of a documented `python train.py --flag=...`, else None."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[:2] == ["python", "-m"]:
        words[1:3] = [" ".join(words[1:3])]
    return (words[1], words[2:]) if words[0] == "python" and words[1] in _SCRIPTS else None


_SCRIPT_COMMANDS = [(path, command) for path in _DOCS for command in _commands(path) if _script_and_flags(command)]


def test_the_readme_shows_every_script():
    assert {_script_and_flags(command)[0] for _, command in _SCRIPT_COMMANDS} == set(_SCRIPTS)


@pytest.mark.parametrize("path, command", _SCRIPT_COMMANDS, ids=lambda value: str(value)[-60:])
def test_every_documented_command_has_valid_flags(path, command, capfd):
    script, flags = _script_and_flags(command)
    code, _, err = run(capfd, script, *flags, "--only_check_args")
    assert code == 0, err


@pytest.mark.usefixtures("one_calibration")
def test_the_commands_that_need_no_hardware_and_no_network_run_one_after_the_other(
    tmp_path, monkeypatch, data_dir, capfd
):
    import numpy as np
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    os.symlink(data_dir, "data")
    write_small_network("small.json")
    tf.io.write_file("digit.png", tf.io.encode_png(np.zeros((8, 8, 1), "uint8")))
    ran = []
    for command in dict.fromkeys(_commands(ROOT / "README.md") + _commands(ROOT / "docs" / "EVALUATION.md")):
        parsed = _script_and_flags(command)
        more = ("gs://", "/data/", "--watch", "mixnet_tf.search")
        needs_more = any(word in command for word in more)
        if parsed is None or needs_more:
            continue
        script, flags = parsed
        code, out, err = run(capfd, script, *flags, *_SHORTER.get(script, []), *_allowed(script))
        assert code == 0, f"{command}\n{out}\n{err}"
        ran.append(script)
    assert ran == ["train.py", "eval.py", "export_tflite.py", "eval.py", "eval.py"]
    assert pathlib.Path("runs/train/export/small_32_int8.tflite").exists()


def _allowed(script):
    # After two steps of training int8 may lose more than its gate lets through.
    return ["--allow_accuracy_drop"] if script == "export_tflite.py" else []


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [block] = _blocks(_README, "python")
    scope = {}
    exec(block, scope)
    assert scope["features"].compute_output_shape((None, 64, 64, 3))["reduction_5"] == (None, 2, 2, 200)
    assert scope["own"].count_params() > 0


@pytest.mark.parametrize("model_name", mixnet_tf.list_models())
def test_the_table_of_models_has_our_counts(model_name):
    parts = count_parts(*stages_and_params(model_name))
    [row] = [line for line in _README.splitlines() if line.startswith(f"| `{model_name}`")]
    assert f"{sum(part.trainable for part in parts):,}" in row
    assert f"{sum(part.multiply_adds for part in parts) / 1e6:.1f}M" in row


@pytest.mark.parametrize("path", _DOCS, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_file_map_names_every_module():
    missing = [file.name for file in (ROOT / "mixnet_tf").glob("*.py") if f"`{file.name}`" not in _README.replace(
        "mixnet_tf/", "")]  # fmt: skip
    assert [name for name in missing if name != "__init__.py"] == []
