"""The forms in which a training step computes layers: the same function of the same variables, at another cost."""

from typing import Annotated, NamedTuple

import keras

from mixnet_tf.networks.batch_norm import BatchNormalization
from mixnet_tf.networks.layers import GroupedConv2D, MixConv
from mixnet_tf.networks.operations import steps
from mixnet_tf.settings import Setting, check, documented

SPLIT = "split"
DENSE, EXPLICIT, FUSED, ONE_PASS = "dense", "explicit", "fused", "one_pass"
POINTWISE_FORM = Setting(
    "How a GroupedConv2D computes its channel groups in training. split: a convolution for each; dense: one "
    "convolution, with zeros between the groups. By default dense on a TPU, and on a CPU without --jit_compile; else "
    "split.",
    choices=(SPLIT, DENSE),
)
DEPTHWISE_FORM = Setting(
    "How a MixConv computes its channel groups in training. split: a depthwise convolution for each; explicit: these, "
    "with explicit padding in the gradients of the kernels, which TensorFlow computes faster on a CPU; dense: grouped "
    "convolutions of eight channels to eight, with zeros between the channels, which take XLA or a GPU. By default "
    "dense on a TPU, explicit on a CPU without --jit_compile, else split.",
    choices=(SPLIT, EXPLICIT, DENSE),
)
BATCH_NORM_FORM = Setting(
    "How batch normalization computes its moments in training. fused: by TensorFlow's fused op; one_pass: as means of "
    "values and of squares, minus the moving mean. By default one_pass on a TPU, else fused.",
    choices=(FUSED, ONE_PASS),
)


@documented
class Forms(NamedTuple):
    """The form of each kind of layer in training; only rounding and cost depend on it."""

    pointwise_form: Annotated[str, POINTWISE_FORM] = SPLIT
    depthwise_form: Annotated[str, DEPTHWISE_FORM] = SPLIT
    batch_norm_form: Annotated[str, BATCH_NORM_FORM] = FUSED


TPU_FORMS = Forms(DENSE, DENSE, ONE_PASS)  # docs/PERFORMANCE.md has the cycles of each
CPU_FORMS = Forms(DENSE, EXPLICIT, FUSED)  # docs/PERFORMANCE.md has the seconds


def set_forms(model: keras.Model, forms: Forms) -> None:
    """Sets the forms in which a model's layers compute, until it is traced. They are not saved with the model.

    Args:
        model: A `keras.Model`.
        forms: The `Forms`.

    Raises:
        ValueError: If there is no such form.

    Example:
        >>> import mixnet_tf
        >>> from mixnet_tf.networks import TPU_FORMS, set_forms
        >>> model = mixnet_tf.build_model("mixnet-s", classes=10, input_shape=(48, 48, 3))
        >>> set_forms(model, TPU_FORMS)
        >>> model.get_layer("block_2_expand_conv").dense
        True
    """
    check(forms)
    for step in steps(model):
        if isinstance(step, GroupedConv2D):
            step.dense = forms.pointwise_form == DENSE
        elif isinstance(step, MixConv):
            step.dense, step.explicit = forms.depthwise_form == DENSE, forms.depthwise_form == EXPLICIT
        elif isinstance(step, BatchNormalization):
            step.one_pass = forms.batch_norm_form == ONE_PASS
