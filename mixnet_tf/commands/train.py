"""Trains MixNet. Without flags: MixNet-S on scikit-learn's handwritten digits, in minutes on a laptop."""

from absl import flags

from mixnet_tf.commands import command_line, settings_flags
from mixnet_tf.commands.evaluate import evaluate_beside
from mixnet_tf.commands.screen import Screen
from mixnet_tf.errors import InputError
from mixnet_tf.recipe import CLASSIFICATION, CLASSIFICATION_LOSSES, DETECTION, TASKS, DetectionRecipe
from mixnet_tf.training import STRATEGIES, Settings, is_evaluator, train


def define_flags() -> None:
    """Defines the command's flags."""
    command_line.define_network_flags("mixnet-s", "The network")
    settings_flags.define_path("weights", None, "Start from these: " + command_line.WEIGHTS_HELP)
    flags.DEFINE_enum("task", CLASSIFICATION, TASKS, "Train a classifier, or an SSDLite detector on the network.")
    flags.DEFINE_enum(
        "classification_loss", None, CLASSIFICATION_LOSSES, "detection: the loss of classes; by default focal."
    )
    define_run_flags("digits", "runs/train")


def define_run_flags(dataset: str, model_dir: str) -> None:
    """Defines the flags of a run on its data, without its network; those that are settings have the settings' defaults.

    Args:
        dataset: Default of --dataset.
        model_dir: Default of --model_dir.
    """
    default = Settings._field_defaults
    flags.DEFINE_string(
        "dataset", dataset, "digits, scattered_digits, tfrecord, folder, or a name of tensorflow_datasets."
    )
    settings_flags.define_path("model_dir", model_dir, "Where the run is kept; the same command resumes it.")
    settings_flags.define_path("data_dir", "data", "Where the data is or, for tensorflow_datasets, is prepared.")
    flags.DEFINE_string("train_split", default["train_split"], "Split to train on; by default train.")
    flags.DEFINE_string("eval_split", default["eval_split"], "Split to evaluate on; by default validation or test.")
    flags.DEFINE_integer(
        "num_train_images",
        default["num_train_images"],
        "tfrecord: images to train on, if not ImageNet's.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "num_eval_images",
        default["num_eval_images"],
        "tfrecord: images to evaluate on, if not ImageNet's.",
        lower_bound=1,
    )
    flags.DEFINE_bool("allow_missing_shards", default["allow_missing_shards"], command_line.MISSING_SHARDS_HELP)
    flags.DEFINE_integer(
        "eval_batch_size", default["eval_batch_size"], "Images per evaluation step over all replicas.", lower_bound=1
    )
    flags.DEFINE_enum("strategy", default["strategy"], STRATEGIES, "How the work is spread over devices.")
    flags.DEFINE_string("tpu", default["tpu"], "Name or address of a TPU; local for this machine's.")
    flags.DEFINE_integer(
        "steps_per_loop", default["steps_per_loop"], "Steps between checks for signals and metrics.", lower_bound=1
    )
    flags.DEFINE_integer(
        "checkpoint_steps",
        default["checkpoint_steps"],
        "Steps between checkpoints; by default an epoch's.",
        lower_bound=1,
    )
    flags.DEFINE_bool("use_cache", default["use_cache"], "Keep the encoded images in memory.")
    flags.DEFINE_bool(
        "jit_compile", default["jit_compile"], "Let XLA compile the step (a TPU always does; slow on a CPU)."
    )
    flags.DEFINE_bool(
        "deterministic", default["deterministic"], "Bit-equal results from equal runs, at some cost of speed."
    )
    flags.DEFINE_bool(
        "allow_config_change", default["allow_config_change"], "Resume in a model_dir of another configuration."
    )
    command_line.define_recipe_flags()


def settings_from_flags() -> Settings:
    """The settings of a run as its flags say."""
    return Settings(**settings_flags.flag_values(Settings._fields))


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
    settings = settings_from_flags()
    if is_evaluator():
        return evaluate_beside(screen, settings.model_dir, settings.eval_split)
    recipe = command_line.recipe_from_flags(values.dataset, settings.model_dir, values.task)
    kernels = command_line.kernels_from_flags()
    code = train(values.model_name, values.dataset, recipe, settings, values.weights, screen.phase, kernels, detection)
    if code == 0:
        evaluate = command_line.other_command("eval.py")
        where = command_line.flag_in_words("model_dir", settings.model_dir)
        screen.say(f"Next: {evaluate} {where}{command_line.given('data_dir')}")
    return code
