"""The networks of a search that no other one beats in both error and cost: files, and a report."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from mixnet_tf.files import write_json
from mixnet_tf.provenance import provenance
from mixnet_tf.search.space import SearchSpace

FRONT = "front.json"
_FILES = "front"


class Trial(NamedTuple):
    """A network that was measured.

    Attributes:
        choice: Of the space.
        cost: As the search counts it.
        measured: What was measured: "cross_entropy" and others.
    """

    choice: tuple[int, ...]
    cost: float
    measured: dict[str, float]


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that none is better than in cross-entropy and cost, the cheapest first."""
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.cost, trial.measured["cross_entropy"])):
        if not found or trial.measured["cross_entropy"] < found[-1].measured["cross_entropy"]:
            found.append(trial)
    return found


def hypervolume(trials: Sequence[Trial], reference: tuple[float, float]) -> float:
    """The area that the front of trials dominates.

    Args:
        trials: Measured networks.
        reference: (cross-entropy, cost) of the corner that nothing counts beyond.
    """
    area, ceiling = 0.0, reference[0]
    for trial in front_of(trials):
        cross_entropy = trial.measured["cross_entropy"]
        if trial.cost < reference[1] and cross_entropy < ceiling:
            area += (ceiling - cross_entropy) * (reference[1] - trial.cost)
            ceiling = cross_entropy
    return area


def write_front(space: SearchSpace, studies: Mapping[str, Sequence[Trial]], search_dir: str) -> dict[str, Any]:
    """Writes front.json, and a network file for each network of the front.

    Args:
        space: The space.
        studies: The measured networks of "search" and, where there is one, of the "random" baseline.
        search_dir: The search's folder.

    Returns:
        What front.json holds: "front" and "tried", each a list of networks with choice, block strings, cost and
        measurements; with a baseline "random", and "hypervolume" of both over the same number of networks.
    """
    trials = studies["search"]
    front = front_of(trials)
    report = {
        "front": [{"file": f"{_FILES}/{place:02}.json", **_row(space, trial)} for place, trial in enumerate(front)],
        "tried": [_row(space, trial) for trial in trials],
    }
    if studies.get("random"):
        report |= {"random": [_row(space, trial) for trial in studies["random"]], "hypervolume": _compared(studies)}
    folder = os.path.join(search_dir, _FILES)
    for row, trial in zip(report["front"], front, strict=True):
        write_json(os.path.join(search_dir, row["file"]), space.network_content(trial.choice))
    kept = {os.path.basename(row["file"]) for row in report["front"]}
    for name in tf.io.gfile.listdir(folder) if front else ():
        if name not in kept and name.endswith(".json"):  # of an earlier, longer front
            tf.io.gfile.remove(os.path.join(folder, name))
    write_json(os.path.join(search_dir, FRONT), {**report, "provenance": provenance()})
    return report


def _row(space, trial):
    return {
        "choice": list(trial.choice),
        "blocks": space.network(trial.choice),
        "multiply_adds": trial.cost,
        **trial.measured,
    }


def _compared(studies):
    """The hypervolumes of both studies' first networks, as many of each; as a fraction of what their corner spans."""
    count = min(map(len, studies.values()))
    both = [trial for trials in studies.values() for trial in trials[:count]]
    finite = [trial.measured["cross_entropy"] for trial in both if trial.measured["cross_entropy"] < float("inf")]
    reference = (max(finite, default=1.0), max(trial.cost for trial in both))
    spanned = reference[0] * reference[1]
    return {
        "networks": count,
        **{name: hypervolume(trials[:count], reference) / spanned for name, trials in studies.items()},
    }
