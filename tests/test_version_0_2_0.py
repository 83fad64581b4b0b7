"""Runs that version 0.2.0 began read the same images in the same order, and end where they would have ended.

tests/golden/version-0.2.0 was written by it: two runs of the network "tiny" with --deterministic and
--steps_per_loop=1, on digits and on the folder of images.zip, each stopped by SIGTERM five steps before its end; what
the same runs came to without a stop, weights.npz; and what they read, data.json.
"""

import hashlib
import json
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from scripts import run
from tiny import GOLDEN

from mixnet_tf.data import DATA_VERSION, Reading, eval_batches, load_split, train_batches, train_examples
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import RunOptions, train
from mixnet_tf.training import run as run_module
from mixnet_tf.training.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("tiny_network")
_WRITTEN = GOLDEN / "version-0.2.0"
_EPOCHS = 3
# Of the losses after the stop, and of the weights: those of the ten steps, see docs/FIDELITY.md.
_LOSS_BOUNDS, _WEIGHT_BOUND = (2e-5, 2e-5, 2e-5, 4e-4, 1e-2), 2e-3


@pytest.fixture(scope="module")
def data_dirs(data_dir, tmp_path_factory):
    """Where the data of each run is."""
    folder = tmp_path_factory.mktemp("images")
    with zipfile.ZipFile(_WRITTEN / "images.zip") as images:
        images.extractall(folder)
    return {"digits": data_dir, "folder": str(folder)}


@pytest.fixture(scope="module")
def read_by_0_2_0():
    """What each run read: the order of images and labels over its first epochs, and digests of decoded images."""
    return json.loads((_WRITTEN / "data.json").read_text())


def _splits(name, data_dirs):
    version = RunConfig.read(_WRITTEN / name).data_version
    return [load_split(name, data_dirs[name], is_train, reading=Reading(version)) for is_train in (True, False)]


def _digest(images):
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def _train_images(split, recipe, count, batch_size=1):
    batches = train_batches(split, recipe, batch_size).take(count // batch_size)
    return [image for images, _ in batches for image in images.numpy()]


def _eval_images(split, recipe):
    batches = eval_batches(split, recipe.image_size, 8, recipe.crop)
    return [image for images, _, mask in batches for image in images.numpy()[mask.numpy() > 0]]


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_images_and_labels_come_in_the_order_of_0_2_0(name, data_dirs, read_by_0_2_0):
    expected, recipe = read_by_0_2_0[name], RunConfig.read(_WRITTEN / name).recipe
    split, _ = _splits(name, data_dirs)
    assert list(split.label_names) == expected["label_names"]
    examples = [e for e, _ in train_examples(split, recipe).take(_EPOCHS * split.num_examples).as_numpy_iterator()]
    assert [int(example["label"]) for example in examples] == expected["labels"]
    ids = [example["id"].decode().removeprefix(data_dirs[name] + "/") for example in examples]
    if name == "folder":
        assert ids == expected["ids"]
    else:
        assert [int(each.rsplit("__", 1)[1]) for each in ids] == expected["records"]


def test_the_images_of_a_folder_are_decoded_as_by_0_2_0(data_dirs, read_by_0_2_0):
    expected, recipe = read_by_0_2_0["folder"], RunConfig.read(_WRITTEN / "folder").recipe
    split, eval_split = _splits("folder", data_dirs)
    images = _train_images(split, recipe, _EPOCHS * split.num_examples)
    assert [_digest(image)[:16] for image in images] == expected["train"]
    examples = zip(eval_split.read().as_numpy_iterator(), _eval_images(eval_split, recipe), strict=True)
    assert [
        [e["id"].decode().removeprefix(data_dirs["folder"] + "/"), int(e["label"]), _digest(image)[:16]]
        for e, image in examples
    ] == expected["eval"]


def test_the_digits_are_decoded_as_by_0_2_0(data_dirs, read_by_0_2_0):
    expected, recipe = read_by_0_2_0["digits"], RunConfig.read(_WRITTEN / "digits").recipe
    split, eval_split = _splits("digits", data_dirs)
    assert _digest(np.stack(_train_images(split, recipe, split.num_examples, 479))) == expected["train"]
    assert _digest(np.stack(_eval_images(eval_split, recipe))) == expected["eval"]


@pytest.fixture(scope="module")
def ended(data_dirs, tmp_path_factory):
    """The folders of the runs, resumed and finished."""
    folders = {}
    for name in ("digits", "folder"):
        folders[name] = str(shutil.copytree(_WRITTEN / name, tmp_path_factory.mktemp("runs") / name))
        settings = RunOptions(folders[name], data_dirs[name], deterministic=True, steps_per_loop=1, eval_batch_size=8)
        with pytest.MonkeyPatch.context() as patch:
            if name == "digits":  # of which only the checkpoint is looked at
                patch.setattr(run_module, "finish", lambda *_: None)
            assert train("tiny", name, RunConfig.read(folders[name]).recipe, settings) == 0
    return folders


@pytest.mark.soak
@pytest.mark.parametrize("name", ["digits", "folder"])
def test_a_stopped_run_ends_where_0_2_0_would_have_ended(name, ended, read_by_0_2_0):
    assert RunConfig.read(ended[name]) == RunConfig.read(_WRITTEN / name)
    stopped_at = read_metrics(_WRITTEN / name)[-1]["step"]
    rows = [row for row in read_metrics(ended[name]) if row["kind"] == "train" and row["step"] > stopped_at]
    losses = np.array([row["loss"] for row in rows])
    np.testing.assert_array_less(np.abs(losses / read_by_0_2_0[name]["losses"] - 1), _LOSS_BOUNDS)
    with np.load(_WRITTEN / "weights.npz") as weights:
        for kind, values in _weights(ended[name]).items():
            expected = weights[f"{name}_{kind}"]
            np.testing.assert_allclose(values, expected, rtol=0, atol=_WEIGHT_BOUND * np.abs(expected).max())


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("flags", [(), ("--watch",), ("--report_dir",)], ids=["plain", "watch", "report"])
def test_a_run_of_0_2_0_is_evaluated_by_its_own_rules(flags, ended, data_dirs, tmp_path, capfd):
    # By the newest rules there are three classes, and 0.2.0's class .ipynb_checkpoints is none.
    output = tmp_path / "measured.json"
    flags = [f"{flag}={tmp_path}" if flag == "--report_dir" else flag for flag in flags]
    common = (f"--model_dir={ended['folder']}", f"--data_dir={data_dirs['folder']}", f"--output_json={output}")
    code, _, err = run(capfd, "eval.py", *common, *flags)
    assert code == 0, err
    assert json.loads(output.read_text())["num_images"] == 7


def test_a_run_of_0_2_0_is_exported_by_its_own_rules(ended, data_dirs, tmp_path, capfd):
    code, _, err = run(
        capfd,
        "export_tflite.py",
        f"--model_dir={ended['folder']}",
        f"--data_dir={data_dirs['folder']}",
        f"--output_dir={tmp_path}",
        "--formats=fp32",
        "--latency_runs=0",
        "--allow_accuracy_drop",
    )
    assert code == 0, err
    [labels] = tmp_path.glob("*labels*.txt")
    assert labels.read_text().split() == [".ipynb_checkpoints", "cat", "dog", "owl", "zebra"]


def test_a_new_run_on_the_same_folder_has_the_newest_rules(data_dirs):
    split = load_split("folder", data_dirs["folder"], True)
    assert split.label_names == ("cat", "dog", "owl") and split.rules.version == DATA_VERSION


def _weights(model_dir):
    """The float weights of a run's newest checkpoint, raw and averaged, each as one vector."""
    reader = tf.train.load_checkpoint(f"{model_dir}/checkpoints")
    names = sorted(reader.get_variable_to_shape_map(), key=lambda name: [(len(p), p) for p in name.split("/")])
    found = {}
    for kind in ("raw", "averages"):
        values = [reader.get_tensor(name) for name in names if name.startswith(f"{kind}/")]
        found[kind] = np.concatenate([value.ravel() for value in values if value.dtype == np.float32])
    return found
