"""The provenance of figures: the command, versions and machine that gave them."""

import datetime
import os
import pathlib
import platform
import shlex
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.passwords import masked


def provenance() -> dict[str, Any]:
    """The date, the command without passwords, the versions of the libraries, and the machine, for JSON."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": _command(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "cpu": processor(),
        "cpus": os.cpu_count(),
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def _command():
    script = sys.argv[0] if sys.argv else ""  # empty at a Python prompt
    arguments = [masked(argument, is_address=True) for argument in sys.argv[1:]]
    return shlex.join(["python", os.path.relpath(script), *arguments] if script else ["python"])


def processor() -> str:
    """The name of the machine's processor."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
