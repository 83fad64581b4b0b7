"""Network files: a network in JSON, `{"blocks": [block strings], "params": {fields of GlobalParams}}`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, read_json
from mixnet_tf.networks.block_strings import BlockArgs, GlobalParams, MixnetDecoder

_KEYS = ("blocks", "params")


def is_network_file(model_name: object) -> bool:
    """Whether a model name is the path of a network file."""
    return isinstance(model_name, str | os.PathLike) and os.fspath(model_name).endswith(".json")


def network_name(model_name: StrPath | None) -> str:
    """The name of a network's Keras model: the network's name, or its file's name without .json."""
    if model_name is None:
        return "mixnet"
    name = os.fspath(model_name)
    return os.path.basename(name).removesuffix(".json") if is_network_file(name) else name


def read_network(path: StrPath) -> tuple[list[str], Mapping[str, Any]]:
    """The block strings and parameters in a network file.

    A parameter that the file lacks has its default; the default of `stem_size` is the first block's input filters.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or if its fields are not `blocks` and `params`.
    """
    network = read_json(path)
    if not isinstance(network, dict):
        raise InputError(f"{path}: expected a JSON object with {list(_KEYS)}, received {network!r:.60}.")
    unknown = sorted(set(network) - set(_KEYS))
    if unknown:
        raise InputError(f"{path}: unknown fields {unknown}; a network file has {list(_KEYS)}.")
    blocks, params = network.get("blocks"), network.get("params", {})
    if not isinstance(blocks, list) or not blocks:
        raise InputError(f"{path}: blocks: expected a list with at least one block string, received {blocks!r:.60}.")
    if not isinstance(params, dict):
        raise InputError(f"{path}: params: expected an object of fields of GlobalParams, received {params!r:.60}.")
    return blocks, params


def network_content(stages: Sequence[BlockArgs], params: GlobalParams) -> dict[str, Any]:
    """The content of the network file of these stages and parameters."""
    return {"blocks": MixnetDecoder.encode(list(stages)), "params": params._asdict()}
