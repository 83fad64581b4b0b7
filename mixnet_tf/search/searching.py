"""Runs or resumes a search, up to its front."""

import functools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from mixnet_tf.data import DATA_VERSION, hold_out, load_split, naming_corrupt_images
from mixnet_tf.errors import InputError, MissingFileError, is_count
from mixnet_tf.files import check_can_be_made, is_remote, read_json, write_json
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import Recipe, validate
from mixnet_tf.search.costs import (
    COSTS,
    LATENCIES,
    LATENCY,
    MULTIPLY_ADDS,
    LatencyTable,
    in_words,
    multiply_adds_of,
    smallest_and_largest,
)
from mixnet_tf.search.drawing import draw_front, require_matplotlib
from mixnet_tf.search.estimates import SharedWeights, ShortTraining, WholeTraining
from mixnet_tf.search.front import Trial, front_of, write_front
from mixnet_tf.search.measuring import Data, Interrupted, stop_if_asked
from mixnet_tf.search.ranking import FEWEST, write_ranking
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.training import INTERRUPTED, RESTART_ME, Interruption

ESTIMATES = ("train", "supernet")
CONFIG, PICTURE = "search.json", "front.png"
_STUDY, _SUPERNET, _RUNS = "study.db", "supernet", "ranking"  # in the search's folder
# Studies; the last one measures the network most like MixNet-S.
_SEARCH, _RANDOM, _PATTERN = "search", "random", "mixnet-s"


class SearchSettings(NamedTuple):
    """How a search is carried out, and on which data.

    Attributes:
        search_dir: The search's folder, on this machine or, with `storage`, one that all workers reach.
        data_dir: Where the data is or, for tensorflow_datasets, is prepared.
        train_split: Split whose images networks are trained and compared on; None: "train".
        held_out: Fraction of it that is not trained on, for the comparison.
        evaluations: Networks to measure.
        population: Of NSGA-II.
        cost: One of `COSTS`: "multiply-adds", or "latency", milliseconds of a float32 export on one thread in LiteRT.
        latency_table: latency: a file of the times of all blocks, as `LatencyTable` keeps them; None: this machine's.
        max_cost: Most multiply-adds or milliseconds of a network; None: any.
        estimate: One of `ESTIMATES`: "train" trains each network for `estimate_steps`; "supernet" trains a supernet by
            the whole recipe and measures each network with its weights.
        estimate_steps: Of each network's training.
        random_baseline: Whether as many networks drawn at random are measured, too.
        check_ranking: Networks, drawn at random, to train by the whole recipe, for the rank correlation of the estimate
            with that; 0: none.
        storage: Address of the database that workers share; None: a file in `search_dir`.
        deterministic: Whether equal searches give bit-equal results, at some cost of speed.
    """

    search_dir: str
    data_dir: str
    train_split: str | None = None
    held_out: float = 0.2
    evaluations: int = 100
    population: int = 20
    cost: str = MULTIPLY_ADDS
    latency_table: str | None = None
    max_cost: float | None = None
    estimate: str = "train"
    estimate_steps: int = 200
    random_baseline: bool = False
    check_ranking: int = 0
    storage: str | None = None
    deterministic: bool = False


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
    _check(recipe, settings)
    check_can_be_made("search_dir", settings.search_dir)
    require_matplotlib()
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    there = _read_config(settings.search_dir)
    data_version = DATA_VERSION if there is None else there.get("data_version", 0)
    with progress(f"Opening dataset {dataset}", draws_itself=True):
        split = load_split(dataset, settings.data_dir, True, settings.train_split, data_version=data_version)
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
    config = _config(space, split, data.held_out.digest, recipe, settings)
    if there is not None:
        _check_config(there, config, settings.search_dir)
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
        draw_front(report, os.path.join(settings.search_dir, PICTURE))
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


def _check(recipe, settings):
    counts = ("evaluations", "population", "estimate_steps")
    for name in counts:
        if not is_count(getattr(settings, name)):
            raise InputError(f"{name}: expected a whole number from 1, received {getattr(settings, name)!r}.")
    if settings.population < 2:
        raise InputError(f"population: expected a whole number from 2, received {settings.population!r}.")
    if settings.max_cost is not None and not settings.max_cost > 0:
        raise InputError(f"max_cost: expected {settings.cost} above 0, received {settings.max_cost!r}.")
    if settings.cost not in COSTS:
        raise InputError(f"cost: expected one of {COSTS}, received {settings.cost!r}.")
    if settings.latency_table is not None and settings.cost != LATENCY:
        raise InputError(f"latency_table goes with cost={LATENCY!r}; received cost={settings.cost!r}.")
    if settings.estimate not in ESTIMATES:
        raise InputError(f"estimate: expected one of {ESTIMATES}, received {settings.estimate!r}.")
    if not 0 < settings.held_out < 1:
        raise InputError(f"held_out: expected a fraction above 0 and below 1, received {settings.held_out!r}.")
    if settings.check_ranking and not (is_count(settings.check_ranking) and settings.check_ranking >= FEWEST):
        raise InputError(
            f"check_ranking: expected 0 or a whole number from {FEWEST}, received {settings.check_ranking!r}."
        )
    if recipe.freeze != "none":
        raise InputError(f"freeze={recipe.freeze!r}: a search trains networks from random weights.")
    if settings.storage is None and is_remote(settings.search_dir):
        raise InputError(
            f"search_dir: {settings.search_dir!r} is on remote storage, where SQLite keeps no study; give --storage, "
            "such as postgresql://user:password@host/database."
        )


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


def _config(space, split, digest, recipe, settings):
    """The settings that decide the results, which are equal in all processes of a search."""
    names = ("held_out", "population", "cost", "latency_table", "max_cost", "estimate", "estimate_steps")
    return {
        "space": {"blocks": space.encode(), "params": space.global_params._asdict()},
        "dataset": split.dataset,
        "train_split": split.name,
        "num_train_images": split.num_examples,
        "recipe": recipe._asdict(),
        **{name: getattr(settings, name) for name in names},
        "data_version": split.data_version,
        "held_out_digest": digest,
    }


def _read_config(search_dir):
    """The configuration of the search in a folder; None if there is none."""
    path = os.path.join(search_dir, CONFIG)
    try:
        there = read_json(path)
    except MissingFileError:
        return None
    if not isinstance(there, dict):
        raise InputError(f"{path} is not the configuration of a search; name another search_dir.")
    return there


def _check_config(there, config, search_dir):
    """Raises a ValueError if the folder holds another search."""
    path = os.path.join(search_dir, CONFIG)
    lines = [*_differences("", {"data_version": 0, **there}, config)]  # 0.2.0 recorded none
    if lines:
        listing = "\n".join(f"  {line}" for line in lines)
        raise InputError(f"{path} is of another search; name another search_dir.\n{listing}")


def _differences(prefix: str, there: dict[str, Any], here: dict[str, Any]) -> Sequence[str]:
    found: list[str] = []
    for name in {**there, **here}:
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(f"{prefix}{name}.", old, new)
        elif old != new:
            found.append(f"{prefix}{name}: {old!r} there, {new!r} here")
    return found
