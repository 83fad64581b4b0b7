"""Compares the search with random draws: the hypervolume of both after the same number of evaluations.

python benchmarks/search_against_random.py --report=benchmarks/search_against_random.json

Networks are measured with the weights of one supernet, as with --estimate=supernet. So a network has the same value in
every search, the searches share their measurements, and both ways are compared on equal terms. Measurements are kept in
--work_dir.
"""

import json
import math
import os
import pathlib
import statistics
import time

from absl import app, flags
from measurement import write_report

from mixnet_tf.data import hold_out, load_split
from mixnet_tf.files import write_json
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.search import SearchSpace, hypervolume
from mixnet_tf.search.costs import multiply_adds_of, smallest_and_largest
from mixnet_tf.search.estimates import SharedWeights
from mixnet_tf.search.measuring import Data
from mixnet_tf.search.trials import Trials
from mixnet_tf.training import Interruption

flags.DEFINE_string("space", "studies/search_space.json", "The space.")
flags.DEFINE_string("data_dir", "data", "Where scattered_digits is prepared.")
flags.DEFINE_string("work_dir", "runs/search_against_random", "Folder for the supernet and the measurements.")
flags.DEFINE_integer("evaluations", 400, "Networks per search, and per random draw.", lower_bound=2)
flags.DEFINE_integer("population", 20, "Networks per generation.", lower_bound=2)
flags.DEFINE_integer("seeds", 3, "Number of searches, and of random draws, each with its own seed.", lower_bound=1)
flags.DEFINE_integer("image_size", 32, "Pixels.", lower_bound=1)
flags.DEFINE_float("train_epochs", 7.0, "Epochs of the supernet.")
flags.DEFINE_string("report", None, "JSON file for the figures.")
_COUNTS = (25, 50, 100, 200, 400, 800)  # evaluations after which both are compared


class _Measured:
    """Measures each network once for all searches, and keeps the values in a file."""

    def __init__(self, estimate, path):
        self._estimate, self._path, self._interruption = estimate, path, Interruption()
        self._found = json.loads(pathlib.Path(path).read_text()) if os.path.exists(path) else {}
        self.seconds = []

    def __call__(self, choice):
        key = "-".join(map(str, choice))
        if key not in self._found:
            start = time.perf_counter()
            self._found[key] = self._estimate(choice, self._interruption)
            self.seconds.append(time.perf_counter() - start)
            if len(self.seconds) % 50 == 0:
                self.keep()
        return self._found[key]

    def keep(self):
        write_json(self._path, self._found)


def main(argv):
    del argv
    values = flags.FLAGS
    recipe = RECIPES["scattered_digits"]._replace(image_size=values.image_size, train_epochs=values.train_epochs)
    data = Data(*hold_out(load_split("scattered_digits", values.data_dir, True), 0.2))
    space = SearchSpace.read(values.space, recipe.model_overrides).with_classes(data.train.num_classes)
    cost = multiply_adds_of(space, values.image_size)
    shared = SharedWeights(space, data, recipe, os.path.join(values.work_dir, "supernet"))
    shared.train()
    measured = _Measured(shared, os.path.join(values.work_dir, "measured.json"))

    found = {}
    for seed in range(values.seeds):
        for name, population, first in (
            ("search", values.population, smallest_and_largest(space)),
            ("random", None, ()),
        ):
            trials = Trials(space, name, None, cost, population, seed, None, first)
            while len(trials.measured()) < values.evaluations and trials.measure_next(measured):
                count = len(trials.measured())
                if count % 50 == 0:
                    print(f"{name}, seed {seed}: {count} of {values.evaluations}", flush=True)
            found[name, seed] = trials.measured()
    measured.keep()

    everything = [trial for trials in found.values() for trial in trials]
    corner = (
        max(trial.measured["cross_entropy"] for trial in everything if math.isfinite(trial.measured["cross_entropy"])),
        max(trial.cost for trial in everything),
    )
    spanned = math.prod(corner)
    rows = {}
    for count in [count for count in _COUNTS if count <= values.evaluations]:
        areas = {
            name: [hypervolume(found[name, seed][:count], corner) / spanned for seed in range(values.seeds)]
            for name in ("search", "random")
        }
        rows[count] = areas
        means = {name: statistics.mean(each) for name, each in areas.items()}
        print(f"{count:4} evaluations: search {means['search']:.4f}, random {means['random']:.4f}", flush=True)
    best = {
        f"{name}, seed {seed}": min(trial.measured["cross_entropy"] for trial in trials)
        for (name, seed), trials in found.items()
    }
    write_report(
        values.report,
        {
            "space": space.encode(),
            "image_size": values.image_size,
            "recipe": recipe._asdict(),
            "population": values.population,
            "corner": {"cross_entropy": corner[0], "multiply_adds": corner[1]},
            "hypervolume_by_evaluations": rows,
            "best_cross_entropy": best,
            "median_seconds_of_a_measurement": statistics.median(measured.seconds) if measured.seconds else None,
        },
    )


if __name__ == "__main__":
    app.run(main)
