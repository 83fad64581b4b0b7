"""Searches a space of networks on one's own data, for a front of cheap and good ones."""

import os

from absl import flags

from mixnet_tf.commands import command_line, settings_flags
from mixnet_tf.commands.screen import Screen
from mixnet_tf.search import COSTS, ESTIMATES, SearchSettings, SearchSpace, search


def define_flags() -> None:
    """Defines the command's flags."""
    default = SearchSettings._field_defaults
    settings_flags.define_path(
        "space",
        "mixnet-s",
        "A network file whose block strings have alternatives; or a network, around which the space is.",
    )
    flags.DEFINE_string(
        "dataset", "scattered_digits", "digits, scattered_digits, tfrecord, folder, or a name of tensorflow_datasets."
    )
    settings_flags.define_path("search_dir", "runs/search", "Where the search is kept; the same command resumes it.")
    settings_flags.define_path("data_dir", "data", "Where the data is or, for tensorflow_datasets, is prepared.")
    flags.DEFINE_string(
        "train_split", default["train_split"], "Split to train and compare networks on; by default train."
    )
    flags.DEFINE_float("held_out", default["held_out"], "Fraction of that split that networks are compared on.")
    flags.DEFINE_integer("evaluations", default["evaluations"], "Networks to measure.", lower_bound=1)
    flags.DEFINE_integer("population", default["population"], "Networks of a generation.", lower_bound=2)
    flags.DEFINE_enum(
        "cost", default["cost"], COSTS, "latency: of a float32 export in LiteRT, the sum over blocks, one thread."
    )
    settings_flags.define_path(
        "latency_table",
        default["latency_table"],
        "latency: JSON file of the time of each block, such as a phone's; by default this machine is measured.",
    )
    flags.DEFINE_float("max_cost", default["max_cost"], "Most multiply-adds, or milliseconds, of a network.")
    flags.DEFINE_enum(
        "estimate",
        default["estimate"],
        ESTIMATES,
        "train: each network for --estimate_steps; supernet: with weights that all networks share.",
    )
    flags.DEFINE_integer(
        "estimate_steps", default["estimate_steps"], "train: steps that a network is trained for.", lower_bound=1
    )
    flags.DEFINE_bool(
        "random_baseline", default["random_baseline"], "Measure as many networks drawn at random; twice the work."
    )
    flags.DEFINE_integer(
        "check_ranking",
        default["check_ranking"],
        "Networks drawn at random to train by the whole recipe, to see how well the estimate ranks them; 0: none.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "storage",
        default["storage"],
        "Database that workers share, such as postgresql://...; by default a file in --search_dir.",
    )
    flags.DEFINE_bool(
        "deterministic", default["deterministic"], "Bit-equal results from equal searches, at some cost of speed."
    )
    command_line.define_recipe_flags()


def main(screen: Screen) -> int:
    """Searches as the flags say; returns the exit code."""
    values = flags.FLAGS
    settings = SearchSettings(**settings_flags.flag_values(SearchSettings._fields))
    recipe = command_line.recipe_from_flags(values.dataset)
    space = SearchSpace.read(values.space, recipe.model_overrides)
    code = search(space, values.dataset, recipe, settings, screen.phase)
    if code == 0:
        train = command_line.other_command("train.py")
        best = command_line.flag_in_words("model_name", os.path.join(settings.search_dir, "front", "00.json"))
        screen.say(f"Next: {train} {best} --dataset={values.dataset} --model_dir=runs/found")
    return code
