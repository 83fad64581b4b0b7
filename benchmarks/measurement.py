"""How the benchmarks measure and report: contenders take turns; figures are medians, with versions and machine."""

import statistics
import time

from mixnet_tf.files import write_json
from mixnet_tf.provenance import provenance


def in_turns(contenders, rounds):
    """Runs each contender once per round, one after the other, so that other work on the machine affects all alike.

    Args:
        contenders: Dict by name of functions without arguments that prepare a run, untimed, and return
            the function to time.
        rounds: At least 1; one more round goes first and is not counted.

    Returns:
        A dict by name of {"wall": [...], "cpu": [...]}: seconds of each round by the clock, and by the processor
        time of all threads of this process.
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
    if path is not None:
        write_json(path, {**provenance(), **figures})
