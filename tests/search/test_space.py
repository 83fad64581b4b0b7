"""Search spaces: the networks of block strings with alternatives, from a choice to a network and back."""

import math

import numpy as np
import pytest

import mixnet_tf
from mixnet_tf.networks import VARIANTS, MixnetDecoder, get_model_params, repeats
from mixnet_tf.search import Alternatives, SearchSpace

_TWO = [
    "r1_k3|3.5_a1_p1_s22_e1_i16_o16",
    "r1|2_k3|3.5|3.5.7|3.5.7.9|3.5.7.9.11_a1|1.1_p1|1.1_s11_e3|6_i16_o16_se0|0.25|0.5_sw",
]


def test_alternatives_are_read_in_the_order_they_are_written_in():
    space = SearchSpace.decode(_TWO)
    assert [(each.stage, each.field, len(each.values)) for each in space.alternatives] == [
        (0, "dw_ksize", 2),
        (1, "num_repeat", 2),
        (1, "dw_ksize", 5),
        (1, "expand_ksize", 2),
        (1, "project_ksize", 2),
        (1, "expand_ratio", 2),
        (1, "se_ratio", 3),
    ]
    assert space.alternatives[-1] == Alternatives(1, "se_ratio", (None, 0.25, 0.5))
    assert space.size == 2 * 2 * 5 * 2 * 2 * 2 * 3
    assert space.network((0,) * 7) == [
        "r1_k3_a1_p1_s22_e1_i16_o16",
        "r1_k3_a1_p1_s11_e3_i16_o16_sw",
    ]
    assert space.network((1, 1, 4, 1, 0, 1, 2)) == [
        "r1_k3.5_a1_p1_s22_e1_i16_o16",
        "r2_k3.5.7.9.11_a1.1_p1_s11_e6_i16_o16_se0.5_sw",
    ]


def test_every_choice_of_a_small_space_is_another_network_and_comes_back():
    space = SearchSpace.decode(["r1|2_k3|5_a1_p1|1.1_s11_e3|6_i8_o8_se0|0.5"])
    choices = list(np.ndindex(*(len(each.values) for each in space.alternatives)))
    networks = [tuple(space.network(choice)) for choice in choices]
    assert len(set(networks)) == len(choices) == space.size
    assert [space.choice(network) for network in networks] == choices


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_released_network_is_in_the_space_around_it(name):
    space = SearchSpace.around(name)
    stages, params = mixnet_tf.networks.get_model_params(name)
    if name == "mixnet-xl":  # whose repeats the space varies
        counts = repeats(stages, params.repeat_multiplier)
        stages = [stage._replace(num_repeat=count) for stage, count in zip(stages, counts, strict=True)]
        params = params._replace(repeat_multiplier=None)
    own = MixnetDecoder.encode(stages)
    assert space.network(space.choice(own)) == own and space.global_params == params
    random = np.random.RandomState(0)
    for _ in range(20):
        choice = tuple(random.randint(len(each.values)) for each in space.alternatives)
        assert space.choice(space.network(choice)) == choice
    assert space.size == math.prod(len(each.values) for each in space.alternatives) > 10**9


def test_a_choice_builds_and_its_content_is_a_network_file(tmp_path):
    import json

    space = SearchSpace.decode(_TWO, {"feature_size": 24})
    path = tmp_path / "found.json"
    path.write_text(json.dumps(space.network_content((1, 1, 2, 1, 1, 0, 1))))
    model = mixnet_tf.build_model(str(path), classes=3, input_shape=(32, 32, 3))
    assert model.get_layer("head_conv").filters == 24
    assert len([layer for layer in model.layers if layer.name.endswith("_mixconv")]) == 3


@pytest.mark.parametrize(
    "strings, message",
    [
        ([], "at least one block string"),
        ("r1_k3", "at least one block string"),
        ([3], "A block string is a str"),
        (["r1_k3|4_a1_p1_s11_e3_i8_o8"], "Option 'k4' in block string"),
        (["r1_k3|_a1_p1_s11_e3_i8_o8"], "Option 'k' in block string"),
        (["r1_k3_a1_p1_s11_e3_i8|16_o8"], "Option 'i8|16' .*: only .* may have alternatives"),
        (["r1_k3_a1_p1_s11|22_e3_i8_o8"], "Option 's11|22' .*: only .* may have alternatives"),
        (["r1_k3|5_a1_p1_s11_e3_i8_o8_x1"], "Unknown option 'x1'"),
        (["r1_k3_a1_p1_s11_e3_i8_o8_se0|0.0"], "Option 'se0|0.0' .*: the same alternative occurs twice"),
        (["r1_k3|3_a1_p1_s11_e3_i8_o8"], "Option 'k3|3' .*: the same alternative occurs twice"),
        (["r1_k1|3_a1_p1_s22_e3_i8_o8"], "a 1x1 depthwise kernel with a stride"),
        (["r1_k1_a1_p1_s22_e3_i8_o8"], "a 1x1 depthwise kernel with a stride"),
        (["r1_k3_a1_p1_s11_e1|6_i8_o8"], "expansion 1 has no expansion"),
        (["r1_k3_a1|1.1_p1_s11_e1_i8_o8"], "with expansion 1 there is no convolution"),
        (["r1_k3|3.5.7_a1_p1_s11_e1_i2_o2"], "Stage 'r1_k3.5.7_a1_p1_s11_e1_i2_o2': 2 channels cannot be split"),
        (["r1_k3_a1_p1|1.1_s11_e3_i4_o1"], "1 channels cannot be split into 2 groups"),
        (["r1_k3_a1_p1_s11_e3_i8_o8", "r1_k3_a1_p1_s11_e3_i16_o8"], "block_1 declares 16 input filters"),
    ],
)
def test_a_malformed_space_is_one_line_that_names_what_is_wrong(strings, message):
    with pytest.raises(ValueError, match=message) as caught:
        SearchSpace.decode(strings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "ask, message",
    [
        (lambda space: space.network((0, 0)), r"has 7 places below \[2, 2, 5, 2, 2, 2, 3\]; received \(0, 0\)"),
        (lambda space: space.network((2, 0, 0, 0, 0, 0, 0)), "has 7 places below"),
        (lambda space: space.network((-1, 0, 0, 0, 0, 0, 0)), "has 7 places below"),
        (lambda space: space.choice(["r1_k3_a1_p1_s22_e1_i16_o16"]), "has 2 block strings; received 1"),
        (
            lambda space: space.choice(["r1_k7_a1_p1_s22_e1_i16_o16", "r1_k3_a1_p1_s11_e3_i16_o16_sw"]),
            r"'r1_k7_a1_p1_s22_e1_i16_o16' is not in the space: dw_ksize is one of \[\(3,\), \(3, 5\)\]",
        ),
        (
            lambda space: space.choice(["r1_k3_a1_p1_s22_e1_i16_o16", "r1_k3_a1_p1_s11_e3_i16_o16"]),
            "the nearest there is 'r1_k3_a1_p1_s11_e3_i16_o16_sw'",
        ),
    ],
)
def test_what_is_not_in_the_space_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(SearchSpace.decode(_TWO))


def test_the_network_most_like_mixnet_s_is_itself_around_it_and_the_nearest_elsewhere():
    around = SearchSpace.around("mixnet-s")
    assert around.network(around.like("mixnet-s")) == MixnetDecoder.encode(get_model_params("mixnet-s")[0])
    space = SearchSpace.decode(
        ["r1_k3|5|3.5_a1_p1_s22_e1_i8_o8", "r1|2_k3|3.5.7|5.7.9.11_a1|1.1_p1_s22_e3|6_i8_o8_se0|0.25_sw"]
    )  # of MixNet-S: k3 without squeeze-and-excitation, and k3.5.7.9 a1 e6 se0.5
    assert space.network(space.like("mixnet-s")) == [
        "r1_k3_a1_p1_s22_e1_i8_o8",
        "r2_k3.5.7_a1_p1_s22_e6_i8_o8_se0.25_sw",
    ]
