"""Shows how far rounding alone changes the losses of the ten golden training steps: run it with --threads=1, 2, 4."""

import json
import pathlib

import numpy as np
import tensorflow as tf
from absl import app, flags

import mixnet_tf
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import Trainer

_THREADS = flags.DEFINE_integer("threads", 2, "Threads within an op; they decide the order of sums.")
_GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "train-s"


def main(_):
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    settings = json.loads((_GOLDEN / "recipe.json").read_text())
    golden = np.load(_GOLDEN / "golden.npz")
    model = mixnet_tf.build_model(
        settings["model_name"], settings["override_params"], classifier_activation=None, include_preprocessing=False
    )
    mixnet_tf.load_official_checkpoint(model, _GOLDEN / "init.ckpt", use_ema=False)
    batch = len(golden["y"])
    recipe = Recipe(
        train_batch_size=batch,
        base_learning_rate=settings["peak_learning_rate"] * 256 / batch,
        weight_decay=settings["weight_decay"],
    )
    trainer = Trainer(model, recipe, settings["steps_per_epoch"])
    for step, reference in enumerate(golden["loss"]):
        loss = float(trainer.train_step(golden["x"], golden["y"])["loss"])
        print(f"step {step}  loss {loss:.6f}  reference {reference:.6f}  relative {abs(loss / reference - 1):.1e}")


if __name__ == "__main__":
    app.run(main)
