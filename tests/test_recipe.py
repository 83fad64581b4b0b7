"""Recipes: the official figures, and a rule for every field."""

import re

import numpy as np
import pytest

from mixnet_tf.named_recipes import RECIPES, recipe_for
from mixnet_tf.recipe import Recipe, validate
from mixnet_tf.settings import fields

FIELDS = {name: field for name, field in fields(Recipe).items() if name not in ("model_overrides", "name")}


def test_every_field_has_a_rule_and_a_help_text():
    assert set(fields(Recipe)) == set(Recipe._fields)
    assert all(field.setting.words.endswith(".") for field in FIELDS.values())
    assert all(f"    {name}: {field.setting.words}\n" in Recipe.__doc__ for name, field in FIELDS.items())


def test_the_default_is_the_official_imagenet_recipe():
    recipe = Recipe()
    assert recipe.total_steps(1281167) == 437898
    assert recipe.steps_per_epoch(1281167) == 1281167 / 1024
    assert recipe.base_learning_rate * recipe.train_batch_size / 256 == 0.064


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name):
    validate(RECIPES[name])


def test_the_dataset_decides_the_recipe():
    for name in ("digits", "scattered_digits"):
        assert recipe_for(name) is RECIPES[name]
    assert recipe_for("imagenet2012") == recipe_for("tfrecord") == Recipe(name="imagenet")


def test_every_recipe_has_its_own_name():
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {name: name for name in RECIPES}


_BAD = {
    "train_batch_size": 0,
    "train_epochs": 0.0,
    "train_steps": 0,
    "image_size": 0,
    "base_learning_rate": -0.1,
    "learning_rate_schedule": "linear",
    "warmup_epochs": -1.0,
    "decay_factor": 0.0,
    "decay_epochs": 0.0,
    "minimum_learning_rate": -1e-6,
    "optimizer": "adam",
    "rmsprop_decay": 1.0,
    "momentum": 1.0,
    "rmsprop_epsilon": 0.0,
    "weight_decay": -1e-5,
    "clip_norm": 0.0,
    "label_smoothing": 1.0,
    "class_weights": "equal",
    "moving_average_decay": 1.0,
    "crop": "yes",
    "interpolation": "lanczos",
    "flip": 1,
    "shift": 1.1,
    "zoom": 1.0,
    "rotation": -1.0,
    "randaugment_layers": -1,
    "randaugment_magnitude": 31.0,
    "color_jitter": 1.5,
    "erasing": 1.1,
    "mixup": -0.2,
    "cutmix": -1.0,
    "precision": "float16",
    "sync_batch_norm": None,
    "adapt_batch_norm": 1,
    "recalibrate_batch_norm": "yes",
    "freeze": "head",
    "seed": -1,
}


def test_every_rule_has_a_value_that_breaks_it():
    assert set(_BAD) == set(FIELDS)


@pytest.mark.parametrize("field", _BAD)
def test_a_value_out_of_range_is_refused_by_name(field):
    with pytest.raises(ValueError, match=f"{field}: expected .*received"):
        validate(Recipe()._replace(**{field: _BAD[field]}))


@pytest.mark.parametrize("field", [field for field in FIELDS if not isinstance(getattr(Recipe(), field), bool)])
@pytest.mark.parametrize("value", ["x", None, True, [1], float("nan"), float("inf")])
def test_a_value_of_another_kind_is_refused_by_name(field, value):
    if getattr(Recipe(), field) is None:
        pytest.skip("None says that there is none")
    with pytest.raises(ValueError, match=rf"^{field}: expected .*received {re.escape(repr(value))}"):
        validate(Recipe()._replace(**{field: value}))


@pytest.mark.parametrize("field", ["train_batch_size", "image_size", "randaugment_layers", "seed"])
def test_half_of_a_whole_number_is_refused(field):
    with pytest.raises(ValueError, match=f"^{field}: expected a whole number from .*received 32.5"):
        validate(Recipe()._replace(**{field: 32.5}))
    validate(Recipe()._replace(**{field: np.int64(32)}))


@pytest.mark.parametrize("overrides", [{"dropout": 0.3}, {"dropout_rate": 1.0}, {"activation": 3}])
def test_model_overrides_out_of_range_are_refused_with_the_recipe(overrides):
    with pytest.raises(ValueError, match="override_params"):
        validate(Recipe(model_overrides=overrides))


def test_a_minimum_above_the_peak_is_refused():
    validate(Recipe(minimum_learning_rate=0.064))
    with pytest.raises(ValueError, match="minimum_learning_rate: 0.065 is above the peak, 0.064 for batches of 1024"):
        validate(Recipe(minimum_learning_rate=0.065))


def test_the_transfer_recipe_is_the_papers():
    recipe = RECIPES["transfer"]
    assert (recipe.optimizer, recipe.momentum, recipe.learning_rate_schedule) == ("sgd", 0.9, "cosine")
    assert recipe.train_batch_size == 256 and recipe.warmup_epochs == 0
    assert 1e-4 <= recipe.base_learning_rate <= 0.1
    assert recipe.model_params(256 * 50) == {"batch_norm_momentum": 0.9}
    assert recipe.model_params(256 * 400) == {"batch_norm_momentum": 1 - 10 / 400}
    assert Recipe().model_params(256 * 50) == {}


def test_steps_take_the_place_of_epochs_where_they_are_given():
    recipe = RECIPES["transfer"]._replace(train_steps=20_000)
    assert recipe.total_steps(3680) == 20_000 and recipe._replace(train_steps=None).total_steps(3680) == 718
    assert [name for name, recipe in RECIPES.items() if recipe.train_steps is not None] == ["coco"]
    with pytest.raises(ValueError, match="train_steps: expected a whole number from 1; received 2.5"):
        validate(recipe._replace(train_steps=2.5))
