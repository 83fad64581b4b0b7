"""Runs or resumes a search, up to its front."""

import functools
import os
import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from mixnet_tf.data import hold_out, load_split, naming_corrupt_images
from mixnet_tf.errors import InputError
from mixnet_tf.files import check_can_be_made, write_json
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import Recipe, validate
from mixnet_tf.search.config import CONFIG, check_same, config_of, read_config, reading_of
from mixnet_tf.search.costs import (
    LATENCIES,
    LATENCY,
    LatencyTable,
    in_words,
    multiply_adds_of,
    smallest_and_largest,
)
from mixnet_tf.search.drawing import draw_front, require_matplotlib
from mixnet_tf.search.estimates import SharedWeights, ShortTraining, WholeTraining
from mixnet_tf.search.front import Trial, front_of, write_front
from mixnet_tf.search.measuring import Data, Interrupted, stop_if_asked
from mixnet_tf.search.ranking import write_ranking
from mixnet_tf.search.settings import SearchSettings
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.training import INTERRUPTED, RESTART_ME, Interruption

_PICTURE = "front.png"
_STUDY, _SUPERNET, _RUNS = "study.db", "supernet", "ranking"  # in the search's folder
# Studies; the last one measures the network most like MixNet-S.
_SEARCH, _RANDOM, _PATTERN = "search", "random", "mixnet-s"


def search(
    space: SearchSpace, dataset: str, recipe: Recipe, settings: SearchSettings, progress: Progress = silent
) -> int:
    """Searches a space for networks that are accurate and cheap, or resumes a search.

    Writes to `settings.search_dir`: search.json, the configuration; study.db, Optuna's study; front.json, all
    measurements; front.png, their plot; front/, the network files of the front, the cheapest first. If they are needed,
    also latencies.json, the time of each block; supernet/, the supernet's run; ranking.json, how well the estimate
    ranks, and ranking/, the runs for it. Several processes that share the folder and the storage divide the work.

    Args:
        space: A `SearchSpace`.
        dataset: What `mixnet_tf.data.load_split` takes.
        recipe: The `Recipe` by which networks, or the supernet, are trained.
        settings: `SearchSettings`.
        progress: Shows the phases of the work.

    Returns:
        The exit code: 0, or if a signal stopped the search 130 for SIGINT and 75 for others.

    Raises:
        ValueError: If an argument is bad, or if the folder holds another search; before anything is measured.
        MissingPackageError: If Optuna or matplotlib is not installed.
    """
    validate(recipe)
    settings.check(recipe)
    check_can_be_made("search_dir", settings.search_dir)
    require_matplotlib()
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    there = read_config(settings.search_dir)
    reading = reading_of(there, settings)
    with progress(f"Opening dataset {dataset}", draws_itself=True):
        split = load_split(dataset, settings.data_dir, True, settings.train_split, reading=reading)
    with progress("Holding out images"), naming_corrupt_images(split, progress):
        data = Data(*hold_out(split, settings.held_out))
    space = space.with_classes(split.num_classes)
    if settings.check_ranking > space.size:
        raise InputError(f"check_ranking={settings.check_ranking}: the space has only {space.size} networks.")

    if settings.cost == LATENCY:
        table = os.path.join(settings.search_dir, LATENCIES)
        cost: Callable[[Sequence[int]], float] = LatencyTable(space, recipe.image_size, table, settings.latency_table)
    else:
        cost = multiply_adds_of(space, recipe.image_size)
    config = config_of(space, split, data.held_out.digest, recipe, settings)
    if there is not None:
        check_same(there, config, settings.search_dir)
    studies = _open_studies(space, recipe, settings, cost)
    write_json(os.path.join(settings.search_dir, CONFIG), config)

    with Interruption() as interruption:
        work = _Work(space, data, recipe, settings, interruption, progress)
        stopped_by, ranking, pattern = None, None, []
        try:
            estimate = work.prepare_estimate()
            for name, count in _counts(settings).items():
                work.measure_networks(name, studies[name], count, estimate)
            pattern = [work.measure_like(_PATTERN, estimate, cost)]
            if settings.check_ranking:
                ranking = work.check_ranking(studies[_RANDOM].measured()[: settings.check_ranking])
        except Interrupted as stop:
            stopped_by = stop.signal
    reported = [_SEARCH, *([_RANDOM] if settings.random_baseline else ())]
    measured = {name: studies[name].measured() for name in reported} | {_PATTERN: pattern}
    report = write_front(space, measured, settings.search_dir, recipe.image_size, settings.cost, ranking)
    if report["front"]:
        draw_front(report, os.path.join(settings.search_dir, _PICTURE))
    if stopped_by is not None:
        logging.info(f"Measured {len(report['tried'])} networks; the same command resumes the search.")
        return INTERRUPTED if stopped_by == signal.SIGINT else RESTART_ME
    return 0


def _counts(settings):
    """The number of networks that each study needs."""
    drawn = max(settings.evaluations if settings.random_baseline else 0, settings.check_ranking)
    return {_SEARCH: settings.evaluations, **({_RANDOM: drawn} if drawn else {})}


class _Work(NamedTuple):
    """What all long parts of a search need."""

    space: SearchSpace
    data: Data
    recipe: Recipe
    settings: SearchSettings
    interruption: Interruption
    progress: Progress

    def prepare_estimate(self):
        """Builds the estimate; trains the supernet if it uses one."""
        if self.settings.estimate == "train":
            return ShortTraining(self.space, self.data, self.recipe, self.settings.estimate_steps)
        folder = os.path.join(self.settings.search_dir, _SUPERNET)
        shared = SharedWeights(self.space, self.data, self.recipe, folder)
        self._do_once(_SUPERNET, ["train"], lambda job: shared.train(self.progress))
        shared.restore()  # if another process trained it
        return shared

    def measure_networks(self, name, trials, count, estimate):
        """Measures networks until there are enough, or no new ones are proposed."""
        done = trials.measured()
        title = "Searching" if name == _SEARCH else "Random networks"
        with self.progress(title, count, "networks", min(len(done), count)) as phase:
            while len(done) < count:
                if not trials.measure_next(lambda choice: estimate(choice, self.interruption)):
                    logging.info(f"{title}: no network is left that was not measured.")
                    return
                done = trials.measured()
                best = min(done, key=lambda trial: trial.measured["cross_entropy"])
                phase.update(
                    min(len(done), count),
                    f"front {len(front_of(done))}, best cross-entropy {best.measured['cross_entropy']:.4f} "
                    f"at {in_words(best.cost, self.settings.cost)}",
                )

    def measure_like(self, model_name, estimate, cost):
        """Measures the network of the space that is most like a given network."""
        choice = self.space.like(model_name)
        with self.progress(f"Measuring {model_name}'s pattern"):
            [measured] = self._do_once(
                model_name, ["measure"], lambda job: estimate(choice, self.interruption)
            ).values()
        return Trial(choice, cost(choice), measured)

    def check_ranking(self, drawn):
        """Trains networks by the whole recipe, and compares their ranking with the estimate's."""
        folder = os.path.join(self.settings.search_dir, _RUNS)
        train = WholeTraining(self.space, self.data, self.recipe)
        choices = {"-".join(map(str, trial.choice)): trial.choice for trial in drawn}

        def train_one(job):
            place = list(choices).index(job) + 1
            logging.info(f"Network {place} of {len(choices)} by the whole recipe, in {os.path.join(folder, job)}.")
            return train(choices[job], os.path.join(folder, job), self.progress)

        whole = self._do_once(_RUNS, list(choices), train_one)
        size = self.recipe.image_size
        return write_ranking(self.space, drawn, list(whole.values()), self.settings.search_dir, size)

    def _do_once(self, name, jobs, do):
        from mixnet_tf.search.jobs import do_once  # needs Optuna

        stop = functools.partial(stop_if_asked, self.interruption)
        return do_once(name, _storage(self.settings), jobs, do, stop, self.progress)


def _open_studies(space, recipe, settings, cost):
    """Opens the studies that are needed: a dict from a study's name to its `Trials`."""
    from mixnet_tf.search.trials import Trials  # needs Optuna, unlike spaces and supernets

    tf.io.gfile.makedirs(settings.search_dir)
    storage, seed = _storage(settings), recipe.seed
    populations = {_SEARCH: settings.population, _RANDOM: None}
    firsts = {_SEARCH: smallest_and_largest(space), _RANDOM: []}
    return {
        name: Trials(space, name, storage, cost, populations[name], seed, settings.max_cost, firsts[name])
        for name in _counts(settings)
    }


def _storage(settings):
    if settings.storage is not None:
        return settings.storage
    from mixnet_tf.search.storage import sqlite_address  # needs Optuna

    return sqlite_address(os.path.join(os.path.abspath(settings.search_dir), _STUDY))
