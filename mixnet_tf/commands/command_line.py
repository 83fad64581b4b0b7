"""What the commands have in common: how they run and end, and the flags of a recipe and of a model."""

import errno
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags, logging

from mixnet_tf.classifiers import Opened, open_model
from mixnet_tf.commands import settings_flags
from mixnet_tf.commands.screen import Screen, command_screen, shown_log
from mixnet_tf.commands.settings_flags import define_path, flag_values
from mixnet_tf.errors import InputError, first_line
from mixnet_tf.files import StrPath, exists
from mixnet_tf.networks import INPUTS, VARIANTS, is_network_file, parse_kernels
from mixnet_tf.passwords import masked
from mixnet_tf.recipe import CLASSIFICATION, RECIPES, Recipe, recipe_for
from mixnet_tf.runs import CONFIG, RunConfig
from mixnet_tf.training import RESTART_ME

WEIGHTS_HELP = (
    "A .keras or .weights.h5 file, an official checkpoint, timm's .safetensors or .npz, hf://ORG/NAME, or imagenet."
)
MISSING_SHARDS_HELP = "tfrecord: do without the shards that are missing, where files named *-of-N are fewer than N."
_RECIPE_FLAGS = tuple(name for name in Recipe._fields if name not in ("model_overrides", "name"))
_BAD_INPUT = 2
_DEFINED: dict[str, flags.Flag] = {}  # by the command that ran last in this process


def run(main: Callable[[Screen], int], define_flags: Callable[[], None] | None = None) -> None:
    """Runs a command.

    Args:
        main: A function of the screen to the exit code.
        define_flags: Called before the command line is read; None where the flags are defined already. A second run in
            one process defines and reads them anew.

    What a person can mend is one line and exit code 2: bad input, a loss that is not finite, a server that cannot be
    reached, a full disk, an address where a file is expected. The loss of another host is one line and exit code 75.
    Any other error keeps its traceback.
    """

    def guarded(argv):
        screen = command_screen()
        if len(argv) > 1:
            return _fail(f"Unknown arguments {argv[1:]}; every option is a flag, such as --model_dir=DIR.")
        if flags.FLAGS.only_check_args:  # absl checks this only once in a process
            return 0
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
            tf.get_logger().setLevel("ERROR")
        if not sys.stdout.isatty():
            tfds.disable_progress_bar()
        try:
            with shown_log(screen):
                return main(screen)
        except (InputError, FloatingPointError, ConnectionError, TimeoutError) as error:
            return _fail(str(error))
        except (OSError, tf.errors.OpError) as error:
            if _is_full_disk(error) or _is_unknown_scheme(error):
                return _fail(_first_line(error))
            if not _is_lost_host(error):
                raise
            print(f"Another host was lost ({_first_line(error)}); restart this one, too.", file=sys.stderr, flush=True)
            return RESTART_ME

    _forget_flags()
    if define_flags is not None:
        before = set(flags.FLAGS)
        define_flags()
        _DEFINED.update((name, flags.FLAGS[name]) for name in set(flags.FLAGS) - before)
    for name in flags.FLAGS:  # for --help, which shows the flags of the script that runs
        module = str(flags.FLAGS.find_module_defining_flag(name))
        if module.startswith("mixnet_tf.") or module == main.__module__:
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    app.run(guarded)


def _forget_flags():
    """Leaves nothing of an earlier run in this process, as in a notebook, whose command may have been another one."""
    for name, flag in _DEFINED.items():
        if name in flags.FLAGS and flags.FLAGS[name] is flag:  # not one of a script that defines its own by that name
            delattr(flags.FLAGS, name)
    _DEFINED.clear()
    flags.FLAGS.unparse_flags()


def _is_full_disk(error):
    # TensorFlow and HDF5 have the system's text alone.
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)


def _is_unknown_scheme(error):
    """Whether a path begins with https:// or another scheme of which TensorFlow reads no files."""
    return isinstance(error, tf.errors.UnimplementedError) and "File system scheme" in str(error)


def _is_lost_host(error):
    """Whether a collective failed since another of its hosts is gone, so that a restart of all can help."""
    unreachable = isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError)
    return unreachable and "ollective" in str(error)


def _first_line(error):
    """The first line of an error's text, without the nodes and ops that TensorFlow puts into it."""
    return first_line(re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", str(error)))


def other_command(script: str) -> str:
    """How to start another command, in the way of this one: "python eval.py", or "mixnet-eval" where installed."""
    installed = os.path.basename(sys.argv[0]).startswith("mixnet-")
    return f"mixnet-{script.partition('_')[0].removesuffix('.py')}" if installed else f"python {script}"


def given(name: str) -> str:
    """A flag with its value, to stand in another command; nothing where it has its default."""
    flag = flags.FLAGS[name]
    return "" if flag.using_default_value else f" {flag_in_words(name, flag.value)}"


def flag_in_words(name: str, value: Any) -> str:
    """A flag as it is typed in a shell."""
    return shlex.quote(f"--{name}={value}")


def _fail(message):
    print(f"error: {masked(message)}", file=sys.stderr, flush=True)
    return _BAD_INPUT


def define_recipe_flags() -> None:
    """A flag for each field of `Recipe`, without a value of its own: the recipe gives it."""
    flags.DEFINE_string(
        "model_overrides",
        None,
        "JSON object of model parameters to replace beside those that the recipe does, such as "
        '{"dropout_rate": 0.3} or {"activation": "mish"}.',
    )
    flags.DEFINE_enum("recipe", None, list(RECIPES), "Settings to start from; by default the dataset's own.")
    settings_flags.define(Recipe, names=_RECIPE_FLAGS, **dict.fromkeys(_RECIPE_FLAGS))


def recipe_from_flags(dataset: str, model_dir: StrPath | None = None, task: str = CLASSIFICATION) -> Recipe:
    """The recipe of a run, with the flags given in place of its fields.

    A run that has begun in `model_dir` keeps the fields that its config.json has, so that another version's
    recipes change nothing about it. A new run, or one without a folder, has those of `--recipe`, or of the
    dataset's own recipe.
    """
    values = flags.FLAGS
    if model_dir is not None and exists(os.path.join(model_dir, CONFIG)):
        recipe = RunConfig.read(model_dir).recipe
        # The name alone: `train` refuses a run of another one.
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


def define_network_flags(default: str | None, text: str) -> None:
    """The flags that name a network.

    Args:
        default: The network's name where none is given; None: none.
        text: What the network is for, the beginning of the help.
    """
    define_path("model_name", default, f"{text}: one of {', '.join(VARIANTS)}, or a network file, FILE.json.")
    flags.register_validator(
        "model_name",
        lambda name: name is None or name in VARIANTS or is_network_file(name),
        f"expected one of {list(VARIANTS)}, or the path of a network file that ends in .json",
    )
    flags.DEFINE_string(
        "kernels", None, "Kernel sizes for every depthwise convolution, such as 3.5.7; by default its own."
    )


def kernels_from_flags() -> tuple[int, ...] | None:
    """The kernel sizes that --kernels names; None where it is not given."""
    text = flags.FLAGS.kernels
    return None if text is None else parse_kernels(text)


def define_model_flags() -> None:
    """The flags that say which model to evaluate or export."""
    define_path("model_dir", None, "A training run: its best model, else its final one, else its newest.")
    define_path("weights", None, WEIGHTS_HELP)
    define_network_flags(None, "The network, where --weights holds weights alone")
    flags.DEFINE_integer(
        "num_label_classes", None, "Its number of classes; by default 1000, or the network file's.", lower_bound=1
    )
    flags.DEFINE_integer("image_size", None, "Its pixels a side; by default 224 or the file's.", lower_bound=1)
    flags.DEFINE_enum(
        "input",
        None,
        INPUTS,
        "What it takes: RGB from 0 to 255, or those normalized, which Preprocessing is put in front for; by default as "
        "its layers show, else pixels.",
    )


def open_model_from_flags() -> Opened:
    """The model that the model flags say; raises what `open_model` raises."""
    names = ("weights", "model_dir", "model_name", "num_label_classes", "image_size", "input")
    return open_model(**flag_values(names), kernel_size=kernels_from_flags())
