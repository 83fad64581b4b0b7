"""A run whose disk fills up: what is said, what is kept, and how it resumes."""

import os
import subprocess

import keras
import pytest
import tensorflow as tf
import tiny_run
from scripts import run
from tiny import values

from mixnet_tf.recipe import Recipe
from mixnet_tf.saved_models import load_keras_file, open_model
from mixnet_tf.training.checkpointing import Checkpointer

pytestmark = pytest.mark.usefixtures("tiny_network")
_FLAGS = ("--model_name=tiny", "--image_size=16", "--train_batch_size=128", "--train_epochs=2", "--checkpoint_steps=5")


class _Trainer:
    """As much of a `Trainer` as a checkpoint needs."""

    strategy = tf.distribute.get_strategy()
    recipe = Recipe()
    step = 1

    def __init__(self):
        self.model = self.ema_model = self.optimizer = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])

    def is_finite(self):
        return True


def test_a_checkpoint_that_finds_the_disk_full_leaves_the_one_before_and_nothing_else(tmp_path, monkeypatch):
    trainer = _Trainer()
    checkpointer = Checkpointer(trainer, str(tmp_path))
    checkpointer.save()
    folder = tmp_path / "checkpoints"
    before = sorted(os.listdir(folder))

    def full(_, prefix):
        checkpoint_number = os.path.basename(prefix).removeprefix("ckpt-")
        (folder / f"ckpt-{checkpoint_number}_temp").mkdir()
        (folder / f"ckpt-{checkpoint_number}_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
        (folder / f"ckpt-{checkpoint_number}.data-00000-of-00001").write_bytes(b"half")
        (folder / "checkpoint.tmp0a1b").write_bytes(b"half")
        reason = "{{function_node __wrapped__SaveV2}} x/y; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, reason)

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    trainer.step = 12
    with pytest.raises(OSError) as error:
        checkpointer.save()
    assert str(error.value) == (
        f"The checkpoint of step 12 could not be written to {folder}: No space left on device. "
        f"Free some space: {folder}/ckpt-1 is kept; the same command resumes from it."
    )
    assert sorted(os.listdir(folder)) == before and checkpointer.saved_step == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.soak
def test_a_full_disk_is_one_line_and_the_same_command_resumes(small_disk, data_dir, monkeypatch, capfd):
    flags = (*_FLAGS, f"--model_dir={small_disk}/run", f"--data_dir={data_dir}")
    tiny_run.interrupt_at(monkeypatch, 10, 15)
    code, _, err = run(capfd, "train.py", *flags)
    assert code == 75, err
    monkeypatch.undo()
    folder = small_disk / "run" / "checkpoints"
    kept = sorted(os.listdir(folder))

    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    size = (folder / "ckpt-10.data-00000-of-00001").stat().st_size
    (small_disk / "filler").write_bytes(bytes(free - size // 2))  # room for lines of metrics, not for a checkpoint
    code, _, err = run(capfd, "train.py", *flags)
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and "The checkpoint of step 15 could not be written" in line and "No space left" in line
    assert f"{folder}/ckpt-10 is kept; the same command resumes from it" in line
    assert sorted(os.listdir(folder)) == kept
    assert open_model(model_dir=small_disk / "run").source.endswith("ckpt-10")

    os.remove(small_disk / "filler")
    code, out, err = run(capfd, "train.py", *flags)
    assert code == 0 and "ckpt-10" in out, err
    assert values(load_keras_file(str(small_disk / "run" / "final.keras")))
