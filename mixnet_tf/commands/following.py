"""What the screen says about flags and commands: how another command is typed."""

import os
import shlex
import sys
from typing import Any

from absl import flags


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
