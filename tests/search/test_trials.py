"""The order of a search: the smallest and the largest network first, and each network once, even if interrupted."""

import pytest

from mixnet_tf.networks import count_parts
from mixnet_tf.search import SearchSpace, front_of, hypervolume
from mixnet_tf.search.costs import smallest_and_largest
from mixnet_tf.search.front import Trial
from mixnet_tf.search.trials import Trials


@pytest.fixture(scope="module")
def space():
    return SearchSpace.decode(
        ["r1_k3|3.5|3.5.7_a1_p1_s22_e1_i16_o24", "r1|2_k3|3.5|3.5.7|3.5.7.9_a1_p1|1.1_s22_e3|6_i24_o32_se0|0.5_sw"]
    )


@pytest.fixture(scope="module")
def cost(space):
    return lambda choice: sum(
        row.multiply_adds for row in count_parts(space.stages_of(choice), space.global_params, 32)
    )


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def _measuring(calls):
    def measure(choice):
        calls.append(choice)
        return {"cross_entropy": 1 / (1 + sum(choice))}

    return measure


def test_the_smallest_and_the_largest_go_first_and_no_network_is_measured_twice(space, cost, storage):
    calls, trials = [], Trials(space, "search", storage, cost, 6, 0, None, smallest_and_largest(space))
    while len(trials.measured()) < 16:
        assert trials.measure_next(_measuring(calls))
    costs = [cost(choice) for choice in calls]
    assert costs[0] == min(costs) and costs[1] == max(costs)
    assert calls[0] == (0, 0, 0, 1, 0, 0) and calls[1] == (2, 1, 3, 0, 1, 1)
    assert len(set(calls)) == len(calls) == 16
    assert [trial.choice for trial in trials.measured()] == calls
    assert [trial.cost for trial in trials.measured()] == costs


def test_an_interrupted_network_is_next_and_a_resumed_search_goes_on_as_an_unbroken_one(space, cost, storage):
    unbroken, broken, calls, again = Trials(space, "unbroken", storage, cost, 6, 0), [], [], []
    while len(unbroken.measured()) < 9:
        unbroken.measure_next(_measuring(calls))

    def interrupted(choice):
        broken.append(choice)
        raise KeyboardInterrupt

    resumed = Trials(space, "resumed", storage, cost, 6, 0)
    for _ in range(5):
        resumed.measure_next(_measuring(again))
    with pytest.raises(KeyboardInterrupt):
        resumed.measure_next(interrupted)
    resumed = Trials(space, "resumed", storage, cost, 6, 0)
    while len(resumed.measured()) < 9:
        resumed.measure_next(_measuring(again))
    assert again[5] == broken[0]
    assert again[:6] == calls[:6] and len(set(again)) == 9
    assert again[6:] != again[:3]


def test_networks_above_the_largest_cost_are_not_measured(space, cost):
    most, calls = cost((1, 0, 1, 1, 1, 0)), []
    trials = Trials(space, "random", None, cost, population=None, seed=0, max_cost=most)
    for _ in range(10):
        trials.measure_next(_measuring(calls))
    assert len(calls) == 10 and max(map(cost, calls)) <= most


def test_there_is_an_end_where_all_are_measured(cost):
    small = SearchSpace.decode(["r1_k3|3.5_a1_p1_s22_e1_i16_o24", "r1_k3|5_a1_p1_s22_e3_i24_o32"])
    calls, trials = [], Trials(small, "search", None, sum, population=4, seed=0)
    while trials.measure_next(_measuring(calls)):
        pass
    assert sorted(calls) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_storage_that_cannot_be_opened_is_one_line(space, cost):
    with pytest.raises(ValueError, match="storage: 'nothing://x' cannot be opened: ") as caught:
        Trials(space, "search", "nothing://x", cost, 4, 0)
    assert "\n" not in str(caught.value)


def test_the_front_and_its_hypervolume():
    trials = [
        Trial((0,), 3.0, {"cross_entropy": 1.0}),
        Trial((1,), 1.0, {"cross_entropy": 3.0}),
        Trial((2,), 3.0, {"cross_entropy": 2.0}),  # costs as much as the first, and is worse
        Trial((3,), 2.0, {"cross_entropy": 2.5}),
        Trial((4,), 5.0, {"cross_entropy": 0.5}),
        Trial((5,), 0.5, {"cross_entropy": float("inf")}),  # whose loss was not finite
    ]
    assert [trial.choice for trial in front_of(trials)] == [(1,), (3,), (0,), (4,)]
    # To the corner (4, 4): a width of 3 by a height of 1, of 2 by 0.5 and of 1 by 1.5; the last one is beyond.
    assert hypervolume(trials, (4.0, 4.0)) == 3 * 1 + 2 * 0.5 + 1 * 1.5
