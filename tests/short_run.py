"""A run of a few steps on digits, of the network "tiny", in this process."""

import os

import tensorflow as tf

from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.training import RunOptions, train

RECIPE = RECIPES["digits"]._replace(
    train_batch_size=32,
    image_size=16,
    base_learning_rate=0.08,
    train_epochs=0.5,
    warmup_epochs=0.1,
    model_overrides=None,
)
STEPS = 22  # int(0.5 * 1437 / 32)


def train_tiny(model_dir, data_dir, recipe=RECIPE, **options):
    """Trains the network "tiny" on digits in this process, and gives the exit code."""
    options = {"steps_per_loop": 3, "checkpoint_steps": 7, **options}
    return train("tiny", "digits", recipe, RunOptions(str(model_dir), data_dir, **options))


def copy_run(source, target, is_measured=True):
    """Copies what a run has left to another folder; without its measurements, it has yet to end."""
    tf.io.gfile.makedirs(str(target / "checkpoints"))
    for name in ("config.json", "final.keras", *(["metrics.jsonl"] if is_measured else [])):
        (target / name).write_bytes((source / name).read_bytes())
    for name in os.listdir(source / "checkpoints"):
        data = (source / "checkpoints" / name).read_bytes()
        if name == "checkpoint":
            data = data.replace(str(source).encode(), str(target).encode())
        (target / "checkpoints" / name).write_bytes(data)
