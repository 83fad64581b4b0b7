"""Trains MixNet. Without flags: MixNet-S on scikit-learn's handwritten digits, in minutes on a laptop."""

import os

from absl import flags

from mixnet_tf.commands import following, model_flags, recipe_flags, settings_flags
from mixnet_tf.commands.evaluate import evaluate_beside
from mixnet_tf.commands.screen import Screen
from mixnet_tf.errors import InputError
from mixnet_tf.named_recipes import OWN_IMAGES
from mixnet_tf.recipe import CLASSIFICATION, DETECTION, TASKS, DetectionRecipe
from mixnet_tf.training import RunOptions, choose_recipe, is_evaluator, train


def define_flags() -> None:
    """Defines the command's flags."""
    model_flags.define_network_flags("mixnet-s", "The network")
    settings_flags.define_path("weights", None, "Weights to start from: " + model_flags.WEIGHTS_HELP)
    flags.DEFINE_enum("task", CLASSIFICATION, TASKS, "Train a classifier, or an SSDLite detector on the network.")
    settings_flags.define(DetectionRecipe, classification_loss=None)
    define_run_flags("digits", "runs/train", OWN_IMAGES)


def define_run_flags(dataset: str, model_dir: str, *recipes: str) -> None:
    """Defines the flags of a run, without those of its network.

    Args:
        dataset: Default of --dataset.
        model_dir: Default of --model_dir.
        *recipes: Names that --recipe takes beside those of `RECIPES`.
    """
    flags.DEFINE_string(
        "dataset", dataset, "digits, scattered_digits, tfrecord, folder, list, or a name of tensorflow_datasets."
    )
    settings_flags.define(RunOptions, model_dir=model_dir, data_dir="data")
    recipe_flags.define_recipe_flags(*recipes)


def options_from_flags() -> RunOptions:
    """The options of a run that the flags describe."""
    return RunOptions(**settings_flags.flag_values(RunOptions._fields))


def main(screen: Screen) -> int:
    """Trains as the flags say; returns the exit code."""
    values = flags.FLAGS
    detection = None
    if values.task == DETECTION:
        flags.FLAGS.set_default("dataset", "digit_scenes")
        flags.FLAGS.set_default("model_dir", "runs/detection")
        given = {} if values.classification_loss is None else {"classification_loss": values.classification_loss}
        detection = DetectionRecipe(**given)
    elif values.classification_loss is not None:
        raise InputError("--classification_loss goes with --task=detection.")
    options = options_from_flags()
    if is_evaluator():
        return evaluate_beside(screen, options.model_dir, options.eval_split)
    name, fields = recipe_flags.recipe_name_and_fields()
    recipe = choose_recipe(name, fields, values.dataset, options.model_dir, values.task, values.weights)
    kernels = model_flags.kernels_from_flags()
    code = train(values.model_name, values.dataset, recipe, options, values.weights, screen.phase, kernels, detection)
    if code == 0:
        where = f"{following.flag_in_words('model_dir', options.model_dir)}{following.given('data_dir')}"
        report = following.flag_in_words("report_dir", os.path.join(options.model_dir, "report"))
        export = following.flag_in_words("output_dir", os.path.join(options.model_dir, "export"))
        screen.say(f"Next: {following.other_command('eval.py')} {where} {report}")
        screen.say(f"Next: {following.other_command('export_tflite.py')} {where} {export}")
    return code
