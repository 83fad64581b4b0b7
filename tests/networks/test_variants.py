import math
import re

import pytest
import tiny

from mixnet_tf.networks.block_strings import GlobalParams
from mixnet_tf.networks.variants import VARIANTS, get_model_params
from mixnet_tf.networks.widths import round_filters, unroll

# (stem before rounding, dropout, depth multiplier); mixnet_builder.py.
PARAMS = {"mixnet-s": (16, 0.2, None), "mixnet-m": (24, 0.25, None), "mixnet-l": (24, 0.25, 1.3)}

# For each parameter, what it may not be.
REFUSED = {
    "batch_norm_momentum": [1, -0.1, "0.9", True, None],
    "batch_norm_epsilon": [0, -1e-3, None, math.nan],
    "dropout_rate": [1, -0.1, None, "0.2", math.nan],
    "num_classes": [0, -1, 10.0, None, True],
    "depth_multiplier": [-1, "1.3", True, math.nan, math.inf],
    "depth_divisor": [0, 8.0, None],
    "min_depth": [-8, 8.0, "8"],
    "stem_size": [0, 16.0, None],
    "feature_size": [0, -1, None, False],
    "activation": [None, 3],
    "default_activation": [None, 3],
    "project_activation": [3, True],
    "head": [None, 1],
    "partition": [None, "half", 3],
    "dilated": [None, 0],
    "padding": [None, "valid", 1],
    "repeat_multiplier": [0, -1, "1.2", math.inf],
    "drop_path": [1, -0.1, None, "0.2", math.nan],
}


def test_every_variant_has_pinned_parameters_and_a_golden_listing():
    assert set(VARIANTS) == {
        *PARAMS,
        "mixnet-xl",
        "mobilenet-v1",
        "mobilenet-v2",
    }  # these: test_padding.py, test_mobilenets.py
    assert {path.stem for path in (tiny.GOLDEN / "names").iterdir()} == set(PARAMS) == set(tiny.VARIANTS)


def test_every_parameter_has_values_that_are_refused():
    assert set(REFUSED) == set(GlobalParams._fields)


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_the_parameters_are_the_builders(model_name):
    _, params = get_model_params(model_name)
    stem, dropout, multiplier = PARAMS[model_name]
    assert params == GlobalParams(
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        dropout_rate=dropout,
        num_classes=1000,
        depth_multiplier=multiplier,
        depth_divisor=8,
        min_depth=None,
        stem_size=stem,
        feature_size=1536,
        activation="swish",
        default_activation="relu",
        project_activation=None,
        head=True,
        partition="equal",
        dilated=False,
    )


def reference_blocks(model_name):
    """The properties of each block, from the shapes of the reference's variables and endpoints."""
    listing = tiny.listing(model_name)
    shapes = {row["name"]: row["shape"] for row in listing["variables"]}
    ends = listing["endpoints"]
    rows = []
    for number in range(sum(bool(re.fullmatch(r"block_\d+", name)) for name in ends)):
        own = {name: shape for name, shape in shapes.items() if f"/blocks_{number}/" in name}
        convs = [shape for name, shape in own.items() if re.search(r"\d/conv2d(_\d+)?/kernel", name)]
        squeeze = [shape[3] for name, shape in own.items() if re.search(r"/se/conv2d(_\d+)?/kernel", name)]
        before = ends[f"block_{number - 1}" if number else "stem"]
        after, expanded = ends[f"block_{number}"], ends[f"block_{number}/expansion_output"]
        has_expand = sum("/gamma" in name for name in own) == 3
        rows.append(
            {
                "kernels": tuple(s[0] for name, s in own.items() if "depthwise_conv2d" in name),
                "convs": len(convs),
                "has_expand": has_expand,
                "filters": (before[3], expanded[3], after[3]),
                "stride": before[1] // after[1],
                "se": squeeze[0] if squeeze else None,
            }
        )
    return rows


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_every_block_has_the_kernels_groups_widths_and_stride_of_the_references(model_name):
    stages, params = get_model_params(model_name)
    ours = [
        {
            "kernels": block.dw_ksize,
            "convs": len(block.project_ksize) + (len(block.expand_ksize) if block.expand_ratio != 1 else 0),
            "has_expand": block.expand_ratio != 1,
            "filters": (block.input_filters, block.expanded_filters, block.output_filters),
            "stride": block.strides[0],
            "se": block.se_filters,
        }
        for block in unroll(stages, params)
    ]
    assert ours == reference_blocks(model_name)


def test_the_stem_of_l_is_scaled_and_its_head_is_not():
    _, params = get_model_params("mixnet-l")
    assert round_filters(params.stem_size, params) == 32
    assert params.feature_size == 1536


def test_a_depth_multiplier_replaces_the_one_of_l():
    _, params = get_model_params("mixnet-l", {"depth_multiplier": 0.5})
    assert params.depth_multiplier == 0.5


def test_an_override_changes_its_field_alone():
    _, before = get_model_params("mixnet-s")
    _, after = get_model_params("mixnet-s", {"num_classes": 3, "min_depth": None})
    assert after == before._replace(num_classes=3)


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"'mixnet-xs'.*\['mixnet-s', 'mixnet-m', 'mixnet-l', 'mixnet-xl', 'mobilenet-v1', 'mobilenet-v2'\]",
    ):
        get_model_params("mixnet-xs")


def test_an_unknown_override_lists_the_fields():
    with pytest.raises(ValueError, match=r"\['dropout'\]") as error:
        get_model_params("mixnet-s", {"dropout": 0.1})
    assert all(field in str(error.value) for field in GlobalParams._fields)


@pytest.mark.parametrize("field, value", [(field, value) for field, bad in REFUSED.items() for value in bad])
def test_a_value_out_of_range_is_named_with_what_is_allowed(field, value):
    with pytest.raises(ValueError, match=rf"override_params\['{field}'\]: expected .* received {value!r}"):
        get_model_params("mixnet-s", {field: value})
