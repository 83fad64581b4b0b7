"""A search from its beginning, or from where it was, to its front."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from mixnet_tf.data import hold_out, load_split, naming_corrupt_images
from mixnet_tf.errors import InputError, MissingFileError, is_count
from mixnet_tf.files import is_remote, read_json, write_json
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
from mixnet_tf.search.estimates import Data, Interrupted, SharedWeights, ShortTraining
from mixnet_tf.search.front import front_of, write_front
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.training import INTERRUPTED, RESTART_ME, Interruption

ESTIMATES = ("train", "supernet")
CONFIG, PICTURE = "search.json", "front.png"
_STORAGE, _SUPERNET = "study.db", "supernet"


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
    storage: str | None = None
    deterministic: bool = False


def search(
    space: SearchSpace, dataset: str, recipe: Recipe, settings: SearchSettings, progress: Progress = silent
) -> int:
    """Searches a space for networks that are better and cheaper than others, or resumes a search.

    Leaves in `settings.search_dir`: search.json, the configuration; study.db, Optuna's study; front.json, all that was
    measured; front.png, its picture; front/, the network files of the front, the cheapest first; where they were
    needed, latencies.json, the time of each block, and supernet/, the supernet's run. Several processes that share the
    folder and the storage divide the work.

    Args:
        space: A `SearchSpace`.
        dataset: What `mixnet_tf.data.load_split` takes.
        recipe: The `Recipe` by which networks, or the supernet, are trained.
        settings: `SearchSettings`.
        progress: Shows the phases of the work.

    Returns:
        The exit code: 0; or, where a signal stopped the search, 130 for SIGINT, else 75.

    Raises:
        ValueError: For bad arguments, or another search in the folder, before anything is measured.
        MissingPackageError: Without Optuna or matplotlib.
    """
    validate(recipe)
    _check(recipe, settings)
    require_matplotlib()
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    with progress(f"Opening dataset {dataset}", draws_itself=True):
        split = load_split(dataset, settings.data_dir, True, settings.train_split)
    with progress("Holding out images"), naming_corrupt_images(split, progress):
        data = Data(*hold_out(split, settings.held_out))
    space = space.with_classes(split.num_classes)

    if settings.cost == LATENCY:
        table = os.path.join(settings.search_dir, LATENCIES)
        cost: Callable[[Sequence[int]], float] = LatencyTable(space, recipe.image_size, table, settings.latency_table)
    else:
        cost = multiply_adds_of(space, recipe.image_size)
    config = _config(space, split, recipe, settings)
    _check_config(config, settings.search_dir)
    studies = _open_studies(space, recipe, settings, cost)
    write_json(os.path.join(settings.search_dir, CONFIG), config)

    if settings.estimate == "supernet":
        shared = SharedWeights(space, data, recipe, os.path.join(settings.search_dir, _SUPERNET))
        stopped_by = shared.train(progress)
        if stopped_by is not None:
            return _exit_code(stopped_by)
        estimate: SharedWeights | ShortTraining = shared
    else:
        estimate = ShortTraining(space, data, recipe, settings.estimate_steps)

    stopped_by = None
    with Interruption() as interruption:
        for name, trials in studies.items():
            try:
                _measure_networks(name, trials, estimate, interruption, settings.evaluations, settings.cost, progress)
            except Interrupted:
                stopped_by = interruption.requested
                break
    measured = {name: trials.measured() for name, trials in studies.items()}
    report = write_front(space, measured, settings.search_dir, recipe.image_size, settings.cost)
    if report["front"]:
        draw_front(report, os.path.join(settings.search_dir, PICTURE))
    if stopped_by is not None:
        logging.info(f"Measured {len(report['tried'])} networks; the same command resumes the search.")
        return _exit_code(stopped_by)
    return 0


def _measure_networks(name, trials, estimate, interruption, evaluations, cost, progress):
    """Measures networks until there are enough, or no new ones."""
    done = trials.measured()
    title = "Searching" if name == "search" else "Random baseline"
    with progress(title, evaluations, "networks", min(len(done), evaluations)) as phase:
        while len(done) < evaluations:
            found_one = trials.measure_next(lambda choice: estimate(choice, lambda: interruption.requested is not None))
            if not found_one:
                logging.info(f"{title}: no network is left that was not measured.")
                return
            done = trials.measured()
            best = min(done, key=lambda trial: trial.measured["cross_entropy"])
            phase.update(
                min(len(done), evaluations),
                f"front {len(front_of(done))}, best cross-entropy {best.measured['cross_entropy']:.4f} "
                f"at {in_words(best.cost, cost)}",
            )


def _exit_code(signal_number):
    return INTERRUPTED if signal_number == signal.SIGINT else RESTART_ME


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
    if recipe.freeze != "none":
        raise InputError(f"freeze={recipe.freeze!r}: a search trains networks from random weights.")
    if settings.storage is None and is_remote(settings.search_dir):
        raise InputError(
            f"search_dir: {settings.search_dir!r} is on remote storage, where SQLite keeps no study; give --storage, "
            "such as postgresql://user:password@host/database."
        )


def _open_studies(space, recipe, settings, cost):
    """Dict from "search" and, where asked for, "random" to their `Trials`."""
    from mixnet_tf.search.trials import Trials  # needs Optuna, which spaces and supernets do without

    tf.io.gfile.makedirs(settings.search_dir)
    storage = settings.storage
    if storage is None:
        storage = f"sqlite:///{os.path.join(os.path.abspath(settings.search_dir), _STORAGE)}"
    populations = {"search": settings.population, **({"random": None} if settings.random_baseline else {})}
    firsts = {"search": smallest_and_largest(space), "random": []}
    return {
        name: Trials(space, name, storage, cost, population, recipe.seed, settings.max_cost, firsts[name])
        for name, population in populations.items()
    }


def _config(space, split, recipe, settings):
    """What decides the search's results: equal in all its processes."""
    names = ("held_out", "population", "cost", "latency_table", "max_cost", "estimate", "estimate_steps")
    return {
        "space": {"blocks": space.encode(), "params": space.global_params._asdict()},
        "dataset": split.dataset,
        "train_split": split.name,
        "num_train_images": split.num_examples,
        "recipe": recipe._asdict(),
        **{name: getattr(settings, name) for name in names},
    }


def _check_config(config, search_dir):
    """Refuses a folder that holds another search."""
    path = os.path.join(search_dir, CONFIG)
    try:
        there = read_json(path)
    except MissingFileError:
        return
    lines = [*_differences("", there, config)]
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
