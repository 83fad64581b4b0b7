"""The block strings and parameters of the named networks: MixNet-S, M, L and XL, MobileNetV1 and V2."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath
from mixnet_tf.networks.block_strings import SYMMETRIC, BlockArgs, GlobalParams, MixnetDecoder
from mixnet_tf.networks.network_files import is_network_file, read_network
from mixnet_tf.settings import fields

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
_MOBILENET_V1 = (
    "r1_k3_a1_p1_s11_e1_i32_o64_noskip",
    "r1_k3_a1_p1_s22_e1_i64_o128_noskip",
    "r1_k3_a1_p1_s11_e1_i128_o128_noskip",
    "r1_k3_a1_p1_s22_e1_i128_o256_noskip",
    "r1_k3_a1_p1_s11_e1_i256_o256_noskip",
    "r1_k3_a1_p1_s22_e1_i256_o512_noskip",
    "r5_k3_a1_p1_s11_e1_i512_o512_noskip",
    "r1_k3_a1_p1_s22_e1_i512_o1024_noskip",
    "r1_k3_a1_p1_s11_e1_i1024_o1024_noskip",
)
_MOBILENET_V2 = (
    "r1_k3_a1_p1_s11_e1_i32_o16",
    "r2_k3_a1_p1_s22_e6_i16_o24",
    "r3_k3_a1_p1_s22_e6_i24_o32",
    "r4_k3_a1_p1_s22_e6_i32_o64",
    "r3_k3_a1_p1_s11_e6_i64_o96",
    "r3_k3_a1_p1_s22_e6_i96_o160",
    "r1_k3_a1_p1_s11_e6_i160_o320",
)
_PARAMS_S = GlobalParams(stem_size=16, dropout_rate=0.2)
_PARAMS_M = GlobalParams(stem_size=24, dropout_rate=0.25)

_PARAMS_XL = _PARAMS_M._replace(
    depth_multiplier=1.6, repeat_multiplier=1.2, dropout_rate=0.3, padding=SYMMETRIC, batch_norm_epsilon=1e-5
)
_PARAMS_V1 = GlobalParams(
    stem_size=32, dropout_rate=1e-3, default_activation="relu6", project_activation="relu6", head=False
)
_PARAMS_V2 = GlobalParams(
    stem_size=32, batch_norm_momentum=0.999, dropout_rate=0.2, feature_size=1280, default_activation="relu6"
)

# Sources: mixnet/mixnet_builder.py:mixnet_s, mixnet_m, mixnet_l; timm 1.0.31, models/efficientnet.py:mixnet_xl, whose
# dropout is the one of its training command; tensorflow/models, research/slim/nets/mobilenet_v1.py
# and mobilenet/mobilenet_v2.py:V2_DEF; batch normalization's momentum and V1's dropout: keras.applications.
VARIANTS = {
    "mixnet-s": (_MIXNET_S, _PARAMS_S),
    "mixnet-m": (_MIXNET_M, _PARAMS_M),
    "mixnet-l": (_MIXNET_M, _PARAMS_M._replace(depth_multiplier=1.3)),
    "mixnet-xl": (_MIXNET_M, _PARAMS_XL),
    "mobilenet-v1": (_MOBILENET_V1, _PARAMS_V1),
    "mobilenet-v2": (_MOBILENET_V2, _PARAMS_V2),
}


def override_global_params(
    global_params: GlobalParams, override_params: Mapping[str, Any] | None, what: str = "override_params"
) -> GlobalParams:
    """Returns `global_params` with some fields replaced.

    Args:
        global_params: A `GlobalParams`.
        override_params: Values by field; None: none.
        what: Name of `override_params` in error messages.

    Raises:
        ValueError: If a field is unknown, or its value out of its range.
    """
    if override_params is not None and not isinstance(override_params, Mapping):
        raise InputError(f"{what}: expected a dict of fields of GlobalParams, received {override_params!r}.")
    overrides = dict(override_params or {})
    unknown = sorted(set(overrides) - set(GlobalParams._fields))
    if unknown:
        raise InputError(f"Unknown {what} {unknown}; allowed are {list(GlobalParams._fields)}.")
    settings = fields(GlobalParams)
    for field, value in overrides.items():
        allowed = settings[field]
        if not allowed.accepts(value):
            optional = "None or " if allowed.is_optional else ""
            raise InputError(f"{what}[{field!r}]: expected {optional}{allowed.expected}, received {value!r}.")
    plain = {field: value.item() if isinstance(value, np.generic) else value for field, value in overrides.items()}
    return global_params._replace(**plain)


def get_model_params(
    model_name: StrPath, override_params: Mapping[str, Any] | None = None
) -> tuple[list[BlockArgs], GlobalParams]:
    """The stages and parameters of a network.

    Args:
        model_name: One of `VARIANTS`, such as "mixnet-s", or the path of a network file, which ends in .json.
        override_params: Dict of `GlobalParams` fields to replace. A depth multiplier replaces
            MixNet-L's 1.3.

    Returns:
        (list of `BlockArgs`, `GlobalParams`).

    Raises:
        FileNotFoundError: If there is no such network file.
        ValueError: If the model or a field is unknown, a value is out of its range, or the file has no network.

    Source: mixnet/mixnet_builder.py:get_model_params.
    """
    if is_network_file(model_name):
        block_strings, params = read_network(model_name)
        try:
            stages = MixnetDecoder.decode(block_strings)
            defaults = GlobalParams(stem_size=stages[0].input_filters)
            global_params = override_global_params(defaults, params, "params")
        except InputError as error:
            raise InputError(f"{model_name}: {error}") from error
    elif model_name in VARIANTS:
        stages, global_params = MixnetDecoder.decode(VARIANTS[model_name][0]), VARIANTS[model_name][1]
    else:
        raise InputError(
            f"Unknown model {model_name!r}; expected one of {list(VARIANTS)}, or a network file that ends in .json."
        )
    return stages, override_global_params(global_params, override_params)
