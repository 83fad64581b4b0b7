"""A few training steps of a small network on fixed global batches: `python tests/worker_run.py OUTPUT.npz`.

With TF_CONFIG in the environment, as one of its workers; the chief writes the raw and the averaged weights.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import numpy as np
import tensorflow as tf
import tiny_run
from tiny import images, randomise, values

import mixnet_tf
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import Trainer
from mixnet_tf.training.distribution import is_chief, make_strategy


def train(strategy, steps=4):
    """The `Trainer` after its steps."""
    recipe = Recipe(
        train_batch_size=8,
        base_learning_rate=0.3,
        warmup_epochs=0.0,
        learning_rate_schedule="constant",
        sync_batch_norm=True,
    )
    with strategy.scope():
        model = mixnet_tf.build_model(
            blocks_args=tiny_run.BLOCKS,
            override_params={"feature_size": 16, "dropout_rate": 0.0},
            classes=5,
            classifier_activation=None,
            input_shape=(16, 16, 3),
        )
        randomise(model)
        trainer = Trainer(model, recipe, 4.0, strategy)
    for step in range(steps):
        labels = np.random.default_rng(step).integers(0, 5, 8).astype("int32")
        trainer.train_step(images(8, 16, 16, 3, seed=step), labels)
    return trainer


if __name__ == "__main__":
    chosen = make_strategy("auto")
    trained = train(chosen)
    if is_chief(chosen):
        tf.io.gfile.makedirs(str(pathlib.Path(sys.argv[1]).parent))
        np.savez(sys.argv[1], *values(trained.model), *values(trained.ema_model))
