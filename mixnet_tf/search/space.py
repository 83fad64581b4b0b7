"""Spaces of networks: block strings with alternatives."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath
from mixnet_tf.networks import (
    BlockArgs,
    GlobalParams,
    MixnetDecoder,
    get_model_params,
    is_network_file,
    network_content,
    read_network,
    repeats,
    split_channels,
    stages_and_params,
    unroll,
)
from mixnet_tf.search.alternatives import FIELDS, Alternatives, decode, encode

_KERNELS = ((3,), (3, 5), (3, 5, 7), (3, 5, 7, 9), (3, 5, 7, 9, 11))
_GROUPS, _EXPANSIONS, _RATIOS = ((1,), (1, 1)), (3, 6), (None, 0.25, 0.5)


class SearchSpace:
    """The networks that block strings with alternatives describe.

    A choice selects a network: it has an index into the values of each of `alternatives`.

    Args:
        stages: `BlockArgs` of each stage, with the first value of each alternative.
        alternatives: List of `Alternatives`, ordered by stage.
        global_params: The parameters of all its networks.

    Raises:
        ValueError: If alternatives are repeated or cannot be distinguished, or if a stage cannot be built with some of
            them.

    Example:
        >>> from mixnet_tf.search import SearchSpace
        >>> space = SearchSpace.decode(["r1|2_k3|3.5|3.5.7_a1_p1_s11_e3_i16_o16"])
        >>> space.size
        6
        >>> space.network((1, 2))
        ['r2_k3.5.7_a1_p1_s11_e3_i16_o16']
        >>> space.choice(['r2_k3.5.7_a1_p1_s11_e3_i16_o16'])
        (1, 2)
    """

    def __init__(
        self, stages: Sequence[BlockArgs], alternatives: Sequence[Alternatives], global_params: GlobalParams
    ) -> None:
        self.stages, self.global_params = tuple(stages), global_params
        self.alternatives = tuple(alternatives)
        for stage in range(len(stages)):
            self._check(stage)

    @classmethod
    def decode(cls, strings: Sequence[str], override_params: Mapping[str, Any] | None = None) -> "SearchSpace":
        """Decodes block strings with alternatives.

        Args:
            strings: Block strings whose options r, k, a, p, e and se may have alternatives behind `|`, as in
                "k3|3.5|3.5.7"; `se0` means none.
            override_params: Fields of `GlobalParams` to replace in all networks; without `stem_size` the stem has the
                first block's input filters.

        Raises:
            ValueError: If a block string is malformed, if another option has alternatives, or if there is a
                `repeat_multiplier`.
        """
        if not isinstance(strings, list | tuple) or not strings:
            raise InputError(f"Expected a list with at least one block string, received {strings!r}.")
        stages, alternatives = [], []
        for number, text in enumerate(strings):
            first, others = decode(text)
            stages.append(first)
            alternatives += [Alternatives(number, field, values) for field, values in others.items()]
        params = stages_and_params(None, stages, override_params)[1]
        if params.repeat_multiplier is not None:
            raise InputError(
                f"repeat_multiplier={params.repeat_multiplier:g}: a space varies the repeats; write them out."
            )
        return cls(stages, alternatives, params)

    @classmethod
    def around(cls, model_name: StrPath, override_params: Mapping[str, Any] | None = None) -> "SearchSpace":
        """The space around a network: its stages with other kernels, groups, ratios and repeats, and its own.

        Depthwise kernels from 3 alone to 3 to 11; one or two groups of 1x1 convolutions; expansion 3 or 6;
        squeeze-and-excitation none, 0.25 or 0.5; one block less if a stage repeats. Filters, strides and activations
        stay. The paper says that it searched kernels and expansion; the others vary in the networks that it found.

        Args:
            model_name: What `build_model` takes.
            override_params: Fields of `GlobalParams` to replace.

        Raises:
            ValueError: If `build_model` would raise it.

        Source: arXiv:1907.09595, section 4.1.
        """
        stages, params = get_model_params(model_name, override_params)
        counts = repeats(stages, params.repeat_multiplier)
        stages = [stage._replace(num_repeat=count) for stage, count in zip(stages, counts, strict=True)]
        params = params._replace(repeat_multiplier=None)
        alternatives = []
        for number, stage in enumerate(stages):
            fields: dict[str, tuple] = {"dw_ksize": _KERNELS, "project_ksize": _GROUPS, "se_ratio": _RATIOS}
            if stage.expand_ratio > 1:
                fields |= {"expand_ksize": _GROUPS, "expand_ratio": _EXPANSIONS}
            if stage.num_repeat > 1:
                fields["num_repeat"] = (stage.num_repeat - 1, stage.num_repeat)
            for field, values in fields.items():
                own = getattr(stage, field)
                alternatives.append(Alternatives(number, field, values if own in values else (own, *values)))
        return cls(stages, alternatives, params)

    @classmethod
    def read(cls, name: StrPath, override_params: Mapping[str, Any] | None = None) -> "SearchSpace":
        """Reads a space file, or returns the space `around` a network.

        Args:
            name: Path of a network file in which some block strings have alternatives; or a network, as for `around`.
            override_params: Fields of `GlobalParams` to replace in all networks.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: As `decode` and `around`.
        """
        if is_network_file(name):
            strings, params = read_network(name)
            if any(isinstance(text, str) and "|" in text for text in strings):
                return cls.decode(strings, {**params, **(override_params or {})})
        return cls.around(name, override_params)

    def encode(self) -> list[str]:
        """The block strings with alternatives, which `decode` reads."""
        return [
            encode(stage, [each for each in self.alternatives if each.stage == number])
            for number, stage in enumerate(self.stages)
        ]

    def with_classes(self, classes: int) -> "SearchSpace":
        """The same space for another number of classes."""
        return SearchSpace(self.stages, self.alternatives, self.global_params._replace(num_classes=classes))

    @property
    def size(self) -> int:
        """Number of networks."""
        return math.prod(len(each.values) for each in self.alternatives)

    def values(self, stage: int) -> dict[str, tuple[Any, ...]]:
        """The values of each field of a stage that may have alternatives; a single value if it has none."""
        own = {each.field: each.values for each in self.alternatives if each.stage == stage}
        return {field: own.get(field, (getattr(self.stages[stage], field),)) for field in FIELDS.values()}

    def stages_of(self, choice: Sequence[int]) -> list[BlockArgs]:
        """The stages of the network that a choice selects.

        Raises:
            ValueError: If its length is wrong, or an index is out of range.
        """
        allowed = [len(each.values) for each in self.alternatives]
        valid = len(choice) == len(allowed) and all(
            0 <= place < most for place, most in zip(choice, allowed, strict=True)
        )
        if not valid:
            raise InputError(f"A choice of this space has {len(allowed)} places below {allowed}; received {choice!r}.")
        stages = list(self.stages)
        for place, each in zip(choice, self.alternatives, strict=True):
            stages[each.stage] = stages[each.stage]._replace(**{each.field: each.values[place]})
        return stages

    def network(self, choice: Sequence[int]) -> list[str]:
        """The block strings of the network that a choice selects."""
        return MixnetDecoder.encode(self.stages_of(choice))

    def network_content(self, choice: Sequence[int]) -> dict[str, Any]:
        """The content of the network file of a choice."""
        return network_content(self.stages_of(choice), self.global_params)

    def choice(self, network: Sequence[str]) -> tuple[int, ...]:
        """The choice that selects a network.

        Args:
            network: Block strings of the network.

        Raises:
            ValueError: If the network is not in the space; the message names the stage and the difference.
        """
        stages = MixnetDecoder.decode(network)
        if len(stages) != len(self.stages):
            raise InputError(f"A network of this space has {len(self.stages)} block strings; received {len(stages)}.")
        places = []
        for each in self.alternatives:
            value = getattr(stages[each.stage], each.field)
            if value not in each.values:
                raise InputError(
                    f"{network[each.stage]!r} is not in the space: {each.field} is one of {list(each.values)} there."
                )
            places.append(each.values.index(value))
        for number, (found, given) in enumerate(zip(self.stages_of(places), stages, strict=True)):
            if found != given:
                [expected] = MixnetDecoder.encode([found])
                raise InputError(f"{network[number]!r} is not in the space; the nearest there is {expected!r}.")
        return tuple(places)

    def like(self, model_name: StrPath) -> tuple[int, ...]:
        """The choice that is most like a given network.

        Each stage takes the nearest alternatives to the given network's stage at the same relative depth: the kernel
        sizes with the fewest differences, and among these with the nearest mean; for other options the nearest number.

        Args:
            model_name: What `build_model` takes.

        Raises:
            ValueError: If `build_model` would raise it.
        """
        others, _ = get_model_params(model_name)
        last, choice = max(len(self.stages) - 1, 1), []
        for each in self.alternatives:
            other = others[round(each.stage * (len(others) - 1) / last)]
            wanted = getattr(other, each.field)
            distances = [_distance(each.field, value, wanted) for value in each.values]
            choice.append(distances.index(min(distances)))
        return tuple(choice)

    def _check(self, number):
        """Raises a ValueError if a stage cannot be built with some alternative."""
        own = {each.field: each.values for each in self.alternatives if each.stage == number}
        first = self.stages[number]
        [text] = MixnetDecoder.encode([first])
        for field, values in own.items():
            if len(values) < 2 or len(set(values)) < len(values):
                raise InputError(f"Stage {text!r}: {field}: expected two or more different values, received {values}.")
        if 1 in own.get("expand_ratio", ()):
            raise InputError(f"Stage {text!r}: expansion 1 has no expansion to choose; it cannot be an alternative.")
        if first.expand_ratio == 1 and "expand_ksize" in own:
            raise InputError(f"Stage {text!r}: with expansion 1 there is no convolution to choose a's groups of.")
        if max(first.strides) > 1 and any(1 in kernels for kernels in own.get("dw_ksize", (first.dw_ksize,))):
            raise InputError(f"Stage {text!r}: a 1x1 depthwise kernel with a stride is not a part of a larger one.")
        names = list(own)
        for values in itertools.product(*own.values()):
            stage = first._replace(**dict(zip(names, values, strict=True)))
            try:
                for block in unroll([stage], self.global_params):
                    _check_groups(block, self.global_params.partition)
            except InputError as error:
                raise InputError(f"Stage {MixnetDecoder.encode([stage])[0]!r}: {error}") from error


def _distance(field, value, wanted):
    """The distance between an alternative and another network's value of the same field."""
    if field == "dw_ksize":
        return len(set(value) ^ set(wanted)), abs(sum(value) / len(value) - sum(wanted) / len(wanted))
    if field in ("expand_ksize", "project_ksize"):
        return abs(len(value) - len(wanted))
    return abs((value or 0) - (wanted or 0))


def _check_groups(block, partition):
    """Raises a ValueError if a channel group of a block would be empty."""
    split_channels(block.expanded_filters, len(block.dw_ksize), partition)
    for kernels, ends in (
        (block.expand_ksize, (block.input_filters, block.expanded_filters)),
        (block.project_ksize, (block.expanded_filters, block.output_filters)),
    ):
        for channels in ends:
            split_channels(channels, len(kernels))
