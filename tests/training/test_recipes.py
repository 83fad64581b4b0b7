"""Which recipe a run takes."""

import pytest
import tensorflow as tf

from mixnet_tf.data import Split
from mixnet_tf.imagenet import wordnet_ids
from mixnet_tf.named_recipes import RECIPES, own_images
from mixnet_tf.recipe import Recipe, validate
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import choose_recipe


@pytest.mark.parametrize(
    "num_images, pretrained, batch_size, epochs",
    [
        (1, True, 1, 100),
        (10, False, 10, 400),
        (100, True, 16, 80),
        (1437, True, 32, 12),
        (1437, False, 32, 45),
        (6000, True, 128, 11),
        (100_000, True, 128, 10),
        (100_000, False, 128, 40),
    ],
)
def test_batch_and_epochs_are_bounded_for_few_images(num_images, pretrained, batch_size, epochs):
    recipe = own_images(num_images, pretrained)
    validate(recipe)
    assert (recipe.train_batch_size, recipe.train_epochs, recipe.image_size) == (batch_size, epochs, 224)
    assert (recipe.base_learning_rate, recipe.rmsprop_epsilon) == ((0.005, 1e-3) if pretrained else (0.0016, 1e-6))
    assert recipe.crop and recipe.shift == 0


@pytest.mark.parametrize(
    "side, pretrained, size", [(8, False, 32), (33, False, 64), (64, False, 64), (4000, False, 224), (8, True, 224)]
)
def test_small_images_make_a_small_input_for_random_weights_and_are_shifted(side, pretrained, size):
    recipe = own_images(500, pretrained, side)
    assert recipe.image_size == size and (recipe.crop, recipe.shift) == ((False, 0.125) if side < 64 else (True, 0))


def _split(num_images=100, names=("a", "b"), side=20):
    image = tf.io.encode_png(tf.zeros((side, 2 * side, 3), tf.uint8))

    def read():
        return tf.data.Dataset.from_tensors({"image": image, "label": 0, "id": "a/0.png"}).repeat(num_images)

    return Split("folder", "train", num_images, names, len(names), read)


@pytest.mark.parametrize("dataset", ["folder", "list"])
def test_images_of_ones_own_have_a_recipe_that_fits_them(dataset, tmp_path, logged):
    choose = choose_recipe(None, {}, dataset, tmp_path)
    assert choose(_split()) == own_images(100, False, 20)
    lines = logged()
    assert "batches of 16 images, 2,000 steps, 32 pixels" in lines and "Pretrained ones need fewer images" in lines
    given = {"image_size": 48, "train_steps": 7, "model_overrides": {"dropout_rate": 0.5}}
    chosen = choose_recipe(None, given, dataset, tmp_path, weights="imagenet")(_split())
    assert chosen == own_images(100, True, 20)._replace(**given)
    assert choose_recipe("own_images", {}, "digits", tmp_path)(_split()) == own_images(100, False, 20)


def test_imagenet_in_folders_keeps_the_official_recipe_unless_another_is_named(tmp_path):
    imagenet = _split(names=wordnet_ids())
    assert choose_recipe(None, {"seed": 3}, "folder", tmp_path)(imagenet) == RECIPES["imagenet"]._replace(seed=3)
    assert choose_recipe("own_images", {}, "folder", tmp_path, weights="imagenet")(imagenet).name == "own_images"


def test_other_datasets_and_named_recipes_do_not_depend_on_the_images(tmp_path):
    assert choose_recipe(None, {}, "imagenet2012", tmp_path) == Recipe(name="imagenet")
    assert choose_recipe("finetune", {"train_epochs": 2.0}, "folder", tmp_path) == RECIPES["finetune"]._replace(
        train_epochs=2.0, train_steps=None
    )
    assert choose_recipe(None, {}, "folder", tmp_path, "detection").name == "coco"
    with pytest.raises(ValueError, match="either --train_epochs or --train_steps"):
        choose_recipe(None, {"train_epochs": 2.0, "train_steps": 3}, "digits", tmp_path)


def test_a_run_that_has_begun_keeps_its_recipe(tmp_path):
    recipe = own_images(100, False, 20)._replace(image_size=96)
    RunConfig("tiny", 2, "folder", 100, recipe).write(tmp_path)
    assert choose_recipe(None, {}, "folder", tmp_path) == recipe
    assert choose_recipe(None, {"seed": 1}, "folder", tmp_path) == recipe._replace(seed=1)
    assert choose_recipe("finetune", {}, "folder", tmp_path) == recipe._replace(name="finetune")
