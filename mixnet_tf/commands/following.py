"""How the command that follows this one is typed."""

import os
import shlex
import sys
from typing import Any

from absl import flags


def other_command(script: str) -> str:
    """How to start another command as this one was started: "python eval.py", or "mixnet-eval" if installed."""
    installed = os.path.basename(sys.argv[0]).startswith("mixnet-")
    return f"mixnet-{script.partition('_')[0].removesuffix('.py')}" if installed else f"python {script}"


def given(name: str) -> str:
    """A flag with its value, to be part of another command; empty if the flag has its default."""
    flag = flags.FLAGS[name]
    return "" if flag.using_default_value else f" {flag_in_words(name, flag.value)}"


def flag_in_words(name: str, value: Any) -> str:
    """A flag as it is typed in a shell, quoted if needed."""
    return shlex.quote(f"--{name}={value}")
