"""The flags of a recipe, and the recipe that they describe."""

import json
import os

from absl import flags

from mixnet_tf.commands import settings_flags
from mixnet_tf.commands.settings_flags import flag_values
from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, exists
from mixnet_tf.recipe import CLASSIFICATION, RECIPES, Recipe, recipe_for
from mixnet_tf.runs import CONFIG, RunConfig

_RECIPE_FLAGS = tuple(name for name in Recipe._fields if name not in ("model_overrides", "name"))


def define_recipe_flags() -> None:
    """Defines a flag for each field of `Recipe`, without a default: the recipe has it."""
    flags.DEFINE_string(
        "model_overrides",
        None,
        "JSON object of model parameters to replace in addition to those that the recipe replaces, such as "
        '{"dropout_rate": 0.3} or {"activation": "mish"}.',
    )
    flags.DEFINE_enum("recipe", None, list(RECIPES), "Settings to start from; by default the dataset's own.")
    settings_flags.define(Recipe, names=_RECIPE_FLAGS, **dict.fromkeys(_RECIPE_FLAGS))


def recipe_from_flags(dataset: str, model_dir: StrPath | None = None, task: str = CLASSIFICATION) -> Recipe:
    """Returns the recipe of a run, with the flags that were given in place of its fields.

    A run that has begun in `model_dir` keeps the recipe of its config.json, even if a newer version has changed that
    recipe. A new run, or one without a folder, has the recipe that `--recipe` names, or the dataset's own recipe.
    """
    values = flags.FLAGS
    if model_dir is not None and exists(os.path.join(model_dir, CONFIG)):
        recipe = RunConfig.read(model_dir).recipe
        # Only the name: `train` refuses to resume a run of another recipe.
        recipe = recipe._replace(name=values.recipe or recipe.name)
    else:
        recipe = recipe_for(dataset, task) if values.recipe is None else RECIPES[values.recipe]
    given = {name: value for name, value in flag_values(_RECIPE_FLAGS).items() if value is not None}
    if "train_epochs" in given and "train_steps" in given:
        raise InputError("Give either --train_epochs or --train_steps, not both.")
    if "train_epochs" in given:
        given["train_steps"] = None
    if values.model_overrides is not None:
        given["model_overrides"] = {**(recipe.model_overrides or {}), **_json_object(values.model_overrides)}
    return recipe._replace(**given)


def _json_object(text):
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"model_overrides: {text!r} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise InputError(
            f'model_overrides: expected a JSON object, such as {{"dropout_rate": 0.3}}; received {text!r}.'
        )
    return value
