"""How a command runs and ends: flags are parsed, errors become one line, and exit codes say what to do."""

import errno
import functools
import os
import re
import sys
from collections.abc import Callable

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags, logging

from mixnet_tf.commands.screen import Screen, command_screen, shown_log
from mixnet_tf.errors import InputError, first_line
from mixnet_tf.passwords import masked
from mixnet_tf.training import RESTART_ME

_BAD_INPUT = 2
_DEFINED: dict[str, flags.Flag] = {}  # the flags of the command that ran last in this process


def run(main: Callable[[Screen], int], define_flags: Callable[[], None] | None = None) -> None:
    """Runs a command and ends the process with its exit code; `command` documents the arguments."""
    app.run(command(main, define_flags))


def command(
    main: Callable[[Screen], int], define_flags: Callable[[], None] | None = None
) -> Callable[[list[str]], int]:
    """Defines a command's flags, and returns the function that `absl.app.run` calls.

    What a person can mend becomes one line and exit code 2: bad input, a loss that is not finite, a server that cannot
    be reached, a full disk, an address where a file is expected. The loss of another host becomes one line and exit
    code 75. Any other error keeps its traceback.

    Args:
        main: A function of the screen that returns the exit code.
        define_flags: Called before the command line is parsed; None if the flags are already defined. A second command
            in the same process defines and parses them again.
    """
    _forget_flags()
    if define_flags is not None:
        before = set(flags.FLAGS)
        define_flags()
        _DEFINED.update((name, flags.FLAGS[name]) for name in set(flags.FLAGS) - before)
    for name in flags.FLAGS:  # for --help, which shows the flags of the script that runs
        module = str(flags.FLAGS.find_module_defining_flag(name))
        if module.startswith("mixnet_tf.") or module == main.__module__:
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    return functools.partial(_guarded, main)


def _guarded(main, argv):
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


def _forget_flags():
    """Removes the flags of an earlier command in this process, as in a notebook, which may be another command."""
    for name, flag in _DEFINED.items():
        if name in flags.FLAGS and flags.FLAGS[name] is flag:  # not a flag that a script has defined by the same name
            delattr(flags.FLAGS, name)
    _DEFINED.clear()
    flags.FLAGS.unparse_flags()


def _is_full_disk(error):
    # TensorFlow and HDF5 keep only the system's text.
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)


def _is_unknown_scheme(error):
    """Whether a path begins with https:// or another scheme that TensorFlow cannot read."""
    return isinstance(error, tf.errors.UnimplementedError) and "File system scheme" in str(error)


def _is_lost_host(error):
    """Whether a collective failed because another host is gone, so that restarting all hosts can help."""
    unreachable = isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError)
    return unreachable and "ollective" in str(error)


def _first_line(error):
    """The first line of an error's text, without the names of nodes and ops that TensorFlow inserts."""
    return first_line(re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", str(error)))


def _fail(message):
    print(f"error: {masked(message)}", file=sys.stderr, flush=True)
    return _BAD_INPUT
