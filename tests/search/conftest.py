"""Fixtures of the search's tests: a space of two stages, digits, and a short training that all tests share."""

import pytest
from short_search import RECIPE, SPACE, STEPS

from mixnet_tf.data import hold_out, load_split
from mixnet_tf.search import SearchSpace
from mixnet_tf.search.estimates import ShortTraining
from mixnet_tf.search.measuring import Data


@pytest.fixture(scope="session")
def digits_space():
    return SearchSpace.decode(SPACE["blocks"], {**RECIPE.model_overrides, **SPACE["params"], "num_classes": 10})


@pytest.fixture(scope="session")
def data(data_dir):
    return Data(*hold_out(load_split("digits", data_dir, True), 0.2))


@pytest.fixture(scope="session")
def short(digits_space, data):
    return ShortTraining(digits_space, data, RECIPE, STEPS)
