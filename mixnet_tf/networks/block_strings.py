"""Block strings and model parameters: the paper's notation as typed, immutable values."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from mixnet_tf import imagenet
from mixnet_tf.errors import InputError

PARTITIONS = ("equal", "exponential")


class GlobalParams(NamedTuple):
    """The parameters of a whole network.

    Filter counts are nominal: `round_filters` has not been applied yet.
    Source: mixnet/mixnet_model.py:GlobalParams.
    """

    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3
    dropout_rate: float = 0.2
    num_classes: int = imagenet.CLASSES
    depth_multiplier: float | None = None  # None: widths as in the block strings
    depth_divisor: int = 8
    min_depth: int | None = None  # None: the divisor
    stem_size: int = 16
    feature_size: int = 1536  # filters of the head, never scaled; unused without a head
    activation: str = "swish"  # the activation of blocks with `sw`
    # The following fields are not in the reference; MixNets use their defaults.
    default_activation: str = "relu"  # of stem, head, and blocks without `sw`
    project_activation: str | None = None  # after each projection; None: none
    head: bool = True  # whether the backbone ends in a convolution to `feature_size`
    partition: str = "equal"  # one of PARTITIONS: how a MixConv splits its channels
    dilated: bool = False  # whether every block has the option `dilated`


class BlockArgs(NamedTuple):
    """One stage: `num_repeat` inverted-residual blocks.

    A `*_ksize` holds one odd kernel size (pixels) per channel group. Filters are
    nominal: `round_filters` has not been applied yet.
    Source: mixnet/mixnet_model.py:BlockArgs.
    """

    dw_ksize: tuple[int, ...]
    expand_ksize: tuple[int, ...]
    project_ksize: tuple[int, ...]
    num_repeat: int
    input_filters: int
    output_filters: int
    expand_ratio: int
    id_skip: bool = True
    strides: tuple[int, int] = (1, 1)  # rows, columns; pixels
    se_ratio: float | None = None  # None: no squeeze-and-excitation
    swish: bool = False  # False: ReLU
    dilated: bool = False

    @property
    def expanded_filters(self) -> int:
        """Channels between the expand and the project convolution."""
        return self.input_filters * self.expand_ratio

    @property
    def has_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.id_skip and self.strides == (1, 1) and self.input_filters == self.output_filters

    @property
    def se_filters(self) -> int | None:
        """Channels inside squeeze-and-excitation, a fraction of the block's input channels; None: no such layer."""
        return None if self.se_ratio is None else max(1, int(self.input_filters * self.se_ratio))


_FLAGS = {"noskip": "id_skip", "sw": "swish", "dilated": "dilated"}
_REQUIRED = ("r", "k", "a", "p", "s", "e", "i", "o")
_KEYS = (*_REQUIRED, "se")
_RATIO = r"[0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?"  # as Python writes a positive float up to 1, so small ones as 1e-05


class MixnetDecoder:
    """Block strings to `BlockArgs` and back.

    Example:
        >>> from mixnet_tf import MixnetDecoder
        >>> [block] = MixnetDecoder.decode(["r2_k3.5_a1_p1.1_s11_e6_i80_o80_se0.25_sw"])
        >>> block.dw_ksize, block.num_repeat, block.se_ratio
        ((3, 5), 2, 0.25)
        >>> MixnetDecoder.encode([block])
        ['r2_k3.5_a1_p1.1_s11_e6_i80_o80_se0.25_sw']

    Source: mixnet/mixnet_builder.py:MixnetDecoder. The reference ignores unknown options; this
    one raises an error.
    """

    @staticmethod
    def decode(string_list: Sequence[str]) -> list[BlockArgs]:
        """Block strings to a list of `BlockArgs`.

        Raises:
            ValueError: For an unknown, repeated, missing or malformed option.
        """
        if not isinstance(string_list, list | tuple):
            raise InputError(f"Expected a list of block strings, received {string_list!r}.")
        return [_decode_block_string(text) for text in string_list]

    @staticmethod
    def encode(blocks_args: Sequence[BlockArgs]) -> list[str]:
        """A list of `BlockArgs` to block strings, in the reference's order of options.

        Raises:
            ValueError: For anything else.
        """
        if not isinstance(blocks_args, list | tuple) or not all(isinstance(block, BlockArgs) for block in blocks_args):
            raise InputError(f"Expected a list of BlockArgs, received {blocks_args!r}.")
        return [_encode_block_string(block) for block in blocks_args]


def _decode_block_string(text):
    if not isinstance(text, str):
        raise InputError(f"A block string is a str such as 'r1_k3_a1_p1_s11_e1_i16_o16', received {text!r}.")
    options, words = {}, set()
    for op in text.split("_"):
        match = re.fullmatch(rf"([a-z]+)([0-9.]*|{_RATIO})", op)
        key, value = match.groups() if match else (op, "")
        if key in options or key in words:
            raise InputError(f"Option {key!r} occurs twice in block string {text!r}.")
        if key in _FLAGS and not value:
            words.add(key)
        elif key in _KEYS:
            options[key] = value
        else:
            raise InputError(
                f"Unknown option {op!r} in block string {text!r}; expected one of "
                f"{sorted(_KEYS)} followed by a number, or {sorted(_FLAGS)}."
            )
    missing = [key for key in _REQUIRED if key not in options]
    if missing:
        raise InputError(f"Block string {text!r} lacks the options {missing}.")

    def integer(key):
        if not re.fullmatch(r"[1-9][0-9]*", options[key]):
            raise InputError(f"Option {key + options[key]!r} in block string {text!r}: expected a whole number from 1.")
        return int(options[key])

    def kernel_sizes(key):
        try:
            return parse_kernels(options[key])
        except InputError as error:
            raise InputError(
                f"Option {key + options[key]!r} in block string {text!r}: expected odd kernel sizes "
                f"joined by '.', such as {key}3.5.7."
            ) from error

    if not re.fullmatch(r"[1-9]{2}", options["s"]):
        raise InputError(f"Option {'s' + options['s']!r} in block string {text!r}: expected two digits, such as s22.")
    se_ratio = None
    if "se" in options:
        if not re.fullmatch(_RATIO, options["se"]):
            raise InputError(
                f"Option {'se' + options['se']!r} in block string {text!r}: expected a ratio, as in se0.5."
            )
        ratio = float(options["se"])
        se_ratio = ratio if 0 < ratio <= 1 else None  # as the reference: outside this range, no SE

    return BlockArgs(
        dw_ksize=kernel_sizes("k"),
        expand_ksize=kernel_sizes("a"),
        project_ksize=kernel_sizes("p"),
        num_repeat=integer("r"),
        input_filters=integer("i"),
        output_filters=integer("o"),
        expand_ratio=integer("e"),
        id_skip="noskip" not in words,
        strides=(int(options["s"][0]), int(options["s"][1])),
        se_ratio=se_ratio,
        swish="sw" in words,
        dilated="dilated" in words,
    )


def parse_kernels(text: str) -> tuple[int, ...]:
    """Kernel sizes written as in a block string, such as "3.5.7".

    Raises:
        ValueError: For anything but odd numbers separated by ".".
    """
    sizes = text.split(".")
    if not all(re.fullmatch(r"[0-9]*[13579]", size) for size in sizes):
        raise InputError(f"Expected odd kernel sizes joined by '.', such as 3.5.7; received {text!r}.")
    return tuple(map(int, sizes))


def _encode_block_string(block):
    def join(sizes):
        return ".".join(map(str, sizes))

    options = [
        f"r{block.num_repeat}",
        f"k{join(block.dw_ksize)}",
        f"a{join(block.expand_ksize)}",
        f"p{join(block.project_ksize)}",
        f"s{block.strides[0]}{block.strides[1]}",
        f"e{block.expand_ratio}",
        f"i{block.input_filters}",
        f"o{block.output_filters}",
    ]
    if block.se_ratio is not None:
        options.append(f"se{block.se_ratio}")
    if not block.id_skip:
        options.append("noskip")
    if block.swish:
        options.append("sw")
    if block.dilated:
        options.append("dilated")
    return "_".join(options)


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


def unroll(blocks_args: Sequence[BlockArgs], global_params: GlobalParams) -> list[BlockArgs]:
    """Unrolls stages into single blocks (`num_repeat` 1) with rounded filters.

    The first block of a stage has the stage's input filters and strides; each repeat takes the stage's
    output filters, and has stride 1. Source: mixnet/mixnet_model.py:MixnetModel._build.
    """
    blocks = []
    for stage in blocks_args:
        block = stage._replace(
            num_repeat=1,
            input_filters=round_filters(stage.input_filters, global_params),
            output_filters=round_filters(stage.output_filters, global_params),
        )
        repeat = block._replace(input_filters=block.output_filters, strides=(1, 1))
        blocks += [block] + [repeat] * (stage.num_repeat - 1)
    return blocks


def split_channels(channels: int, groups: int, partition: str = "equal") -> list[int]:
    """The number of channels of each group.

    Args:
        channels: Channels of all groups together.
        groups: Number of groups.
        partition: "equal": equal numbers; group 0 also gets the remainder. "exponential": group 0 gets half of the
            channels, group 1 a quarter, ..., and the last group the rest.

    Raises:
        ValueError: If a group would have no channel, or for an unknown partition.

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
