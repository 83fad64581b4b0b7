"""Every flag that takes a path takes any: brackets, wildcards, percent signs, quotes, umlauts, a leading ~."""

import json
import os
import shlex
import shutil
import signal

import numpy as np
import pytest
import tiny_run
from absl import flags
from scripts import run
from tiny import GOLDEN, randomise, values

import mixnet_tf
from mixnet_tf.data import load_split
from mixnet_tf.export import ExportOptions, ExportSettings, export_opened
from mixnet_tf.runs import newest_checkpoint
from mixnet_tf.saved_models import load_keras_file
from mixnet_tf.search.storage import open_study, sqlite_address

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")
NAMES = ("lr=[0.2]", "a?b", "a*b", "%41", "a b", "it's", 'q"q', "ü", "#1")
_ODD = 'lr=[0.2] a?b*c%41 it\'s "ü" #1'  # all of them
_PATHS = {
    "train.py": ("model_dir", "data_dir", "weights", "model_name", "class_weights"),
    "eval.py": ("model_dir", "data_dir", "weights", "output_json", "report_dir", "draw", "annotations", "labels"),
    "export_tflite.py": ("model_dir", "data_dir", "weights", "output_dir", "images", "labels"),
    "-m mixnet_tf.search": ("search_dir", "data_dir", "space", "latency_table"),
}


@pytest.mark.parametrize("script", _PATHS)
def test_a_leading_tilde_is_the_home_folder_in_every_flag_of_a_path(script, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    network = "--model_name=~/net.json" if script == "train.py" else "--output_dir=~/out"
    given = [network] if script in ("train.py", "export_tflite.py") else []
    assert run(capfd, script, "--only_check_args", *given)[0] == 0
    for name in _PATHS[script]:
        assert flags.FLAGS[name].parser.parse("~/a.json") == f"{tmp_path}/a.json", name
    if script == "eval.py":
        assert flags.FLAGS["image"].parser.parse("~/a.png,b.png") == [f"{tmp_path}/a.png", "b.png"]
    others = {name for name in flags.FLAGS if name.endswith(("_dir", "_json", "_file", "_path"))}
    ours = {name for name in others if str(flags.FLAGS.find_module_defining_flag(name)).startswith("mixnet_tf")}
    assert ours <= set(_PATHS[script])


@pytest.mark.parametrize("name", NAMES)
def test_the_study_of_a_search_lies_in_its_folder_whatever_that_is_called(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    open_study("search", sqlite_address(f"{folder}/study.db"), ["minimize"])
    assert os.listdir(folder) == ["study.db"] and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_shards_are_found_in_a_folder_of_any_name(name, imagenet_shards, tmp_path):
    folder = shutil.copytree(imagenet_shards, tmp_path / name)
    split = load_split("tfrecord", folder, True)
    assert split.num_examples == sum(1 for _ in split.read(3)) == 12


def test_digits_are_prepared_in_a_folder_of_an_odd_name(tmp_path):
    split = load_split("digits", tmp_path / _ODD, True)
    assert split.num_examples == sum(1 for _ in split.read(3)) == 1437


@pytest.mark.soak
@pytest.mark.slow
def test_a_network_file_is_trained_stopped_resumed_evaluated_and_exported_in_a_folder_of_an_odd_name(
    image_folder, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / _ODD
    shutil.copytree(image_folder, folder / "data")
    blocks = ["r1_k3_a1_p1_s22_e1_i8_o8", "r1_k3.5_a1_p1_s11_e3_i8_o8_se0.5_sw"]
    (folder / "my.json").write_text(json.dumps({"blocks": blocks, "params": {"feature_size": 16}}))
    where = (f"--model_dir={folder}/run", f"--data_dir={folder}/data")
    settings = ("--dataset=folder", "--image_size=16", "--train_batch_size=4", "--train_steps=9", "--eval_batch_size=8")
    command = ("train.py", *where, *settings, "--steps_per_loop=1", "--checkpoint_steps=1", "--eval_every=0")
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 7, signal.SIGTERM)
        code, out, err = run(capfd, *command, f"--model_name={folder}/my.json", "--kernels=3.5.7")
    assert code == 75, err
    assert out.splitlines()[0] == f"Training {folder}/my.json on folder in {folder}/run."
    network = json.loads((folder / "run" / "config.json").read_text())["network"]
    assert network["blocks"] == [block.replace("k3_", "k3.5.7_").replace("k3.5_", "k3.5.7_") for block in blocks]
    checkpoints = f"{folder}/run/checkpoints"
    assert newest_checkpoint(checkpoints) == f"{checkpoints}/ckpt-7"
    assert sum(name.endswith(".index") for name in os.listdir(checkpoints)) == 3
    code, out, err = run(capfd, "eval.py", *where, f"--output_json={folder}/measured.json")
    assert code == 0, err
    assert "ckpt-7" in out and "num_images 2" in out
    measured = json.loads((folder / "measured.json").read_text())
    assert measured["num_images"] == 2
    assert set(measured) == {"top_1_accuracy", "top_5_accuracy", "cross_entropy", "num_images"}

    (folder / "other.json").write_text(json.dumps(network))
    code, out, err = run(capfd, *command, f"--model_name={folder}/other.json")
    assert code == 0 and "Resuming from" in out, err
    assert "Evaluation: 2/2 images" in out and "images/s" in out and "ETA" in out
    report, export = (shlex.split(line) for line in out.splitlines()[-2:])
    assert report == ["Next:", "python", "eval.py", *where, f"--report_dir={folder}/run/report"]
    assert export == ["Next:", "python", "export_tflite.py", *where, f"--output_dir={folder}/run/export"]
    assert f"Wrote {folder}/run/final.keras." in out and not (folder / "run" / "best.keras").exists()
    code, _, err = run(capfd, *command, f"--model_name={folder}/my.json")
    assert code == 2 and "network: block string 0: 'r1_k3.5.7_a1_p1_s22_e1_i8_o8' there, 'r1_k3_" in err
    (folder / "my.json").unlink()
    assert load_keras_file(f"{folder}/run/final.keras").output_shape == (None, 2)
    code, out, err = run(capfd, "eval.py", *where, "--watch", "--watch_timeout=60")
    assert code == 0 and (folder / "run" / "best.keras").exists(), err
    code, out, err = run(capfd, "export_tflite.py", *where, f"--output_dir={folder}/out", "--latency_runs=0")
    assert code == 0, err
    assert (folder / "out" / "other_16_fp32.tflite").stat().st_size > 0


def test_official_weights_are_read_from_a_folder_of_an_odd_name(tmp_path):
    folder = tmp_path / "a[b]"
    folder.mkdir()
    for file in (GOLDEN / "train-s").glob("init.ckpt*"):
        shutil.copy(file, folder)
    settings = json.loads((GOLDEN / "train-s" / "recipe.json").read_text())
    model = mixnet_tf.build_model(settings["model_name"], settings["override_params"], include_preprocessing=False)
    mixnet_tf.load_official_checkpoint(model, GOLDEN / "train-s" / "init.ckpt", use_ema=False)
    expected = values(model)
    randomise(model)
    mixnet_tf.load_official_checkpoint(model, folder / "init.ckpt", use_ema=False)
    np.testing.assert_equal(values(model), expected)


def test_a_saved_model_that_tensorflow_could_not_load_is_refused_before_any_work(tmp_path):
    settings = ExportSettings(f"{tmp_path}/[a]", dataset="digits")
    with pytest.raises(ValueError, match=r"TensorFlow does not load a SavedModel from .*\[a\], because of the '\['"):
        export_opened(None, settings, ExportOptions(formats=("saved_model",)))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "script, name, others",
    [
        ("train.py", "model_dir", ()),
        ("eval.py", "report_dir", ("--weights=a.keras",)),
        ("eval.py", "output_json", ("--weights=a.keras",)),
        ("eval.py", "draw", ("--weights=a.keras",)),
        ("export_tflite.py", "output_dir", ("--weights=a.keras", "--dataset=digits")),
        ("-m mixnet_tf.search", "search_dir", ()),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_line_before_any_work(script, name, others, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    code, out, err = run(capfd, script, f"--{name}={tmp_path}/file/b/c", *others)
    assert code == 2 and err.startswith(f"error: {name}: the folder {tmp_path}/file/b") and err.count("\n") == 1
    assert "Opening" not in out
