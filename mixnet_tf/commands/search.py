"""Searches a space of networks, on any dataset, for a front of cheap and accurate ones."""

import os

from absl import flags

from mixnet_tf.commands import following, recipe_flags, settings_flags
from mixnet_tf.commands.screen import Screen
from mixnet_tf.search import SearchSettings, SearchSpace, search


def define_flags() -> None:
    """Defines the command's flags."""
    settings_flags.define_path(
        "space",
        "mixnet-s",
        "Space of networks: a network file whose block strings have alternatives, or a network to search around.",
    )
    flags.DEFINE_string(
        "dataset",
        "scattered_digits",
        "Dataset: digits, scattered_digits, tfrecord, folder, list, or a name of tensorflow_datasets.",
    )
    settings_flags.define(SearchSettings, search_dir="runs/search", data_dir="data")
    recipe_flags.define_recipe_flags()


def main(screen: Screen) -> int:
    """Searches as the flags say; returns the exit code."""
    values = flags.FLAGS
    settings = SearchSettings(**settings_flags.flag_values(SearchSettings._fields))
    recipe = recipe_flags.recipe_from_flags(values.dataset)
    space = SearchSpace.read(values.space, recipe.model_overrides)
    code = search(space, values.dataset, recipe, settings, screen.phase)
    if code == 0:
        train = following.other_command("train.py")
        best = following.flag_in_words("model_name", os.path.join(settings.search_dir, "front", "00.json"))
        data = "".join(map(following.given, ("data_dir", "list", "validation_fraction")))
        screen.say(f"Next: {train} {best} --dataset={values.dataset}{data} --model_dir=runs/found")
    return code
