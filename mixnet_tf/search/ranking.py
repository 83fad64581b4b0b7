"""Checks how well an estimate ranks networks: Kendall's tau between the estimate and whole trainings."""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from mixnet_tf.errors import InputError
from mixnet_tf.files import finite, write_json
from mixnet_tf.provenance import provenance
from mixnet_tf.search.costs import multiply_adds_of
from mixnet_tf.search.front import Trial
from mixnet_tf.search.space import SearchSpace

RANKING = "ranking.json"
FEWEST = 5  # fewest networks for an interval


class RankCorrelation(NamedTuple):
    """Kendall's rank correlation of two measurements of the same networks.

    Attributes:
        tau: From -1 (reversed order) to 1 (the same order); NaN if one of the two is constant.
        low: Lower end of the 95% interval.
        high: Upper end of the interval.
    """

    tau: float
    low: float
    high: float


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> RankCorrelation:
    """Kendall's tau-b, which allows for ties, with the 95% interval of Bonett and Wright.

    Args:
        first: A number for each network, at least five.
        second: Another number for each network.

    Raises:
        ValueError: If there are fewer networks, or if the lengths differ.

    Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
    Psychometrika 65 (2000): the standard error of atanh(tau) is sqrt(0.437 / (n - 4)).

    Example:
        >>> from mixnet_tf.search import kendall_tau
        >>> round(kendall_tau([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5]).tau, 2)
        0.87
    """
    if len(first) != len(second) or len(first) < FEWEST:
        raise InputError(
            f"Expected two numbers for each of {FEWEST} or more networks, received {len(first)} and {len(second)}."
        )
    one, other = (np.greater.outer(x, x).astype(int) - np.less.outer(x, x) for x in (first, second))
    compared = math.sqrt(np.sum(one**2) * np.sum(other**2))
    if not compared:
        return RankCorrelation(math.nan, math.nan, math.nan)
    tau = float(np.sum(one * other) / compared)
    if abs(tau) >= 1:
        return RankCorrelation(tau, tau, tau)
    width = 1.96 * math.sqrt(0.437 / (len(first) - 4))
    return RankCorrelation(tau, *(math.tanh(math.atanh(tau) + side * width) for side in (-1, 1)))


def write_ranking(
    space: SearchSpace,
    estimated: Sequence[Trial],
    whole: Sequence[dict[str, float]],
    search_dir: str,
    image_size: int,
) -> dict[str, Any]:
    """Writes ranking.json, and returns its summary.

    Args:
        space: The space.
        estimated: Networks that were drawn at random, with their estimates.
        whole: The measurements of each network after the whole recipe.
        search_dir: The search's folder.
        image_size: Pixels.

    Returns:
        Dict of "networks" (their number), "estimate" and "multiply_adds": the `RankCorrelation` of each with the
        cross-entropy after the whole recipe, as a dict. More multiply-adds count as better.
    """
    count = multiply_adds_of(space, image_size)
    truth = [measured["cross_entropy"] for measured in whole]
    by = {
        "estimate": [trial.measured["cross_entropy"] for trial in estimated],
        "multiply_adds": [-count(trial.choice) for trial in estimated],
    }
    taus = {name: kendall_tau(column, truth) for name, column in by.items()}
    summary = {"networks": len(estimated), **{name: finite(each._asdict()) for name, each in taus.items()}}
    rows = [
        {
            "choice": list(trial.choice),
            "blocks": space.network(trial.choice),
            "multiply_adds": int(count(trial.choice)),
            "estimate": trial.measured,
            "whole": measured,
        }
        for trial, measured in zip(estimated, whole, strict=True)
    ]
    write_json(os.path.join(search_dir, RANKING), {**summary, "trained": rows, "provenance": provenance()})
    words = {name: f"{each.tau:.2f} ({each.low:.2f} to {each.high:.2f})" for name, each in taus.items()}
    logging.info(
        f"Kendall's tau with {len(estimated)} whole trainings, 95% interval: the estimate {words['estimate']}, "
        f"multiply-adds alone {words['multiply_adds']}."
    )
    return summary
