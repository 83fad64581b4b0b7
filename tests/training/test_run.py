"""Whole runs of a tiny network: the files that they write, and how they resume after an interruption."""

import concurrent.futures
import errno
import json
import os
import shutil
import signal
import socket

import colors
import numpy as np
import pytest
import scripts
import tensorflow as tf
import tiny_run
from absl import flags
from short_run import RECIPE, STEPS, copy_run, train_tiny
from tiny import read_checkpoint, values

from mixnet_tf.data import DATA_VERSION, load_split
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import update_best, watch
from mixnet_tf.files import read_json, write_json
from mixnet_tf.runs import TRAINING_IMAGES, RunConfig, save_model
from mixnet_tf.saved_models import load_keras_file, open_model
from mixnet_tf.training import RunOptions, checkpointing, interruption, locking, recalibration, run, train
from mixnet_tf.training.locking import only_run_in
from mixnet_tf.training.metrics import MetricsLog, read_metrics
from mixnet_tf.training.recalibration import recalibrate

pytestmark = pytest.mark.usefixtures("tiny_network", "shared_trainers")


def test_a_run_leaves_its_model_configuration_metrics_and_checkpoints(unbroken):
    assert {"config.json", "final.keras", "metrics.jsonl", "checkpoints", "tensorboard"} <= set(os.listdir(unbroken))
    rows = read_metrics(unbroken)
    trained = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in trained] == [3, 6, 7, 10, 13, 14, 17, 20, 21, 22]
    assert {"loss", "cross_entropy", "learning_rate", "top_1_accuracy", "images_per_second"} <= set(trained[0])
    assert trained[-1]["loss"] < trained[0]["loss"]
    [evaluation] = [row for row in rows if row["kind"] == "eval"]
    assert evaluation["step"] == STEPS and evaluation["num_images"] == 360
    assert RunConfig.read(unbroken).data_version == DATA_VERSION
    assert os.listdir(unbroken / "tensorboard") and "best.keras" not in os.listdir(unbroken)


def test_the_final_model_is_the_averages_in_float32_with_softmax(unbroken):
    model = load_keras_file(str(unbroken / "final.keras"))
    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(unbroken / "checkpoints")))
    for i, value in enumerate(values(model)):
        np.testing.assert_array_equal(value, checkpoint.get_tensor(f"averages/{i}/.ATTRIBUTES/VARIABLE_VALUE"))
    probabilities = model(np.zeros((1, 16, 16, 3), "float32"))
    assert probabilities.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(probabilities), 1, rtol=1e-6)


@pytest.mark.soak
def test_the_final_model_has_statistics_measured_anew_where_the_recipe_asks_for_them(
    unbroken, tmp_path, data_dir, monkeypatch
):
    monkeypatch.setattr(recalibration, "_BATCH", 32)
    monkeypatch.setattr(recalibration, "_MAX_BATCHES", 2)
    copy_run(unbroken, tmp_path)
    recipe = RECIPE._replace(recalibrate_batch_norm=True)
    assert train_tiny(tmp_path, data_dir, recipe, allow_config_change=True) == 0
    expected = load_keras_file(str(unbroken / "final.keras"))
    recalibrate(expected, load_split("digits", data_dir, True), recipe)
    before, after = (load_keras_file(str(folder / "final.keras")) for folder in (unbroken, tmp_path))
    for value, other in zip(values(after), values(expected), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5)
    name = "block_2_project_bn"
    assert not np.allclose(before.get_layer(name).moving_mean, after.get_layer(name).moving_mean, rtol=1e-2)


def test_a_run_of_0_2_0_that_is_done_evaluates_again_and_trains_no_more(unbroken, tmp_path, data_dir, logged):
    copy_run(unbroken, tmp_path)
    RunConfig.read(unbroken)._replace(eval_every=None).write(tmp_path)
    assert train_tiny(tmp_path, data_dir) == 0
    said = logged()
    assert "warm-up" not in said and f"Evaluation at step {STEPS}" in said  # the run is longer than that
    before, again = (values(load_keras_file(str(folder / "final.keras"))) for folder in (unbroken, tmp_path))
    np.testing.assert_equal(again, before)
    assert RunConfig.read(tmp_path).eval_every is None


def test_a_signal_saves_within_a_loop_and_the_same_command_ends_as_an_unbroken_run(
    unbroken, tmp_path, data_dir, monkeypatch
):
    monkeypatch.setattr(interruption.signal, "getsignal", lambda number: signal.SIG_DFL)  # nohup ignores a hangup
    # Each in the middle of an epoch, and of two checkpoints.
    for step, signal_number, code in ((3, signal.SIGTERM, 75), (10, signal.SIGINT, 130), (17, signal.SIGHUP, 75)):
        with monkeypatch.context() as patch:
            tiny_run.interrupt_at(patch, step, signal_number)
            assert train_tiny(tmp_path, data_dir) == code
        assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith(f"-{step}")
    assert train_tiny(tmp_path, data_dir) == 0
    resumed, whole = (load_keras_file(str(folder / "final.keras")) for folder in (tmp_path, unbroken))
    for value, other in zip(values(resumed), values(whole), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)  # bit-equal only with --deterministic
    assert [row["step"] for row in read_metrics(tmp_path)][-1] == STEPS


@pytest.mark.soak
@pytest.mark.usefixtures("without_end")
def test_a_run_with_every_augmentation_resumes_to_the_bit_over_two_replicas(tmp_path, data_dir, monkeypatch):
    augmentation = {"randaugment_layers": 2, "color_jitter": 0.4, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}
    recipe = RECIPE._replace(train_steps=6, train_batch_size=34, **augmentation)  # 17 images per replica: half a pair
    options = {"strategy": "mirrored", "deterministic": True, "steps_per_loop": 1}
    with monkeypatch.context() as patch:
        tiny_run.interrupt_at(patch, 3, signal.SIGTERM)
        assert train_tiny(tmp_path / "resumed", data_dir, recipe, **options) == 75
    assert train_tiny(tmp_path / "resumed", data_dir, recipe, **options) == 0
    assert train_tiny(tmp_path / "unbroken", data_dir, recipe, **options) == 0
    resumed, unbroken = (read_checkpoint(tmp_path / run / "checkpoints" / "ckpt-6") for run in ("resumed", "unbroken"))
    assert resumed.keys() == unbroken.keys()
    for name, value in unbroken.items():
        np.testing.assert_array_equal(resumed[name], value, name)
    rows = read_metrics(tmp_path / "unbroken")
    assert all("cross_entropy" in row and "top_1_accuracy" not in row for row in rows if row["kind"] == "train")


@pytest.mark.usefixtures("without_end")
def test_a_hangup_that_was_ignored_at_the_start_stays_ignored(tmp_path, data_dir, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        tiny_run.interrupt_at(monkeypatch, 10, signal.SIGHUP)
        assert train_tiny(tmp_path, data_dir) == 0
    finally:
        assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN


@pytest.mark.usefixtures("without_end")
def test_a_run_in_a_thread_trains_without_handling_signals(tmp_path, data_dir):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(train_tiny, tmp_path, data_dir, steps_per_loop=STEPS).result() == 0


@pytest.mark.usefixtures("without_end")
def test_a_second_run_in_the_same_folder_is_refused_with_who_trains_there(tmp_path, data_dir, monkeypatch):
    report, refused = MetricsLog.train, []

    def train_again(self, step, *others):
        report(self, step, *others)
        with pytest.raises(InputError) as error:
            train_tiny(tmp_path, data_dir)
        refused.append(str(error.value))

    monkeypatch.setattr(MetricsLog, "train", train_again)
    assert train_tiny(tmp_path, data_dir, steps_per_loop=STEPS, checkpoint_steps=STEPS) == 0
    [line] = refused
    assert f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}" in line and "\n" not in line
    with only_run_in(tmp_path):  # which is free again
        pass


def test_evaluation_watching_and_export_do_not_mind_a_run_in_the_folder(unbroken, tmp_path, data_dir):
    copy_run(unbroken, tmp_path)
    with only_run_in(tmp_path):
        assert open_model(model_dir=tmp_path).model.output_shape == (None, 10)
        last = watch(str(tmp_path), load_split("digits", data_dir, False), seconds=0.01)
    assert last["step"] == STEPS


@pytest.mark.usefixtures("without_end")
def test_the_workers_of_one_run_are_not_two_runs(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(run, "is_chief", lambda strategy: False)
    with only_run_in(tmp_path):  # the chief's
        assert train_tiny(tmp_path, data_dir, steps_per_loop=STEPS, checkpoint_steps=STEPS) == 0


def test_on_remote_storage_one_line_says_that_nobody_looked(logged):
    with only_run_in("gs://bucket/run"):
        pass
    [line] = logged().splitlines()
    assert line.startswith("gs://bucket/run: whether another process trains there was not checked")


def test_a_file_system_without_locks_says_the_same(tmp_path, monkeypatch, logged):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking.fcntl, "flock", flock)
    with only_run_in(tmp_path):
        pass
    assert f"{tmp_path}: whether another process trains there was not checked" in logged()


def test_a_lock_that_ended_with_its_process_is_free(tmp_path):
    child = os.fork()
    if child == 0:
        with only_run_in(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / locking.LOCK).read_text().startswith(f"process {child} on ")
    with only_run_in(tmp_path):
        pass


def test_another_configuration_is_refused_and_shown(unbroken, data_dir):
    with pytest.raises(ValueError, match="weight_decay: 0.0 there, 0.5 now"):
        train_tiny(unbroken, data_dir, RECIPE._replace(weight_decay=0.5))


@pytest.fixture(params=["begun", pytest.param("whole", marks=pytest.mark.soak)])
def begun(request, monkeypatch):
    """Begins a run with the arguments of `train`, and stops it before its first step; but in the soak it is whole."""

    def begin(*arguments):
        with monkeypatch.context() as patch:
            if request.param == "begun":
                patch.setattr(run, "fit", lambda *_: signal.SIGTERM)
            assert train(*arguments) == (75 if request.param == "begun" else 0)

    return begin


def test_another_split_of_equal_size_is_refused(image_folder, tmp_path, begun):
    for copy in ("train", "again"):
        shutil.copytree(f"{image_folder}/train", tmp_path / "data" / copy)
    shutil.copytree(f"{image_folder}/validation", tmp_path / "data" / "validation")
    recipe = RECIPE._replace(train_batch_size=2, train_epochs=0.5)
    options = RunOptions(str(tmp_path / "run"), str(tmp_path / "data"))
    begun("tiny", "folder", recipe, options)
    with pytest.raises(ValueError, match="train_split: 'train' there, 'again' now"):
        train("tiny", "folder", recipe, options._replace(train_split="again"))


def test_a_run_goes_by_the_names_of_its_classes(tmp_path, begun):
    names = dict(zip(colors.COLORS, ("a", "b", "c"), strict=True))
    data = tmp_path / "data"
    for split in ("train", "validation"):
        colors.write_split(data, names, split, 4)
    recipe = RECIPE._replace(train_batch_size=4, train_steps=2)
    options = RunOptions(str(tmp_path / "run"), str(data))
    begun("tiny", "folder", recipe, options)
    for split in ("train", "validation"):
        os.rename(data / split / "c", data / split / "z")
    with pytest.raises(ValueError, match="does not know 1 of the 3 classes of dataset 'folder': 'z'. .* lacks 1: 'c'"):
        train("tiny", "folder", recipe, options)
    for split in ("train", "validation"):
        os.rename(data / split / "z", data / split / "b" / "z")
    with pytest.raises(ValueError, match="trains 3 classes; of these, dataset 'folder' has no 'c'"):
        train("tiny", "folder", recipe, options)


@pytest.mark.usefixtures("eagerly")
def test_a_run_without_all_shards_records_which_were_missing_and_goes_on_with_no_others(imagenet_shards, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(f"{imagenet_shards}/train-00000-of-00002", data)
    shutil.copy(f"{imagenet_shards}/validation-00000-of-00001", data)
    recipe = RECIPE._replace(train_batch_size=2, train_epochs=0.4)
    options = RunOptions(str(tmp_path / "run"), str(data), num_train_images=6)
    with pytest.raises(ValueError, match="train-00001-of-00002"):
        train("tiny", "tfrecord", recipe, options)
    assert not (tmp_path / "run").exists()
    options = options._replace(allow_missing_shards=True)
    assert train("tiny", "tfrecord", recipe, options) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["missing_shards"] == ["train-00001-of-00002"]
    (data / "train-00000-of-00002").rename(data / "train-00001-of-00002")
    with pytest.raises(
        ValueError, match="missing_shards: .*train-00001-of-00002.* there, .*train-00000-of-00002.* now"
    ):
        train("tiny", "tfrecord", recipe, options)


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(unbroken, tmp_path, data_dir, logged):
    copy_run(unbroken, tmp_path, is_measured=False)
    newest = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    data_file = newest + ".data-00000-of-00001"
    with open(data_file, "r+b") as file:
        file.truncate(1000)
    assert train_tiny(tmp_path, data_dir) == 0
    printed = logged()
    assert f"{newest} cannot be read" in printed and "Resuming from" in printed


def test_checkpoints_of_which_none_can_be_read_are_an_error_and_stay(unbroken, tmp_path, data_dir):
    copy_run(unbroken, tmp_path, is_measured=False)
    folder = tmp_path / "checkpoints"
    for name in os.listdir(folder):
        if ".data" in name:
            (folder / name).write_bytes(b"")
    files = sorted(os.listdir(folder))
    with pytest.raises(ValueError, match="None of the checkpoints"):
        train_tiny(tmp_path, data_dir)
    assert sorted(os.listdir(folder)) == files


def test_a_full_disk_leaves_the_previous_state_intact(unbroken, tmp_path, data_dir, monkeypatch):
    copy_run(unbroken, tmp_path, is_measured=False)
    before = (tmp_path / "final.keras").read_bytes()

    def full(model, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr("keras.Model.save", full)
    with pytest.raises(OSError, match="final.keras could not be written: No space left .* the same command again"):
        train_tiny(tmp_path, data_dir)
    assert (tmp_path / "final.keras").read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".writing")]


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoints(tmp_path, data_dir):
    with pytest.raises(FloatingPointError, match=r"not finite at step \d+, learning rate"):
        train_tiny(tmp_path, data_dir, RECIPE._replace(base_learning_rate=1e30, warmup_epochs=0.0), checkpoint_steps=1)
    checkpoint = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    if checkpoint is not None:
        assert all(np.isfinite(v).all() for v in values(_restored(tmp_path)))


@pytest.fixture
def with_best(unbroken, tmp_path):
    """Gives the folder of a finished run a best model of zeros, of which best.json says what is given."""

    def write(best):
        copy_run(unbroken, tmp_path)
        older = load_keras_file(str(unbroken / "final.keras"))
        RunConfig.read(unbroken)._replace(eval_every=None).write(tmp_path)  # as of 0.2.0, which chose on test images
        older.set_weights([value * 0 for value in older.get_weights()])
        save_model(older, str(tmp_path / "best.keras"))
        write_json(str(tmp_path / "best.json"), {"step": 7, **best})
        return tmp_path

    return write


def _is_replaced(model_dir):
    """Whether the best model is the run's final one, by its weights and by best.json, which agree."""
    opened = open_model(model_dir=model_dir)
    assert opened.source.endswith("best.keras")
    replaced = any(value.any() for value in values(opened.model))
    now = read_json(str(model_dir / "best.json"))
    assert now["step"] == (STEPS if replaced else 7) and (not replaced or now["split"] == "test")
    return replaced


def test_a_run_ends_with_its_final_model_in_the_place_of_a_worse_best_one(with_best, data_dir, logged):
    model_dir = with_best({"top_1_accuracy": 0.001})
    assert train_tiny(model_dir, data_dir) == 0
    assert f"best.keras is the model of step {STEPS} now: its top-1 was 0.10%" in logged()
    assert _is_replaced(model_dir)


@pytest.mark.parametrize(
    "best, replaced, says",
    [
        ({"top_1_accuracy": 0.001, "num_images": 360}, True, f"is the model of step {STEPS} now"),  # as 0.1.0 wrote it
        ({"top_1_accuracy": 1.0}, False, "stays the best: its top-1 is 100.00%"),
        ({"top_1_accuracy": 0.001, "dataset": "digits", "split": "train"}, False, "stays: it was measured on another"),
        ({"top_1_accuracy": 0.001, "num_images": 12}, False, "stays: it was measured on another split"),
    ],
)
def test_the_final_model_takes_the_place_of_a_worse_best_one(best, replaced, says, with_best, unbroken, data_dir):
    model_dir = with_best(best)
    [measured] = [row for row in read_metrics(unbroken) if row["kind"] == "eval"]
    final, split = load_keras_file(str(unbroken / "final.keras")), load_split("digits", data_dir, False)
    assert f"best.keras {says}" in update_best(final, measured, split, RunConfig.read(model_dir), str(model_dir))
    assert _is_replaced(model_dir) == replaced


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path):
    class Trainer:
        step = 3

        def is_finite(self):
            return False

    broken = checkpointing.Checkpointer.__new__(checkpointing.Checkpointer)
    broken._trainer = Trainer()
    with pytest.raises(FloatingPointError, match="not finite at step 3"):
        broken.save()


def test_a_bad_recipe_is_refused_before_anything_is_written(tmp_path, data_dir):
    with pytest.raises(ValueError, match="train_batch_size"):
        train_tiny(tmp_path / "new", data_dir, RECIPE._replace(train_batch_size=0))
    assert not (tmp_path / "new").exists()


def test_every_option_is_a_flag_of_the_script(capfd):
    assert scripts.run(capfd, "train.py", "--only_check_args")[0] == 0
    own = {"model_dir": "runs/train", "data_dir": "data"}
    for name in RunOptions._fields:
        assert flags.FLAGS[name].default == RunOptions._field_defaults.get(name, own.get(name))


def _restored(model_dir):
    return open_model(model_dir=model_dir).model


@pytest.mark.soak
@pytest.mark.usefixtures("eagerly")
def test_a_run_that_ends_within_its_warm_up_is_warned_of_and_unchanged(tmp_path, data_dir, logged):
    recipe = RECIPE._replace(train_steps=2, warmup_epochs=0.5)
    assert train_tiny(tmp_path, data_dir, recipe, eval_split="train", eval_batch_size=480) == 0
    said = logged()
    [warning] = [line for line in said.splitlines() if "warm-up" in line]
    assert "2 steps are within the warm-up of 0.5 epochs" in warning and "--warmup_epochs" in warning
    assert RunConfig.read(tmp_path).recipe.warmup_epochs == 0.5 and read_metrics(tmp_path)[-1]["step"] == 2
    [row] = [row for row in read_metrics(tmp_path) if row["kind"] == "eval"]
    assert row["notes"] == [TRAINING_IMAGES] and row["num_images"] == 1437
    assert f"top-5 {row['top_5_accuracy']:.2%}, cross-entropy {row['cross_entropy']:.4f}; {TRAINING_IMAGES}" in said
