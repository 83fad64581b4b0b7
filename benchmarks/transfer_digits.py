"""Measures what pretraining gains: MixNet-S learns digits 0-4 and then 5-9, or 5-9 from random weights.

python benchmarks/transfer_digits.py --output=runs/transfer writes transfer.json and transfer.md there.
"""

import os
import platform
import random
import statistics

import keras
import tensorflow as tf
from absl import app, flags

from mixnet_tf.data import load_split, train_batches
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.files import write_json
from mixnet_tf.models import build_model
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import Trainer
from mixnet_tf.weights import load_weights

_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where digits is prepared.")
_MODEL_NAME = flags.DEFINE_string("model_name", "mixnet-s", "The network.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Pixels.")
_PRETRAIN_EPOCHS = flags.DEFINE_float("pretrain_epochs", 12.0, "Passes over the digits 0-4.")
_EPOCHS = flags.DEFINE_list("epochs", ["2", "6"], "Passes over the digits 5-9; each value is a column.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds; everything is run with each.")

# How 5-9 is learned: whether it starts from the weights of 0-4, and what stays as it was there.
_RECIPE = Recipe(  # of the table in docs/TRANSFER.md, whatever the digits recipe is by now
    train_batch_size=32,
    base_learning_rate=0.032,
    learning_rate_schedule="cosine",
    warmup_epochs=1.0,
    crop=False,
    flip=False,
    model_overrides={"batch_norm_momentum": 0.9},
)
_STARTS = {
    "frozen backbone": (True, "backbone"),
    "frozen batch normalization": (True, "bn"),
    "free backbone": (True, "none"),
    "from scratch": (False, "none"),
}


def five_digits(train, first):
    """The split of the digits first, ..., first + 4 as classes 0, ..., 4."""
    split = load_split("digits", _DATA_DIR.value, train)

    def read(*args, **kwargs):
        wanted = split.read(*args, **kwargs).filter(lambda e: (e["label"] >= first) & (e["label"] < first + 5))
        return wanted.map(lambda e: {**e, "label": e["label"] - first})

    size = int(read().reduce(0, lambda count, _: count + 1))
    names = split.label_names[first : first + 5]
    return split._replace(num_examples=size, label_names=names, num_classes=5, read=read)


def train(first, recipe, weights=None):
    """The EMA model of a run on five digits, its steps, and its accuracy on their test images."""
    split = five_digits(True, first)
    random.seed(recipe.seed)
    model = build_model(
        _MODEL_NAME.value,
        recipe.model_params(split.num_examples),
        classes=split.num_classes,
        input_shape=(recipe.image_size, recipe.image_size, 3),
        classifier_activation=None,
    )
    if weights is not None:  # five classes there too, but other ones: the head starts anew
        load_weights(model, weights, skip_head=True)
    steps = recipe.total_steps(split.num_examples)
    trainer = Trainer(model, recipe, recipe.steps_per_epoch(split.num_examples), total_steps=steps)
    trainer.train_steps(iter(train_batches(split, recipe, recipe.train_batch_size)), tf.constant(steps))
    accuracy = build_evaluator(trainer.ema_model, five_digits(False, first), recipe.crop)()["top_1_accuracy"]
    return trainer.ema_model, steps, accuracy


def measure(seed):
    """One dict for each start and number of epochs."""
    recipe = _RECIPE._replace(image_size=_IMAGE_SIZE.value, seed=seed)
    model, steps, accuracy = train(0, recipe._replace(train_epochs=_PRETRAIN_EPOCHS.value))
    print(f"seed {seed}: digits 0-4, {steps} steps: {accuracy:.2%}", flush=True)
    pretrained = os.path.join(_OUTPUT.value, "pretrained.weights.h5")
    model.save_weights(pretrained)
    rows = []
    for epochs in map(float, _EPOCHS.value):
        for start, (loads, freeze) in _STARTS.items():
            fields = {"train_epochs": epochs, "freeze": freeze, "seed": seed + 1000}
            _, steps, accuracy = train(5, recipe._replace(**fields), pretrained if loads else None)
            print(f"seed {seed}: digits 5-9, {steps} steps, {start}: {accuracy:.2%}", flush=True)
            rows.append({"start": start, "steps": steps, "seed": seed, "top_1_accuracy": accuracy})
    return rows


def table(rows):
    """Markdown: a row for each start, a column for each number of steps, means and ranges over the seeds."""
    columns = sorted({row["steps"] for row in rows})
    lines = ["| start | " + " | ".join(f"{steps} steps" for steps in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for start in _STARTS:
        cells = []
        for steps in columns:
            found = [row["top_1_accuracy"] for row in rows if (row["start"], row["steps"]) == (start, steps)]
            cells.append(f"{statistics.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})")
        lines.append(f"| {start} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(_):
    os.makedirs(_OUTPUT.value, exist_ok=True)
    rows = [row for seed in range(_SEEDS.value) for row in measure(seed)]
    made_with = {"tensorflow": tf.__version__, "keras": keras.__version__, "python": platform.python_version()}
    write_json(os.path.join(_OUTPUT.value, "transfer.json"), {"made_with": made_with, "rows": rows})
    with open(os.path.join(_OUTPUT.value, "transfer.md"), "w") as file:
        file.write(table(rows))
    print(table(rows))


if __name__ == "__main__":
    app.run(main)
