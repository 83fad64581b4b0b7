"""The flags of a recipe, and the recipe that they describe."""

import json
from typing import Any

from absl import flags

from mixnet_tf.commands import settings_flags
from mixnet_tf.commands.settings_flags import flag_values
from mixnet_tf.errors import InputError
from mixnet_tf.named_recipes import RECIPES, recipe_for
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import replaced

_RECIPE_FLAGS = tuple(name for name in Recipe._fields if name not in ("model_overrides", "name"))


def define_recipe_flags(*others: str) -> None:
    """Defines a flag for each field of `Recipe`, without a default: the recipe has it.

    Args:
        *others: Names that `--recipe` takes beside those of `RECIPES`.
    """
    flags.DEFINE_string(
        "model_overrides",
        None,
        "JSON object of model parameters to replace in addition to those that the recipe replaces, such as "
        '{"dropout_rate": 0.3} or {"activation": "mish"}.',
    )
    flags.DEFINE_enum("recipe", None, [*RECIPES, *others], "Settings to start from; by default the dataset's own.")
    settings_flags.define(Recipe, names=_RECIPE_FLAGS, **dict.fromkeys(_RECIPE_FLAGS))


def recipe_name_and_fields() -> tuple[str | None, dict[str, Any]]:
    """The recipe that the flags name, and the fields that they give."""
    given = {name: value for name, value in flag_values(_RECIPE_FLAGS).items() if value is not None}
    if flags.FLAGS.model_overrides is not None:
        given["model_overrides"] = _json_object(flags.FLAGS.model_overrides)
    return flags.FLAGS.recipe, given


def recipe_from_flags(dataset: str) -> Recipe:
    """The recipe that the flags name, or the dataset's own, with the fields that they give."""
    name, fields = recipe_name_and_fields()
    return replaced(recipe_for(dataset) if name is None else RECIPES[name], fields)


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
