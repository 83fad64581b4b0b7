"""Block strings and model parameters: the paper's notation as typed, immutable values."""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from mixnet_tf import imagenet
from mixnet_tf.errors import InputError
from mixnet_tf.settings import Setting, documented

PARTITIONS = ("equal", "exponential")
PADDINGS = SAME, SYMMETRIC = "same", "symmetric"


@documented
class GlobalParams(NamedTuple):
    """The parameters of a whole network.

    Filter counts are nominal: `round_filters` has not been applied yet. The fields from `default_activation` on are not
    in the reference; MixNets use their defaults.

    Source: mixnet/mixnet_model.py:GlobalParams.
    """

    batch_norm_momentum: Annotated[
        float, Setting("Momentum of batch normalization's moving statistics.", least=0, below=1)
    ] = 0.99
    batch_norm_epsilon: Annotated[float, Setting("Epsilon of batch normalization.", above=0)] = 1e-3
    dropout_rate: Annotated[float, Setting("Rate of the dropout before the classifier.", least=0, below=1)] = 0.2
    num_classes: Annotated[int, Setting("Number of classes.", least=1)] = imagenet.CLASSES
    depth_multiplier: Annotated[float | None, Setting("Multiplies all widths; None: unchanged.", least=0)] = None
    depth_divisor: Annotated[int, Setting("Multiplied widths are rounded to a multiple of it.", least=1)] = 8
    min_depth: Annotated[int | None, Setting("Smallest multiplied width; None: the divisor.", least=0)] = None
    stem_size: Annotated[int, Setting("Filters of the stem.", least=1)] = 16
    feature_size: Annotated[int, Setting("Filters of the head, never multiplied.", least=1)] = 1536
    activation: Annotated[str, Setting("Keras activation of the blocks with `sw`.")] = "swish"
    default_activation: Annotated[str, Setting("Keras activation of the stem, the head and the other blocks.")] = "relu"
    project_activation: Annotated[str | None, Setting("Keras activation after each projection; None: none.")] = None
    head: Annotated[bool, Setting("Whether the backbone ends in a convolution to `feature_size` filters.")] = True
    partition: Annotated[
        str, Setting("How a MixConv splits its channels into groups; see `split_channels`.", choices=PARTITIONS)
    ] = "equal"
    dilated: Annotated[bool, Setting("Whether every block has the option `dilated`.")] = False
    padding: Annotated[
        str,
        Setting(
            "Padding of the convolutions. same: TensorFlow's; symmetric: k // 2 pixels on every side, as PyTorch pads.",
            choices=PADDINGS,
        ),
    ] = SAME
    repeat_multiplier: Annotated[
        float | None, Setting("Multiplies the number of blocks of each stage, see `repeats`; None: unchanged.", above=0)
    ] = None
    drop_path: Annotated[
        float,
        Setting(
            "Rate of stochastic depth: in training, block i of n leaves out what it adds to its input with probability "
            "i / n of the rate.",
            least=0,
            below=1,
        ),
    ] = 0.0


class BlockArgs(NamedTuple):
    """One stage: `num_repeat` inverted-residual blocks.

    Filters are nominal: `round_filters` has not been applied yet.

    Attributes:
        dw_ksize: Kernel sizes of the depthwise convolution, odd, in pixels; one for each channel group.
        expand_ksize: Kernel sizes of the convolution that expands the channels, in the same form.
        project_ksize: Kernel sizes of the convolution that projects them, in the same form.
        num_repeat: Number of blocks.
        input_filters: Channels of the first block's input.
        output_filters: Channels of each block's output.
        expand_ratio: Factor by which the channels are expanded; 1: no convolution expands them.
        id_skip: Whether a block's input is added to its output where their shapes are equal.
        strides: Strides of the first block over rows and columns, in pixels.
        se_ratio: Channels inside squeeze-and-excitation, as a fraction of the block's input; None: no such layer.
        swish: Whether the activation is `GlobalParams.activation`, or else its `default_activation`.
        dilated: Whether kernels of 3 with dilation replace the larger ones, at stride 1.

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
    strides: tuple[int, int] = (1, 1)
    se_ratio: float | None = None
    swish: bool = False
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
_RATIO = r"[0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?"  # as Python writes positive floats up to 1: 0.25, or 1e-05


class MixnetDecoder:
    """Converts block strings to `BlockArgs`, and back.

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
        """Converts block strings to a list of `BlockArgs`.

        Raises:
            ValueError: If an option is unknown, repeated, missing or malformed.
        """
        if not isinstance(string_list, list | tuple):
            raise InputError(f"Expected a list of block strings, received {string_list!r}.")
        return [_decode_block_string(text) for text in string_list]

    @staticmethod
    def encode(blocks_args: Sequence[BlockArgs]) -> list[str]:
        """Converts a list of `BlockArgs` to block strings, with the options in the reference's order.

        Raises:
            ValueError: If it is not a list of `BlockArgs`.
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
        se_ratio = ratio if 0 < ratio <= 1 else None  # as in the reference, other ratios mean no squeeze-and-excitation

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
    """Parses kernel sizes in the form of a block string, such as "3.5.7".

    Raises:
        ValueError: If they are not odd numbers separated by ".".
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
