"""The released networks, MixNet-S, M and L, as block strings and parameters."""

import math
from collections.abc import Mapping
from typing import Any

from mixnet_tf.errors import InputError, is_count
from mixnet_tf.networks.block_strings import BlockArgs, GlobalParams, MixnetDecoder

_MIXNET_S = (
    "r1_k3_a1_p1_s11_e1_i16_o16",
    "r1_k3_a1.1_p1.1_s22_e6_i16_o24",
    "r1_k3_a1.1_p1.1_s11_e3_i24_o24",
    "r1_k3.5.7_a1_p1_s22_e6_i24_o40_se0.5_sw",
    "r3_k3.5_a1.1_p1.1_s11_e6_i40_o40_se0.5_sw",
    "r1_k3.5.7_a1_p1.1_s22_e6_i40_o80_se0.25_sw",
    "r2_k3.5_a1_p1.1_s11_e6_i80_o80_se0.25_sw",
    "r1_k3.5.7_a1.1_p1.1_s11_e6_i80_o120_se0.5_sw",
    "r2_k3.5.7.9_a1.1_p1.1_s11_e3_i120_o120_se0.5_sw",
    "r1_k3.5.7.9.11_a1_p1_s22_e6_i120_o200_se0.5_sw",
    "r2_k3.5.7.9_a1_p1.1_s11_e6_i200_o200_se0.5_sw",
)
_MIXNET_M = (
    "r1_k3_a1_p1_s11_e1_i24_o24",
    "r1_k3.5.7_a1.1_p1.1_s22_e6_i24_o32",
    "r1_k3_a1.1_p1.1_s11_e3_i32_o32",
    "r1_k3.5.7.9_a1_p1_s22_e6_i32_o40_se0.5_sw",
    "r3_k3.5_a1.1_p1.1_s11_e6_i40_o40_se0.5_sw",
    "r1_k3.5.7_a1_p1_s22_e6_i40_o80_se0.25_sw",
    "r3_k3.5.7.9_a1.1_p1.1_s11_e6_i80_o80_se0.25_sw",
    "r1_k3_a1_p1_s11_e6_i80_o120_se0.5_sw",
    "r3_k3.5.7.9_a1.1_p1.1_s11_e3_i120_o120_se0.5_sw",
    "r1_k3.5.7.9_a1_p1_s22_e6_i120_o200_se0.5_sw",
    "r3_k3.5.7.9_a1_p1.1_s11_e6_i200_o200_se0.5_sw",
)
_PARAMS_S = GlobalParams(stem_size=16, dropout_rate=0.2)
_PARAMS_M = GlobalParams(stem_size=24, dropout_rate=0.25)

# Source: mixnet/mixnet_builder.py:mixnet_s, mixnet_m, mixnet_l.
VARIANTS = {
    "mixnet-s": (_MIXNET_S, _PARAMS_S),
    "mixnet-m": (_MIXNET_M, _PARAMS_M),
    "mixnet-l": (_MIXNET_M, _PARAMS_M._replace(depth_multiplier=1.3)),
}

# What an override may be: a test, and its description for the error message.
_ALLOWED = {
    "batch_norm_momentum": (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "batch_norm_epsilon": (lambda v: _is_number(v) and v > 0, "a number above 0"),
    "dropout_rate": (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1"),
    "num_classes": (is_count, "a whole number from 1"),
    "depth_multiplier": (lambda v: v is None or (_is_number(v) and v >= 0), "None or a number from 0"),
    "depth_divisor": (is_count, "a whole number from 1"),
    "min_depth": (lambda v: v is None or v == 0 or is_count(v), "None or a whole number from 0"),
    "stem_size": (is_count, "a whole number from 1"),
    "feature_size": (is_count, "a whole number from 1"),
    "activation": (lambda v: isinstance(v, str), "the name of a Keras activation"),
}


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def override_global_params(global_params: GlobalParams, override_params: Mapping[str, Any] | None) -> GlobalParams:
    """`global_params` with the fields of the dict `override_params` replaced; None: unchanged.

    Raises:
        ValueError: For an unknown field or a value out of its range.
    """
    if override_params is not None and not isinstance(override_params, Mapping):
        raise InputError(f"override_params: expected a dict of fields of GlobalParams, received {override_params!r}.")
    overrides = dict(override_params or {})
    unknown = sorted(set(overrides) - set(GlobalParams._fields))
    if unknown:
        raise InputError(f"Unknown override_params {unknown}; allowed are {list(GlobalParams._fields)}.")
    for field, value in overrides.items():
        accepts, expected = _ALLOWED[field]
        if not accepts(value):
            raise InputError(f"override_params[{field!r}]: expected {expected}, received {value!r}.")
    return global_params._replace(**overrides)


def get_model_params(
    model_name: str, override_params: Mapping[str, Any] | None = None
) -> tuple[list[BlockArgs], GlobalParams]:
    """The stages and parameters of a released network.

    Args:
        model_name: "mixnet-s", "mixnet-m" or "mixnet-l".
        override_params: Dict of `GlobalParams` fields to replace. A depth multiplier replaces
            MixNet-L's 1.3.

    Returns:
        (list of `BlockArgs`, `GlobalParams`).

    Raises:
        ValueError: For an unknown model or field, or a value out of its range.

    Source: mixnet/mixnet_builder.py:get_model_params.
    """
    if model_name not in VARIANTS:
        raise InputError(f"Unknown model {model_name!r}; expected one of {list(VARIANTS)}.")
    block_strings, global_params = VARIANTS[model_name]
    return MixnetDecoder.decode(block_strings), override_global_params(global_params, override_params)
