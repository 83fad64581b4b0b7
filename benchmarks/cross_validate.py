"""Measures settings for digits by cross-validation within the training images; the test images are not read.

python benchmarks/cross_validate.py --output=runs/folds.json, with any recipe flag of train.py.
"""

import random
import statistics
import time

import tensorflow as tf
from absl import flags
from measurement import write_report

from mixnet_tf.commands import process, recipe_flags
from mixnet_tf.data import load_split, train_batches
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.models import build_model
from mixnet_tf.recipe import validate
from mixnet_tf.training import Trainer

_MODEL_NAME = flags.DEFINE_string("model_name", "mixnet-s", "The network.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where digits is prepared.")
_FOLDS = flags.DEFINE_integer("folds", 5, "Number of folds; each is held out once.", lower_bound=2)
_SEEDS = flags.DEFINE_integer("seeds", 2, "Runs of each fold, from the recipe's seed on.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file of the results.")
recipe_flags.define_recipe_flags()


def part(split, fold, held_out):
    """One fold, or all images outside it, as a split; a fold is each `folds`-th image, in the order of the files."""
    folds = _FOLDS.value

    def read(shuffle_seed=None, shard=0, num_shards=1):
        del shuffle_seed  # places are counted in the order of the files
        chosen = split.read().enumerate().filter(lambda place, _: (place % folds == fold) == held_out)
        return chosen.map(lambda _, example: example).shard(num_shards, shard)

    size = split.shard_size(fold, folds)
    return split._replace(num_examples=size if held_out else split.num_examples - size, read=read)


def fresh_model(recipe, split):
    """A model with random weights, which depend only on the recipe's seed."""
    random.seed(recipe.seed)
    return build_model(
        _MODEL_NAME.value,
        recipe.model_params(split.num_examples),
        classes=split.num_classes,
        input_shape=(recipe.image_size, recipe.image_size, 3),
        classifier_activation=None,
    )


def cross_validate(split, recipe):
    """One dict for each fold and seed. One `Trainer` serves them all: tracing a step takes longer than a reset."""
    smallest = part(split, 0, held_out=False)  # fold 0 is the largest; others train on one image more
    steps = recipe.total_steps(smallest.num_examples)
    model = fresh_model(recipe, smallest)
    trainer = Trainer(model, recipe, recipe.steps_per_epoch(smallest.num_examples), total_steps=steps)
    slots = [variable.numpy() for variable in trainer.optimizer.variables]
    rows = []
    for fold in range(_FOLDS.value):
        train_split = part(split, fold, held_out=False)
        evaluate = build_evaluator(trainer.ema_model, part(split, fold, held_out=True), recipe.crop)
        for seed in range(recipe.seed, recipe.seed + _SEEDS.value):
            seeded = recipe._replace(seed=seed)
            start = fresh_model(seeded, smallest)
            _assign(model.variables, start.variables)
            _assign(trainer.ema_model.variables, start.variables)
            _assign(trainer.optimizer.variables, slots)
            began = time.perf_counter()
            trainer.train_steps(iter(train_batches(train_split, seeded, seeded.train_batch_size)), tf.constant(steps))
            seconds = time.perf_counter() - began
            accuracy = evaluate()["top_1_accuracy"]
            print(f"fold {fold}, seed {seed}: {accuracy:.2%}, {steps} steps in {seconds:.1f} s", flush=True)
            rows.append({"fold": fold, "seed": seed, "top_1_accuracy": accuracy, "steps": steps, "seconds": seconds})
    return rows


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def main(_screen):
    """Cross-validates as the flags say; returns the exit code."""
    recipe = recipe_flags.recipe_from_flags("digits")
    validate(recipe)
    rows = cross_validate(load_split("digits", _DATA_DIR.value, True), recipe)
    accuracies = [row["top_1_accuracy"] for row in rows]
    summary = {
        "mean": statistics.mean(accuracies),
        "standard_deviation": statistics.stdev(accuracies),
        "lowest": min(accuracies),
        "highest": max(accuracies),
    }
    print(", ".join(f"{name.replace('_', ' ')} {value:.2%}" for name, value in summary.items()), flush=True)
    write_report(_OUTPUT.value, {"recipe": recipe._asdict(), **summary, "rows": rows})
    return 0


if __name__ == "__main__":
    process.run(main)
