import re

import pytest

from mixnet_tf.networks import MixConv
from mixnet_tf.networks.block_strings import (
    BlockArgs,
    GlobalParams,
    MixnetDecoder,
)
from mixnet_tf.networks.variants import VARIANTS
from mixnet_tf.networks.widths import round_filters, split_channels, unroll

PLAIN = "r1_k3_a1_p1_s11_e1_i16_o16"


def replace_option(key, value):
    """PLAIN with the value of one option replaced."""
    return "_".join(key + value if re.fullmatch(rf"{key}[0-9]+", op) else op for op in PLAIN.split("_"))


# What is wrong with a block string, and the option that the error names.
FAULTS = {
    "r": [replace_option("r", "0"), replace_option("r", ""), replace_option("r", "1.5")],
    "k": [replace_option("k", "4"), replace_option("k", ""), replace_option("k", "3.4"), replace_option("k", "3..5")],
    "a": [replace_option("a", "2"), replace_option("a", ""), replace_option("a", "1.")],
    "p": [replace_option("p", "0"), replace_option("p", ""), replace_option("p", ".1")],
    "s": [replace_option("s", v) for v in ("1", "111", "", "00", "20", "2.2")],
    "e": [replace_option("e", "0"), replace_option("e", "0.5"), replace_option("e", "06")],
    "i": [replace_option("i", "0"), replace_option("i", "")],
    "o": [replace_option("o", "0"), replace_option("o", "8.8")],
    "se": [
        PLAIN + "_se",
        PLAIN + "_se.",
        PLAIN + "_se0.2.5",
        PLAIN + "_se.5",
        PLAIN + "_se1e",
        PLAIN + "_se1e-",
        PLAIN + "_see-5",
    ],
    "noskip": [PLAIN + "_noskip1", PLAIN + "_noskip_noskip"],
    "sw": [PLAIN + "_sw1", PLAIN + "_sw_sw"],
    "dilated": [PLAIN + "_dilated2", PLAIN + "_dilated_sw_dilated"],
}
OPTIONS = ("r", "k", "a", "p", "s", "e", "i", "o", "se", "noskip", "sw", "dilated")
REQUIRED = OPTIONS[:8]


def test_every_option_has_a_faulty_string():
    full = MixnetDecoder.encode(
        MixnetDecoder.decode(["r2_k3.5_a1.1_p1_s22_e6_i8_o16_se0.25_noskip_sw_dilated"]),
    )
    written = [re.match("[a-z]+", op)[0] for op in full[0].split("_")]
    assert tuple(written) == OPTIONS == tuple(FAULTS)


@pytest.mark.parametrize("option, text", [(option, text) for option, texts in FAULTS.items() for text in texts])
def test_a_malformed_option_is_named_with_its_string(option, text):
    with pytest.raises(ValueError) as error:
        MixnetDecoder.decode([text])
    assert repr(text) in str(error.value)
    assert f"'{option}" in str(error.value)


@pytest.mark.parametrize("option", REQUIRED)
def test_a_required_option_that_is_missing_is_named(option):
    text = "_".join(op for op in PLAIN.split("_") if not op.startswith(option))
    with pytest.raises(ValueError, match=re.escape(f"{text!r} lacks the options ['{option}']")):
        MixnetDecoder.decode([text])


@pytest.mark.parametrize("option", [*(op for op in PLAIN.split("_")), "r2", "k5.7"])
def test_an_option_that_stands_twice_is_named(option):
    key = re.match("[a-z]+", option)[0]
    with pytest.raises(ValueError, match=f"Option '{key}' occurs twice"):
        MixnetDecoder.decode([f"{PLAIN}_{option}"])


@pytest.mark.parametrize("option", ["x3", "SW", "skip", "", "-", "k3,5", " sw", "id", "3"])
def test_an_unknown_option_is_named_beside_the_known_ones(option):
    with pytest.raises(ValueError, match=re.escape(f"Unknown option {option!r} in block string")) as error:
        MixnetDecoder.decode([f"{PLAIN}_{option}"])
    assert all(f"'{known}'" in str(error.value) for known in OPTIONS)


@pytest.mark.parametrize("strings", [PLAIN, [None], [b"r1"], [("r1", "k3")]])
def test_what_is_not_a_list_of_strings_is_refused(strings):
    with pytest.raises(ValueError, match="block string"):
        MixnetDecoder.decode(strings)


def test_each_option_becomes_its_own_field():
    assert MixnetDecoder.decode(["r2_k3.5.11_a1.3_p5_s23_e6_i8_o17_se0.25_noskip_sw_dilated"]) == [
        BlockArgs(
            dw_ksize=(3, 5, 11),
            expand_ksize=(1, 3),
            project_ksize=(5,),
            num_repeat=2,
            input_filters=8,
            output_filters=17,
            expand_ratio=6,
            id_skip=False,
            strides=(2, 3),
            se_ratio=0.25,
            swish=True,
            dilated=True,
        )
    ]


def test_the_words_that_are_absent_mean_skip_relu_not_dilated_and_no_se():
    [block] = MixnetDecoder.decode([PLAIN])
    assert (block.id_skip, block.swish, block.dilated, block.se_ratio) == (True, False, False, None)


def test_the_order_of_options_does_not_matter():
    backwards = "_".join(reversed(f"{PLAIN}_se0.5_sw".split("_")))
    assert MixnetDecoder.decode([backwards]) == MixnetDecoder.decode([f"{PLAIN}_se0.5_sw"])


@pytest.mark.parametrize(
    "ratio, kept", [("0", None), ("0.0", None), ("0.05", 0.05), ("1", 1.0), ("1e-05", 1e-05), ("1.01", None)]
)
def test_squeeze_and_excitation_counts_for_ratios_above_0_up_to_1(ratio, kept):
    [block] = MixnetDecoder.decode([f"{PLAIN}_se{ratio}"])
    assert block.se_ratio == kept


@pytest.mark.parametrize("model_name", VARIANTS)
def test_the_released_strings_survive_decode_and_encode(model_name):
    strings, _ = VARIANTS[model_name]
    assert MixnetDecoder.encode(MixnetDecoder.decode(strings)) == list(strings)


def test_a_ratio_survives_encode_to_the_last_digit():
    [block] = MixnetDecoder.decode([f"{PLAIN}_se0.123456789"])
    assert MixnetDecoder.decode(MixnetDecoder.encode([block])) == [block]


@pytest.mark.parametrize("ratio", [1e-5, 1.5e-7, 1e-100, 0.0001, 0.3, 1.0])
def test_a_ratio_of_any_size_survives_encode(ratio):
    [block] = MixnetDecoder.decode([PLAIN])
    block = block._replace(se_ratio=ratio)
    assert MixnetDecoder.decode(MixnetDecoder.encode([block])) == [block]


# Filters, multiplier, divisor, minimum, and what the rule gives, worked out by hand.
ROUNDED = [
    (16, None, 8, None, 16),
    (17, 0, 8, None, 17),  # 0 is None in the reference: nothing is rounded
    (24, 1.3, 8, None, 32),  # 31.2
    (32, 1.3, 8, None, 40),  # 41.6
    (40, 1.3, 8, None, 56),  # 52.0, halves go up
    (120, 1.3, 8, None, 160),  # 156
    (200, 1.3, 8, None, 264),  # 260
    (11, 1.0, 8, None, 16),  # 8 would be below 90% of 11
    (80, 0.13, 1, None, 10),  # 10.4
    (16, 0.13, 1, None, 2),  # 2.08
    (1, 0.1, 1, None, 1),  # at least the divisor
    (8, 0.5, 8, 0, 8),  # a minimum of 0 is None too
    (8, 1.0, 8, 24, 24),
    (40, 1.0, 8, 24, 40),
    (10, 1.0, 4, None, 12),  # 10 + 2 is a multiple of 4
]


@pytest.mark.parametrize("filters, multiplier, divisor, minimum, expected", ROUNDED)
def test_filters_round_to_the_divisor_and_never_lose_a_tenth(filters, multiplier, divisor, minimum, expected):
    params = GlobalParams(depth_multiplier=multiplier, depth_divisor=divisor, min_depth=minimum)
    assert round_filters(filters, params) == expected


def test_the_table_of_rounding_has_every_branch():
    assert {row[1] for row in ROUNDED} >= {None, 0}
    assert {row[3] for row in ROUNDED} >= {None, 0, 24}
    below_a_tenth = [f for f, m, d, _, new in ROUNDED if m and new - d == int(f * m + d / 2) // d * d]
    assert below_a_tenth


def test_a_repeat_takes_the_rounded_output_and_stride_1():
    [stage] = MixnetDecoder.decode(["r3_k3_a1_p1_s22_e6_i24_o40_se0.5"])
    first, second, third = unroll([stage], GlobalParams(depth_multiplier=1.3))
    assert (first.input_filters, first.output_filters, first.strides) == (32, 56, (2, 2))
    assert second == third
    assert (second.input_filters, second.output_filters, second.strides) == (56, 56, (1, 1))
    assert {block.num_repeat for block in (first, second, third)} == {1}


def test_the_expanded_width_is_the_rounded_input_times_the_ratio_not_rounded_again():
    [stage] = MixnetDecoder.decode(["r1_k3_a1_p1_s11_e3_i12_o12"])
    [block] = unroll([stage], GlobalParams(depth_multiplier=1.0, depth_divisor=4))
    assert block.expanded_filters == 36


@pytest.mark.parametrize("filters, ratio, width", [(40, 0.5, 20), (5, 0.5, 2), (1, 0.25, 1), (80, 0.25, 20)])
def test_the_se_width_counts_from_the_input_filters_and_is_at_least_1(filters, ratio, width):
    [block] = MixnetDecoder.decode([f"r1_k3_a1_p1_s11_e6_i{filters}_o{filters}_se{ratio}"])
    assert block.se_filters == width


@pytest.mark.parametrize(
    "text, residual",
    [
        ("r1_k3_a1_p1_s11_e6_i8_o8", True),
        ("r1_k3_a1_p1_s11_e6_i8_o8_noskip", False),
        ("r1_k3_a1_p1_s22_e6_i8_o8", False),
        ("r1_k3_a1_p1_s11_e6_i8_o9", False),
    ],
)
def test_the_input_is_added_at_stride_1_with_equal_filters_unless_noskip(text, residual):
    [block] = MixnetDecoder.decode([text])
    assert block.has_residual is residual


@pytest.mark.parametrize(
    "channels, groups, sizes",
    [(12, 1, [12]), (12, 3, [4, 4, 4]), (13, 3, [5, 4, 4]), (5, 4, [2, 1, 1, 1]), (4, 4, [1, 1, 1, 1])],
)
def test_the_remainder_of_a_channel_split_goes_to_group_0(channels, groups, sizes):
    assert split_channels(channels, groups) == sizes


@pytest.mark.parametrize(
    "channels, groups, sizes",
    [(32, 4, [16, 8, 4, 4]), (32, 1, [32]), (32, 6, [16, 8, 4, 2, 1, 1]), (13, 3, [6, 3, 4])],
)
def test_an_exponential_split_halves_from_group_to_group(channels, groups, sizes):
    assert split_channels(channels, groups, "exponential") == sizes
    layer = MixConv(list(range(3, 2 * groups + 2, 2)), partition="exponential")
    layer.build((None, 8, 8, channels))
    assert [kernel.shape[2] for kernel in layer.kernels] == sizes


def test_a_group_without_a_channel_is_an_error():
    with pytest.raises(
        ValueError, match=r"16 channels cannot be split into 6 groups \(exponential\): \[8, 4, 2, 1, 0, 1\]"
    ):
        split_channels(16, 6, "exponential")


def test_more_groups_than_channels_is_an_error():
    with pytest.raises(ValueError, match="2 channels cannot be split into 3 groups"):
        split_channels(2, 3)
