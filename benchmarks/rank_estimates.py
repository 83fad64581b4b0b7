"""Measures which estimate of a search ranks networks best: Kendall's tau with whole trainings of random networks.

python benchmarks/rank_estimates.py --report=benchmarks/rank_estimates.json

Each network is trained by the whole recipe from two seeds, without the held-out images that networks are compared on.
The tau between the two seeds is the best that an estimate can reach. Finished measurements are kept in --work_dir and
not repeated.
"""

import functools
import json
import os
import pathlib
import time

from absl import app, flags
from measurement import write_report

from mixnet_tf.data import hold_out, load_split
from mixnet_tf.files import write_json
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.search import SearchSpace, kendall_tau
from mixnet_tf.search.costs import multiply_adds_of
from mixnet_tf.search.estimates import SharedWeights, ShortTraining, WholeTraining
from mixnet_tf.search.measuring import Data
from mixnet_tf.search.trials import Trials
from mixnet_tf.training import Interruption

flags.DEFINE_string("space", "studies/search_space.json", "The space.")
flags.DEFINE_string("data_dir", "data", "Where scattered_digits is prepared.")
flags.DEFINE_string("work_dir", "runs/rank_estimates", "Folder for runs and measurements.")
flags.DEFINE_integer("networks", 24, "Networks.", lower_bound=5)
flags.DEFINE_integer("image_size", 32, "Pixels.", lower_bound=1)
flags.DEFINE_float("held_out", 0.2, "Fraction of the training images that networks are compared on.")
flags.DEFINE_list("steps", ["50", "100", "200", "400"], "Steps of the short trainings to compare.")
flags.DEFINE_list("epochs", ["7", "28"], "Epochs of the supernets to compare.")
flags.DEFINE_list(
    "only", [], "Measure only these, such as seed-0, without a report; to divide the work among processes."
)
flags.DEFINE_string("report", None, "JSON file for the figures.")


def _measured(name, build, choices):
    """An estimate of each choice, with its seconds; read from its file if it was measured before."""
    path = os.path.join(flags.FLAGS.work_dir, f"{name}.json")
    if os.path.exists(path):
        return json.loads(pathlib.Path(path).read_text())
    start = time.perf_counter()
    measure = build()
    prepared = time.perf_counter() - start
    rows = []
    for number, choice in enumerate(choices):
        start = time.perf_counter()
        row = measure(choice)
        rows.append({**row, "seconds": time.perf_counter() - start})
        print(
            f"{name} {number + 1}/{len(choices)}: {row['cross_entropy']:.4f}, {row['top_1_accuracy']:.2%}", flush=True
        )
    write_json(path, {"prepared_seconds": prepared, "networks": rows})
    return {"prepared_seconds": prepared, "networks": rows}


def main(argv):
    del argv
    values = flags.FLAGS
    recipe = RECIPES["scattered_digits"]._replace(image_size=values.image_size)
    data = Data(*hold_out(load_split("scattered_digits", values.data_dir, True), values.held_out))
    space = SearchSpace.read(values.space, recipe.model_overrides).with_classes(data.train.num_classes)
    cost = multiply_adds_of(space, values.image_size)
    trials = Trials(space, "random", None, cost, None, seed=0)
    while len(trials.measured()) < values.networks:
        trials.measure_next(lambda choice: {"cross_entropy": 0.0})
    choices = [trial.choice for trial in trials.measured()]

    interruption = Interruption()  # without its `with` block signals end the process

    def whole(seed):
        train = WholeTraining(space, data, recipe._replace(seed=seed))
        folder = os.path.join(values.work_dir, f"seed-{seed}")
        return lambda choice: train(choice, os.path.join(folder, "-".join(map(str, choice))))

    def short(steps):
        train = ShortTraining(space, data, recipe, steps)
        return lambda choice: train(choice, interruption)

    def supernet(epochs):
        longer = recipe._replace(train_epochs=float(epochs))
        shared = SharedWeights(space, data, longer, os.path.join(values.work_dir, f"supernet-{epochs}-epochs"))
        shared.train()
        return lambda choice: shared(choice, interruption)

    ways = {f"seed-{seed}": functools.partial(whole, seed) for seed in (0, 1)}
    ways |= {f"train-{steps}": functools.partial(short, int(steps)) for steps in values.steps}
    ways |= {f"supernet-{epochs}": functools.partial(supernet, epochs) for epochs in values.epochs}
    if values.only:
        ways = {name: ways[name] for name in values.only}
    found = {name: _measured(name, build, choices) for name, build in ways.items()}
    if values.only:
        return

    whole_rows = [found[f"seed-{seed}"]["networks"] for seed in (0, 1)]
    truth = [sum(row["cross_entropy"] for row in rows) / 2 for rows in zip(*whole_rows, strict=True)]
    correct = [-sum(row["top_1_accuracy"] for row in rows) / 2 for rows in zip(*whole_rows, strict=True)]

    def compared(column):
        return {
            "tau_cross_entropy": kendall_tau(column, truth)._asdict(),
            "tau_accuracy": kendall_tau(column, correct)._asdict(),
        }

    figures = {"more_multiply_adds": compared([-cost(choice) for choice in choices])}
    for name in ways:
        rows = found[name]["networks"]
        seconds = sorted(row["seconds"] for row in rows)[len(rows) // 2]
        timed = {"prepared_seconds": found[name]["prepared_seconds"], "median_seconds": seconds}
        figures[name] = timed if name.startswith("seed") else {**compared([r["cross_entropy"] for r in rows]), **timed}
    seeds = [[row["cross_entropy"] for row in rows] for rows in whole_rows]
    figures["seed_0_and_seed_1"] = {"tau_cross_entropy": kendall_tau(*seeds)._asdict()}
    for name, row in figures.items():
        print(
            f"{name:20}",
            {key: round(value["tau"], 2) if "tau" in key else round(value, 1) for key, value in row.items()},
        )
    write_report(
        values.report,
        {
            "space": space.encode(),
            "image_size": values.image_size,
            "train_images": data.train.num_examples,
            "held_out_images": data.held_out.num_examples,
            "recipe": recipe._asdict(),
            "estimates": figures,
            "networks": [
                {
                    "choice": choice,
                    "multiply_adds": cost(choice),
                    **{name: found[name]["networks"][at] for name in ways},
                }
                for at, choice in enumerate(choices)
            ],
        },
    )


if __name__ == "__main__":
    app.run(main)
