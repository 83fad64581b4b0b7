"""The front of a search: the networks that no other beats in both error and cost; its files and report."""

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from mixnet_tf.export import litert_latencies
from mixnet_tf.files import finite, write_json
from mixnet_tf.models import build_model
from mixnet_tf.provenance import provenance
from mixnet_tf.search.costs import LATENCY, multiply_adds_of
from mixnet_tf.search.space import SearchSpace

FRONT = "front.json"
_FILES = "front"


class Trial(NamedTuple):
    """A network that was measured.

    Attributes:
        choice: The network's choice.
        cost: The network's cost.
        measured: Measurements: "cross_entropy" and others.
    """

    choice: tuple[int, ...]
    cost: float
    measured: dict[str, float]


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with finite loss that none beats in both cross-entropy and cost, the cheapest first."""
    found: list[Trial] = []
    finite = [trial for trial in trials if math.isfinite(trial.measured["cross_entropy"])]
    for trial in sorted(finite, key=lambda trial: (trial.cost, trial.measured["cross_entropy"])):
        if not found or trial.measured["cross_entropy"] < found[-1].measured["cross_entropy"]:
            found.append(trial)
    return found


def hypervolume(trials: Sequence[Trial], reference: tuple[float, float]) -> float:
    """The area that the front of trials dominates.

    Args:
        trials: Measured networks.
        reference: (cross-entropy, cost) of the corner that bounds the area.
    """
    area, ceiling = 0.0, reference[0]
    for trial in front_of(trials):
        cross_entropy = trial.measured["cross_entropy"]
        if trial.cost < reference[1] and cross_entropy < ceiling:
            area += (ceiling - cross_entropy) * (reference[1] - trial.cost)
            ceiling = cross_entropy
    return area


def write_front(
    space: SearchSpace,
    studies: Mapping[str, Sequence[Trial]],
    search_dir: str,
    image_size: int,
    cost: str,
    ranking: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes front.json, and a network file for each network of the front.

    Args:
        space: The space.
        studies: Measured networks by study: "search", and others such as the "random" baseline.
        search_dir: The search's folder.
        image_size: Pixels.
        cost: The kind of the trials' costs, one of `COSTS`.
        ranking: The result of `write_ranking`; None: the ranking was not checked.

    Returns:
        The content of front.json:

        - "cost" and "ranking";
        - "front", "tried" and the name of each other study: lists of networks with choice, block strings,
          multiply-adds and measurements. A cross-entropy is None if the loss was not finite. If the cost is the
          latency, "latency_ms" is the sum over a network's blocks, and "whole_latency_ms", on the front, the time of
          the whole network on this machine;
        - "hypervolume", with a baseline: that of both studies over the same number of networks.
    """
    count = multiply_adds_of(space, image_size)

    def rows(trials):
        return [
            {
                "choice": list(trial.choice),
                "blocks": space.network(trial.choice),
                "multiply_adds": int(count(trial.choice)),
                **({"latency_ms": trial.cost} if cost == LATENCY else {}),
                **finite(trial.measured),
            }
            for trial in trials
        ]

    front = front_of(studies["search"])
    files = [{"file": f"{_FILES}/{place:02}.json"} for place in range(len(front))]
    report = {
        "cost": cost,
        "ranking": "not checked" if ranking is None else dict(ranking),
        "front": [{**file, **row} for file, row in zip(files, rows(front), strict=True)],
        "tried": rows(studies["search"]),
    }
    if cost == LATENCY:
        for row, whole in zip(report["front"], _whole_latencies(space, front, image_size), strict=True):
            row["whole_latency_ms"] = whole
    report |= {name: rows(trials) for name, trials in studies.items() if name != "search" and trials}
    if "random" in report:
        report["hypervolume"] = _compared({name: studies[name] for name in ("search", "random")})
    _write_networks(space, front, search_dir, [file["file"] for file in files])
    write_json(os.path.join(search_dir, FRONT), {**report, "provenance": provenance()})
    return report


def _write_networks(space, front, search_dir, names):
    for name, trial in zip(names, front, strict=True):
        write_json(os.path.join(search_dir, name), space.network_content(trial.choice))
    folder = os.path.join(search_dir, _FILES)
    for name in tf.io.gfile.listdir(folder) if front else ():
        if f"{_FILES}/{name}" not in names and name.endswith(".json"):  # files of an earlier, longer front
            with contextlib.suppress(tf.errors.NotFoundError):  # another process of the search may be faster
                tf.io.gfile.remove(os.path.join(folder, name))


def _whole_latencies(space, front, image_size):
    models = {
        str(place): build_model(
            blocks_args=space.stages_of(trial.choice),
            override_params=space.global_params._asdict(),
            input_shape=(image_size, image_size, 3),
        )
        for place, trial in enumerate(front)
    }
    return list(litert_latencies(models).values()) if models else []


def _compared(studies):
    """The hypervolumes of the first networks of both studies, equally many, as fractions of the whole area."""
    count = min(map(len, studies.values()))
    both = [trial for trials in studies.values() for trial in trials[:count]]
    found = [trial.measured["cross_entropy"] for trial in both]
    reference = (max(filter(math.isfinite, found), default=1.0), max(trial.cost for trial in both))
    spanned = reference[0] * reference[1]
    return {
        "networks": count,
        **{name: hypervolume(trials[:count], reference) / spanned for name, trials in studies.items()},
    }
