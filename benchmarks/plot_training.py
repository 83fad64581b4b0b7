"""Plots a run's loss and accuracy: python benchmarks/plot_training.py --model_dir=DIR --output=training.png.

Reads metrics.jsonl, also of a run that has not ended. Needs matplotlib: pip install 'mixnet_tf[docs]'.
"""

import pathlib

import matplotlib.style
from absl import flags

from mixnet_tf.commands import process
from mixnet_tf.errors import InputError
from mixnet_tf.figures import new_figure, png
from mixnet_tf.runs import RunConfig
from mixnet_tf.training.metrics import METRICS, read_metrics

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "The run's folder.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The PNG file to write.", required=True)


def main(_screen):
    """Draws the picture; returns the exit code."""
    config = RunConfig.read(_MODEL_DIR.value)
    rows = read_metrics(_MODEL_DIR.value)
    trained = [row for row in rows if row["kind"] == "train"]
    evaluated = [row for row in rows if row["kind"] == "eval" and row["top_1_accuracy"] is not None]
    if not trained:
        raise InputError(f"{_MODEL_DIR.value}/{METRICS} has no row of training yet.")

    matplotlib.style.use(pathlib.Path(__file__).with_name("figures.mplstyle"))
    figure = new_figure(figsize=(6.4, 4.8), layout="tight")
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    loss.plot(*_series(trained, "loss"), color="#1d4ed8", linewidth=1.2)
    loss.set_ylabel("loss, with L2" if config.recipe.weight_decay else "loss")
    accuracy.plot(*_series(trained, "top_1_accuracy"), color="#1d4ed8", linewidth=1.2, label="training batches")
    if evaluated:
        accuracy.plot(*_series(evaluated, "top_1_accuracy"), "o", color="#b45309", markersize=5, label="evaluation")
        step, last = [each[-1] for each in _series(evaluated, "top_1_accuracy")]
        accuracy.annotate(
            f"{last:.1%}", (step, last), (-4, -14),
            textcoords="offset points", ha="right", fontsize=8, color="#b45309",
        )  # fmt: skip
    accuracy.set(ylabel="top-1 accuracy", xlabel=f"step, {config.recipe.train_batch_size} images each", ylim=(0, 1.05))
    accuracy.legend(frameon=False, fontsize=8, loc="lower right")
    loss.set_title(f"{config.model_name} on {config.dataset}, {config.recipe.image_size} px")
    pathlib.Path(_OUTPUT.value).write_bytes(png(figure))
    return 0


def _series(rows, name):
    """Steps and values, where the value is a finite number."""
    finite = [row for row in rows if row.get(name) is not None]
    return [row["step"] for row in finite], [row[name] for row in finite]


if __name__ == "__main__":
    process.run(main)
