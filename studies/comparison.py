"""The study of `found_networks.py`: trains a search's networks by the whole recipe."""

import os

from absl import flags
from many_runs import Network, Study, carry_out

from mixnet_tf.commands import settings_flags
from mixnet_tf.errors import InputError
from mixnet_tf.files import read_json, write_json
from mixnet_tf.networks import stages_and_params
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import RunOptions

_OPTIONS = ("model_dir", "data_dir", "eval_split", "deterministic")


def define_flags():
    settings_flags.define_path("search_dir", "runs/search", "The search's folder.")
    settings_flags.define(RunOptions, _OPTIONS, model_dir="runs/found", data_dir="data", eval_split="test")
    flags.DEFINE_integer("seeds", 3, "Number of seeds per network, from the search's seed upwards.", lower_bound=1)


def main(screen):
    """Trains the networks that are not trained yet, and reports; returns the exit code."""
    values = flags.FLAGS
    config = read_json(os.path.join(values.search_dir, "search.json"))
    chosen = _choose(read_json(os.path.join(values.search_dir, "front.json")))
    recipe = Recipe(**config["recipe"])
    options = RunOptions(**settings_flags.flag_values(_OPTIONS), train_split=config["train_split"])
    networks = [
        Network(name, *stages_and_params(None, row["blocks"], config["space"]["params"]))
        for name, row in chosen.items()
    ]
    seeds = range(recipe.seed, recipe.seed + values.seeds)
    study = Study(networks, seeds, config["dataset"], recipe, options)
    code, report = carry_out(study, "Found networks", screen)
    if report is not None and report["networks"]:
        path = os.path.join(options.model_dir, "found.json")
        for name, row in report["networks"].items():
            row["searched"] = chosen[name]
            screen.say(
                f"{name}: {row['mean']:.2%} +-{100 * (row['standard_deviation'] or 0):.2f} on {values.eval_split}"
            )
        write_json(path, {**report, "search_dir": values.search_dir})
        screen.say(f"Wrote {path}.")
    return code


def _choose(front):
    """The rows of a search's front.json to train, by name."""
    if not front.get("mixnet-s") or not front.get("random"):
        raise InputError("search_dir: the search has no random networks; finish it with --random_baseline.")
    [pattern] = front["mixnet-s"]
    cost = "latency_ms" if front["cost"] == "latency" else "multiply_adds"

    def best(name):
        rows = [row for row in front[name] if row[cost] <= pattern[cost] and row["cross_entropy"] is not None]
        if not rows:
            raise InputError(
                f"search_dir: no network of {name!r} costs at most {pattern[cost]}, as MixNet-S's pattern."
            )
        return min(rows, key=lambda row: row["cross_entropy"])

    return {"found": best("tried"), "random": best("random"), "mixnet-s": pattern}
