"""Times runs that evaluate themselves, by default as often as `train.py` does, beside runs that do not, in turns.

python benchmarks/bench_evaluation.py --report=benchmarks/bench_evaluation.json
"""

import statistics
import tempfile

import tensorflow as tf
from absl import app, flags
from measurement import in_turns, median_ratio, write_report

from mixnet_tf.data import load_split, train_batches
from mixnet_tf.evaluation import build_evaluator
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import Checkpointer, Evaluations, MetricsLog, RunOptions, evaluation_intervals, fit, trainer_for

flags.DEFINE_string("model_name", "mixnet-s", "The network.")
flags.DEFINE_string("data_dir", "data", "Where the digits are prepared.")
flags.DEFINE_float("eval_every", None, "Epochs between evaluations; by default as train.py chooses.")
flags.DEFINE_float("epochs", 12.0, "Epochs of a run.")
flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
flags.DEFINE_string("report", None, "JSON file for the figures.")


def main(argv):
    del argv
    values = flags.FLAGS
    train_split, eval_split = (
        load_split("digits", values.data_dir, False, f"train[{part}]") for part in (":80%", "80%:")
    )
    options = RunOptions("", values.data_dir, eval_every=values.eval_every)
    every, _ = evaluation_intervals(options, None, train_split, eval_split)
    recipe = RECIPES["digits"]._replace(train_epochs=values.epochs)
    classes = train_split.num_classes, "digits", train_split.num_examples
    config = RunConfig(values.model_name, *classes, recipe, train_split.label_names, eval_every=every)
    trainer = trainer_for(config)
    evaluate = build_evaluator(trainer.ema_model, eval_split, recipe.crop, options.eval_batch_size)

    def prepared(evaluates):
        """A function that carries out a run, from its first step."""
        folder = tempfile.TemporaryDirectory()
        trainer.optimizer.iterations.assign(0)
        evaluations = Evaluations(config, trainer, eval_split, evaluate, folder.name) if evaluates else None
        state = {} if evaluations is None else evaluations.state
        arguments = (
            Checkpointer(trainer, folder.name, state),
            train_split,
            train_batches,
            options,
            MetricsLog(folder.name, 0, recipe.train_batch_size),
        )

        def run():
            with folder:
                fit(trainer, *arguments, evaluations=evaluations)

        return run

    contenders = {"without": lambda: prepared(False), "with": lambda: prepared(True)}
    seconds = in_turns(contenders, values.rounds)
    ratio, of_processor = (median_ratio(seconds["with"][kind], seconds["without"][kind]) for kind in ("wall", "cpu"))
    medians = {name: round(statistics.median(each["wall"]), 2) for name, each in seconds.items()}
    images = f"{train_split.num_examples} images, {eval_split.num_examples} evaluated every {every:g}"
    print(f"{values.model_name}, {values.epochs:g} epochs of {images}: with / without {ratio:.3f}")
    print(f"(processor time {of_processor:.3f}), {medians} s")
    write_report(
        values.report,
        {
            "model_name": values.model_name,
            "epochs": values.epochs,
            "eval_every": every,
            "train_images": train_split.num_examples,
            "eval_images": eval_split.num_examples,
            "devices": len(tf.config.list_logical_devices()),
            "seconds": seconds,
            "with_over_without": ratio,
            "with_over_without_processor_time": of_processor,
        },
    )


if __name__ == "__main__":
    app.run(main)
