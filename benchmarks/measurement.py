"""How the benchmarks measure and report: in turns, as medians, with what they ran on."""

import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import sys
import time

import keras
import numpy as np
import tensorflow as tf


def in_turns(contenders, rounds):
    """Runs each contender once per round, one after the other, so that other work on the machine meets all alike.

    Args:
        contenders: Dict by name of functions without arguments that prepare a run, untimed, and return
            the function to time.
        rounds: Whole number from 1; one more round goes first and is not counted.

    Returns:
        A dict by name of {"wall": [...], "cpu": [...]}: seconds of each round, of the clock and of all
        threads of this process.
    """
    seconds = {name: {"wall": [], "cpu": []} for name in contenders}
    for counted in [False] + [True] * rounds:
        for name, prepare in contenders.items():
            run = prepare()
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if counted:
                seconds[name]["wall"].append(time.perf_counter() - wall)
                seconds[name]["cpu"].append(time.process_time() - cpu)
    return seconds


def median_ratio(numerator, denominator):
    """The median over rounds of one contender's seconds over another's."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def write_report(path, figures):
    """Writes `figures`, a dict, to a JSON file with date, command, versions and machine; not if `path` is None."""
    if path is None:
        return
    command = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    report = {"date": datetime.date.today().isoformat(), "command": command, **_versions(), **_machine(), **figures}
    pathlib.Path(path).write_text(json.dumps(report, indent=1) + "\n")


def _versions():
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": os.cpu_count(),
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }
