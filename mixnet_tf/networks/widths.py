"""The numbers of blocks and channels of a network: of each stage, of each block, and of each channel group."""

import itertools
from collections.abc import Sequence

from mixnet_tf.errors import InputError
from mixnet_tf.networks.block_strings import PARTITIONS, BlockArgs, GlobalParams


def round_filters(filters: int, global_params: GlobalParams) -> int:
    """Multiplies filters by the depth multiplier and rounds to a multiple of the divisor, never below 90%.

    Source: mixnet/mixnet_model.py:round_filters, where 0 stands for None as the multiplier and the minimum.
    """
    multiplier = global_params.depth_multiplier
    if multiplier is None or multiplier == 0:
        return filters
    divisor = global_params.depth_divisor
    scaled = filters * multiplier
    at_least = divisor if global_params.min_depth in (None, 0) else global_params.min_depth
    rounded = max(at_least, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


def repeats(blocks_args: Sequence[BlockArgs], multiplier: float | None) -> list[int]:
    """The number of blocks of each block string, multiplied.

    Consecutive strings with equal output filters are one stage, whose number of blocks is multiplied and rounded. It is
    then divided among the strings in their proportions, from the last one to the first. Python's `round` is used, as in
    the source, which rounds halves to even numbers.

    Args:
        blocks_args: List of `BlockArgs`.
        multiplier: Above 0; None: unchanged.

    Source: timm 1.0.31, models/_efficientnet_builder.py:_scale_stage_depth.
    """
    if multiplier is None:
        return [stage.num_repeat for stage in blocks_args]
    multiplied: list[int] = []
    for _, strings in itertools.groupby(blocks_args, key=lambda stage: stage.output_filters):
        own = [stage.num_repeat for stage in strings]
        left, blocks, shares = sum(own), max(1, round(sum(own) * multiplier)), []
        for count in reversed(own):
            shares.append(max(1, round(count / left * blocks)))
            left, blocks = left - count, blocks - shares[-1]
        multiplied += reversed(shares)
    return multiplied


def unroll(blocks_args: Sequence[BlockArgs], global_params: GlobalParams) -> list[BlockArgs]:
    """Unrolls stages into single blocks (`num_repeat` 1) with rounded filters, as many as `repeats` says.

    The first block of a stage has the stage's input filters and strides; each repeat takes the stage's
    output filters, and has stride 1. Source: mixnet/mixnet_model.py:MixnetModel._build.
    """
    blocks = []
    for stage, number in zip(blocks_args, repeats(blocks_args, global_params.repeat_multiplier), strict=True):
        block = stage._replace(
            num_repeat=1,
            input_filters=round_filters(stage.input_filters, global_params),
            output_filters=round_filters(stage.output_filters, global_params),
        )
        repeat = block._replace(input_filters=block.output_filters, strides=(1, 1))
        blocks += [block] + [repeat] * (number - 1)
    return blocks


def split_channels(channels: int, groups: int, partition: str = "equal") -> list[int]:
    """The number of channels of each group.

    Args:
        channels: Channels of all groups together.
        groups: Number of groups.
        partition: "equal": equal numbers; group 0 also gets the remainder. "exponential": group 0 gets half of the
            channels, group 1 a quarter, ..., and the last group the rest.

    Raises:
        ValueError: If a group would have no channel, or the partition is unknown.

    Source: mixnet/custom_layers.py:_split_channels; exponential: arXiv:1907.09595, section 3.2.
    """
    if partition == "equal":
        size = channels // groups
        sizes = [channels - size * (groups - 1)] + [size] * (groups - 1)
    elif partition == "exponential":
        sizes = [channels // 2**number for number in range(1, groups)]
        sizes.append(channels - sum(sizes))
    else:
        raise InputError(f"partition: expected one of {PARTITIONS}, received {partition!r}.")
    if min(sizes) < 1:
        raise InputError(f"{channels} channels cannot be split into {groups} groups ({partition}): {sizes}.")
    return sizes
