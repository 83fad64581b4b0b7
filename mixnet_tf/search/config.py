"""search.json: the configuration of a search, which is the same in all its processes."""

import os
from collections.abc import Sequence
from typing import Any

from mixnet_tf.data import Reading, Split, check_hash_version
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import read_json
from mixnet_tf.networks import GlobalParams
from mixnet_tf.recipe import Recipe
from mixnet_tf.search.settings import SearchSettings
from mixnet_tf.search.space import SearchSpace

CONFIG = "search.json"
# The settings that decide the results.
_DECISIVE = ("held_out", "population", "cost", "latency_table", "max_cost", "estimate", "estimate_steps")

_NOT_IN_0_2_0 = {"data_version": 0, "exif": False, "validation_fraction": None, "hash_version": None, "list": None}


def config_of(
    space: SearchSpace, split: Split, digest: str | None, recipe: Recipe, settings: SearchSettings
) -> dict[str, Any]:
    """The configuration of a search.

    Args:
        space: The space.
        split: The `data.Split` that images are held out from.
        digest: The digest of the held-out images.
        recipe: The `Recipe`.
        settings: The `SearchSettings`.

    Returns:
        The content of search.json.
    """
    return {
        "space": {"blocks": space.encode(), "params": space.global_params._asdict()},
        "dataset": split.dataset,
        "train_split": split.name,
        "num_train_images": split.num_examples,
        "recipe": recipe._asdict(),
        **{name: getattr(settings, name) for name in _DECISIVE},
        "data_version": split.rules.version,
        "exif": split.rules.exif,
        "validation_fraction": split.validation_fraction,
        "hash_version": split.hash_version,
        "list": split.list_path,
        "held_out_digest": digest,
    }


def read_config(search_dir: str) -> dict[str, Any] | None:
    """The configuration of the search in a folder; None if there is none.

    Raises:
        ValueError: If the folder's search.json is not a JSON object.
    """
    path = os.path.join(search_dir, CONFIG)
    try:
        there = read_json(path)
    except MissingFileError:
        return None
    if not isinstance(there, dict):
        raise InputError(f"{path} is not the configuration of a search; name another search_dir.")
    return there


def reading_of(there: dict[str, Any] | None, settings: SearchSettings) -> Reading:
    """How a search reads its dataset: as the search in its folder does, unless the settings say otherwise.

    Args:
        there: The configuration in the folder, from `read_config`.
        settings: The `SearchSettings`.

    Raises:
        ValueError: If a newer version wrote the search.
    """
    reading = Reading()
    if there is not None:
        before = {**_NOT_IN_0_2_0, **there}
        check_hash_version(before["hash_version"])
        reading = Reading(before["data_version"], before["exif"], list=before["list"])
        reading = reading.given(default_fraction=before["validation_fraction"])
    return reading.given(list=settings.list, validation_fraction=settings.validation_fraction)


def check_same(there: dict[str, Any], config: dict[str, Any], search_dir: str) -> None:
    """Checks that a folder holds the search of this configuration.

    Args:
        there: The configuration in the folder, from `read_config`.
        config: The configuration of this search, from `config_of`.
        search_dir: The folder.

    Raises:
        ValueError: If the folder holds another search; the message lists the differences.
    """
    before = {**_NOT_IN_0_2_0, **there, "list": config["list"]}  # a list may move
    lines = _differences("", _with_defaults(before), config)
    if lines:
        path, listing = os.path.join(search_dir, CONFIG), "\n".join(f"  {line}" for line in lines)
        raise InputError(f"{path} is of another search; name another search_dir.\n{listing}")


def _with_defaults(there):
    """A configuration with the defaults of fields that did not exist when it was written."""
    space = there.get("space", {})
    params = {**GlobalParams()._asdict(), **space.get("params", {})}
    return {**there, "space": {**space, "params": params}, "recipe": {**Recipe()._asdict(), **there.get("recipe", {})}}


def _differences(prefix: str, there: dict[str, Any], here: dict[str, Any]) -> Sequence[str]:
    found: list[str] = []
    for name in {**there, **here}:
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(f"{prefix}{name}.", old, new)
        elif old != new:
            found.append(f"{prefix}{name}: {old!r} there, {new!r} here")
    return found
