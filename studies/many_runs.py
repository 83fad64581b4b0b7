"""Trains several networks from several seeds each, as `train.py` does, and collects their results."""

import gc
import os
import statistics
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras

import mixnet_tf
from mixnet_tf.data import Reading, load_split
from mixnet_tf.errors import InputError
from mixnet_tf.files import exists, write_json
from mixnet_tf.networks import BlockArgs, GlobalParams, count_parts, network_content, override_global_params
from mixnet_tf.provenance import provenance
from mixnet_tf.runs import CONFIG, FINAL, RunConfig
from mixnet_tf.training import is_chief, make_strategy, read_metrics, train


class Network(NamedTuple):
    """A network of a study.

    Attributes:
        name: The network's folder inside the study's.
        stages: Its list of `BlockArgs`.
        params: Its `GlobalParams`.
        recipe_fields: The fields of the recipe that differ from the study's.
    """

    name: str
    stages: list[BlockArgs]
    params: GlobalParams
    recipe_fields: Mapping[str, Any] = MappingProxyType({})


class Study(NamedTuple):
    """The networks, seeds, dataset and options of a study.

    Attributes:
        networks: Each `Network` once.
        seeds: Each network is trained from each of these.
        dataset: What `mixnet_tf.data.load_split` takes.
        recipe: The `Recipe`.
        options: The `RunOptions` of the runs; `model_dir` is the study's folder.
    """

    networks: list[Network]
    seeds: range
    dataset: str
    recipe: mixnet_tf.recipe.Recipe
    options: mixnet_tf.training.RunOptions

    @property
    def runs(self) -> list[tuple[Network, int]]:
        """(network, seed) of each run; the first seed of all goes first."""
        return [(network, seed) for seed in self.seeds for network in self.networks]

    def folder(self, network: Network, seed: int) -> str:
        """The folder of a run."""
        return os.path.join(self.options.model_dir, network.name, f"seed-{seed}")

    def recipe_of(self, network: Network, seed: int) -> mixnet_tf.recipe.Recipe:
        """The recipe of a run."""
        return self.recipe._replace(**network.recipe_fields, seed=seed)

    def network_file(self, network: Network) -> str:
        """The path of a network's file."""
        return os.path.join(self.options.model_dir, "networks", f"{network.name}.json")


def carry_out(study, title, screen):
    """Trains the networks and seeds that are not trained yet.

    Args:
        study: A `Study`.
        title: The study's name on the screen.
        screen: The command's screen.

    Returns:
        (exit code, results so far as JSON values); the second is None on a host that does not write the runs'
        files.

    Raises:
        ValueError: If the folder holds another study.
    """
    options = study.options
    chief = is_chief(make_strategy(options.strategy, options.tpu))  # before anything is computed
    _check_runs(study)
    with screen.phase(f"Opening dataset {study.dataset}", draws_itself=True):
        train_split = load_split(
            study.dataset,
            options.data_dir,
            True,
            options.train_split,
            options.num_train_images,
            options.allow_missing_shards,
            reading=options.reading(Reading()),
        )
    for network in study.networks:
        write_json(study.network_file(network), network_content(network.stages, network.params))
    steps = study.recipe.total_steps(train_split.num_examples)
    finished = sum(_is_finished(study.folder(*run)) for run in study.runs)
    screen.say(
        f"{title}: {len(study.runs)} runs of {steps:,} steps, {steps * study.recipe.train_batch_size:,} "
        f"images; {finished} are finished."
    )
    code = _train_missing(study, screen)
    return code, _report(study, train_split) if chief else None


def _check_runs(study):
    """Raises a ValueError if a run in the study's folder has another configuration, before any is trained."""
    for network, seed in study.runs:
        model_dir = study.folder(network, seed)
        if study.options.allow_config_change or not exists(os.path.join(model_dir, CONFIG)):
            continue
        there = RunConfig.read(model_dir)
        now = there._replace(
            dataset=study.dataset,
            recipe=study.recipe_of(network, seed),
            network=network_content(network.stages, network.params),
        )
        differences = "\n".join(f"  {line}" for line in there.differences(now))
        if differences:
            raise InputError(
                f"{model_dir} is of another configuration; name another model_dir for this study.\n{differences}"
            )


def _train_missing(study, screen):
    """Trains each run that is not finished; returns the exit code of the first that was interrupted, or 0.

    Once more than one run is finished, each prints an estimate of the remaining time.
    """
    missing = [run for run in study.runs if not _is_finished(study.folder(*run))]
    seconds: list[float] = []
    for number, (network, seed) in enumerate(missing):
        left = f", about {statistics.mean(seconds) * (len(missing) - number) / 60:.0f} min left" if seconds else ""
        screen.say(f"Run {number + 1} of {len(missing)}: {network.name}, seed {seed}{left}")
        start = time.monotonic()
        options = study.options._replace(model_dir=study.folder(network, seed))
        if options.eval_every is None and RunConfig.read_if_any(options.model_dir) is None:
            options = options._replace(eval_every=0.0)  # networks are compared after their last step
        code = train(
            study.network_file(network), study.dataset, study.recipe_of(network, seed), options, progress=screen.phase
        )
        if code:
            return code
        seconds.append(time.monotonic() - start)
        keras.backend.clear_session()
        gc.collect()
    return 0


def _is_finished(model_dir):
    return exists(os.path.join(model_dir, FINAL)) and bool(_evaluations(model_dir))


def _evaluations(model_dir):
    return [row for row in read_metrics(model_dir) if row["kind"] == "eval"]


def _report(study, train_split):
    """The results so far, as JSON values."""
    networks = {}
    for network in study.networks:
        rows = [_result(study, network, seed) for seed in study.seeds if _is_finished(study.folder(network, seed))]
        accuracies = [row["top_1_accuracy"] for row in rows]
        if rows:
            networks[network.name] = {
                **_size(network, study.recipe, train_split),
                "mean": statistics.mean(accuracies),
                "standard_deviation": statistics.stdev(accuracies) if len(rows) > 1 else None,
                "runs": rows,
            }
    return {
        **provenance(),
        "mixnet_tf": mixnet_tf.__version__,
        "dataset": study.dataset,
        "train_images": train_split.num_examples,
        "recipe": study.recipe._asdict(),
        "networks": networks,
    }


def _result(study, network, seed):
    model_dir = study.folder(network, seed)
    split = RunConfig.read(model_dir).eval_split
    return {"seed": seed, "model_dir": model_dir, "split": split, **_evaluations(model_dir)[-1]}


def _size(network, recipe, train_split):
    overrides = {**recipe.model_params(train_split.num_examples), "num_classes": train_split.num_classes}
    params = override_global_params(network.params, overrides)
    parts = count_parts(network.stages, params, recipe.image_size)
    return {
        "parameters": sum(part.trainable for part in parts),
        "multiply_adds": sum(part.multiply_adds for part in parts),
    }
