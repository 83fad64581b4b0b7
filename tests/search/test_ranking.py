"""Kendall's tau against SciPy's, and what ranking.json says."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from mixnet_tf.search import SearchSpace, kendall_tau
from mixnet_tf.search.front import Trial
from mixnet_tf.search.ranking import write_ranking


@pytest.mark.parametrize("values", [100, 3])
def test_tau_is_scipys_with_and_without_ties(values):
    random = np.random.RandomState(0)
    for networks in (8, 12, 30):
        first, second = random.randint(values, size=(2, networks))
        found = kendall_tau(first, second)
        assert found.tau == pytest.approx(scipy.stats.kendalltau(first, second).statistic)
        assert found.low < found.tau < found.high


def test_its_interval_is_of_fishers_transformation():
    found = kendall_tau(range(24), [*range(12), *reversed(range(12, 24))])
    assert found.tau == pytest.approx((276 - 2 * 66) / 276)
    for end, side in ((found.low, -1), (found.high, 1)):
        assert math.atanh(end) - math.atanh(found.tau) == pytest.approx(side * 1.96 * math.sqrt(0.437 / 20))


def test_an_infinite_loss_is_the_worst_and_what_ranks_nothing_has_no_tau():
    assert kendall_tau([1, 2, 3, 4, math.inf], [1, 2, 3, 4, 5]) == (1, 1, 1)
    assert kendall_tau([1, 2, 3, math.inf, math.inf], [1, 2, 3, 4, 5]).tau == pytest.approx(9 / math.sqrt(90))
    assert all(map(math.isnan, kendall_tau([1, 1, 1, 1, 1], [1, 2, 3, 4, 5])))


def test_ranking_compares_the_estimate_and_multiply_adds_with_whole_trainings(tmp_path):
    space = SearchSpace.decode(["r1_k3|5|7_a1_p1_s22_e1_i8_o8", "r1_k3|5_a1_p1_s11_e1_i8_o8"])
    choices = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    estimated = [Trial(choice, 0.0, {"cross_entropy": 1.0 - at / 10}) for at, choice in enumerate(choices)]
    whole = [{"cross_entropy": value} for value in (0.9, 0.8, 0.7, 0.6, 0.4, math.inf)]
    summary = write_ranking(space, estimated, whole, str(tmp_path), 32)
    assert summary["networks"] == 6
    assert summary["estimate"]["tau"] == pytest.approx(scipy.stats.kendalltau(range(6), (1, 2, 3, 4, 5, 0)).statistic)
    written = json.loads((tmp_path / "ranking.json").read_text())
    assert {name: written[name] for name in summary} == summary
    assert written["trained"][5]["whole"] == {"cross_entropy": None}
    cost = [row["multiply_adds"] for row in written["trained"]]
    assert summary["multiply_adds"]["tau"] == pytest.approx(
        -scipy.stats.kendalltau(cost, [row["cross_entropy"] for row in whole]).statistic
    )
