"""Block strings whose options have alternatives, such as "k3|3.5|3.5.7"."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mixnet_tf.errors import InputError
from mixnet_tf.networks import BlockArgs, MixnetDecoder

# The options of a block string that may have alternatives, and their fields of `BlockArgs`.
FIELDS = {
    "r": "num_repeat",
    "k": "dw_ksize",
    "a": "expand_ksize",
    "p": "project_ksize",
    "e": "expand_ratio",
    "se": "se_ratio",
}


class Alternatives(NamedTuple):
    """The alternatives of one option of one stage.

    Attributes:
        stage: Number of the stage, from 0.
        field: The field of `BlockArgs`.
        values: Its values, at least two.
    """

    stage: int
    field: str
    values: tuple[Any, ...]


def decode(text: str) -> tuple[BlockArgs, dict[str, tuple[Any, ...]]]:
    """Decodes a block string with alternatives: its first network as `BlockArgs`, and the values by field."""
    if not isinstance(text, str):
        raise InputError(f"A block string is a str such as 'r1|2_k3|3.5_a1_p1_s11_e3_i16_o16', received {text!r}.")
    options = [re.fullmatch(r"([a-z]+)(.*)", op, re.DOTALL) for op in text.split("_")]
    parsed = [match.groups() if match else (op, "") for match, op in zip(options, text.split("_"), strict=True)]
    first = "_".join(key + value.split("|")[0] for key, value in parsed)
    [stage] = MixnetDecoder.decode([first])
    others = {}
    for place, (key, value) in enumerate(parsed):
        written = value.split("|")
        if len(written) == 1:
            continue
        if key not in FIELDS:
            raise InputError(
                f"Option {key + value!r} in block string {text!r}: only {sorted(FIELDS)} may have alternatives."
            )
        values = []
        for one in written:
            single = "_".join(k + (one if at == place else v.split("|")[0]) for at, (k, v) in enumerate(parsed))
            values.append(getattr(MixnetDecoder.decode([single])[0], FIELDS[key]))
        if len(set(values)) < len(values):
            raise InputError(f"Option {key + value!r} in block string {text!r}: the same alternative occurs twice.")
        others[FIELDS[key]] = tuple(values)
    return stage, others


def encode(stage: BlockArgs, alternatives: Sequence[Alternatives]) -> str:
    """Encodes a stage with its alternatives as a block string, which `decode` reads."""
    [text] = MixnetDecoder.encode([stage])
    options = text.split("_")
    for each in alternatives:
        key = next(key for key, field in FIELDS.items() if field == each.field)
        joined = key + "|".join(_option(stage, key, each.field, value) for value in each.values)
        own = next((place for place, option in enumerate(options) if _key(option) == key), len(options))
        options[own : own + 1] = [joined]  # at the end if the stage has none
    return "_".join(options)


def _key(option):
    return re.sub("[^a-z].*", "", option)


def _option(stage, key, field, value):
    """An alternative as it is written in a block string, without its key."""
    [text] = MixnetDecoder.encode([stage._replace(**{field: value})])
    return next((option[len(key) :] for option in text.split("_") if _key(option) == key), "0")  # se0: none
