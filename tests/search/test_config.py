"""How a search reads its dataset, and what it keeps of it in its folder."""

import pytest
from short_search import RECIPE

from mixnet_tf.data import DATA_VERSION, Reading, Split
from mixnet_tf.search.config import check_same, config_of, reading_of
from mixnet_tf.search.settings import SearchSettings

_SETTINGS = SearchSettings("search", "data")
_SPLIT = Split("list", "train", 5, None, 10, None, validation_fraction=0.3, list_path="a.csv")


def test_a_search_keeps_how_its_dataset_is_read(digits_space):
    config = config_of(digits_space, _SPLIT, None, RECIPE, _SETTINGS)
    assert {name: config[name] for name in ("validation_fraction", "hash_version", "exif", "list")} == {
        "validation_fraction": 0.3,
        "hash_version": 1,
        "exif": False,
        "list": "a.csv",
    }
    assert reading_of(None, _SETTINGS) == Reading()
    assert reading_of(config, _SETTINGS) == Reading(DATA_VERSION, False, list="a.csv", default_fraction=0.3)
    asked = reading_of(config, _SETTINGS._replace(list="b.csv", validation_fraction=0.2))
    assert (asked.list, asked.fraction) == ("b.csv", 0.2)
    check_same(config, {**config, "list": "b.csv"}, "search")
    with pytest.raises(ValueError, match="validation_fraction: 0.3 there, 0.2 here"):
        check_same(config, {**config, "validation_fraction": 0.2}, "search")


def test_a_search_of_0_2_0_keeps_its_rules_and_one_of_a_newer_version_is_refused(digits_space):
    whole = config_of(digits_space, _SPLIT._replace(validation_fraction=None, list_path=None), None, RECIPE, _SETTINGS)
    later = ("data_version", "exif", "validation_fraction", "hash_version", "list")
    older = {name: value for name, value in whole.items() if name not in later}
    assert reading_of(older, _SETTINGS) == Reading(0, False)
    check_same(older, {**whole, "data_version": 0}, "search")
    older["recipe"] = {name: value for name, value in whole["recipe"].items() if name != "clip_norm"}
    params = {name: value for name, value in whole["space"]["params"].items() if name != "padding"}
    older["space"] = {**whole["space"], "params": params}
    check_same(older, {**whole, "data_version": 0}, "search")
    with pytest.raises(ValueError, match="recipe.clip_norm: None there, 1.0 here"):
        check_same(older, {**whole, "data_version": 0, "recipe": {**whole["recipe"], "clip_norm": 1.0}}, "search")
    with pytest.raises(ValueError, match="hash_version: expected 1, received 2"):
        reading_of({**whole, "hash_version": 2}, _SETTINGS)
