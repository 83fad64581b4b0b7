"""Runs of `train.py` as child processes."""

import os
import subprocess
import sys
import time

from scripts import ROOT

from mixnet_tf.training.metrics import read_metrics

RUN = (
    "--model_name=tiny",
    "--image_size=16",
    "--train_batch_size=32",
    "--train_epochs=2",
    "--checkpoint_steps=3",
    "--steps_per_loop=2",
    "--deterministic",
)
# 30 steps an epoch, of which three are evaluated, each in 48 batches of 3 images; every third step is a checkpoint.
EVALUATED = ("--train_split=train[:67%]", "--eval_split=train[90%:]", "--eval_every=0.33", "--eval_batch_size=3")


def start_run(model_dir, data_dir, *flags, **environment):
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "tiny_run.py"),
            "train.py",
            *RUN,
            f"--model_dir={model_dir}",
            f"--data_dir={data_dir}",
            *flags,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish_run(process):
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    return out


def wait_for_loops(model_dir, process, number):
    """Waits until a run has reported a number of loops of steps, or has ended."""
    while len(read_metrics(model_dir)) < number and process.poll() is None:
        time.sleep(0.01)
