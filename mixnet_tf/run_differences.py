"""The fields by which the configurations of two runs are compared."""

import itertools
from collections.abc import Iterator
from typing import Any

from mixnet_tf.networks import Forms, GlobalParams, get_model_params, network_content, override_global_params
from mixnet_tf.recipe import Recipe

# Compared otherwise, or not at all: a list may move, where early stopping ends a run is no setting, and a run keeps the
# class weights that it began with.
_NOT_COMPARED = ("recipe", "forms", "model_name", "network", "label_names", "list", "stopped_at", "class_weights")
_NOT_IN_0_1_0 = ("name", "train_split", "eval_split", "train_shards", "missing_shards")


def compared(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields (name, value, value of the other) for each field that the `RunConfig`s of two runs are compared by."""
    yield from _compared_networks(one, other)
    own = [field for field in one._fields if field not in _NOT_COMPARED]
    fields = [(field, getattr(one, field), getattr(other, field)) for field in own]
    fields += [(field, getattr(one.recipe, field), getattr(other.recipe, field)) for field in Recipe._fields]
    fields += [(field, getattr(one.forms, field), getattr(other.forms, field)) for field in Forms._fields]
    for field, ours, theirs in fields:
        if field in _NOT_IN_0_1_0 and None in (ours, theirs):
            continue
        yield ("recipe" if field == "name" else field), ours, theirs


def _compared_networks(one, other):
    """Compares networks by content, not by name, and without the number of classes, which is the dataset's."""
    if one.network is None and other.network is None:
        yield "model_name", one.model_name, other.model_name
        return
    ours, theirs = _content(one), _content(other)
    for place, blocks in enumerate(itertools.zip_longest(ours["blocks"], theirs["blocks"])):
        yield f"network: block string {place}", *blocks
    for field in sorted(set(GlobalParams._fields) - {"num_classes"}):
        yield f"network: {field}", ours["params"][field], theirs["params"][field]


def _content(config):
    """The content of a run's network file, with default values for missing parameters."""
    if config.network is None:
        return network_content(*get_model_params(config.model_name))
    params = override_global_params(GlobalParams(), config.network["params"])
    return {"blocks": config.network["blocks"], "params": params._asdict()}
