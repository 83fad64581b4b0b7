"""The rewritings that make a graph fast, which depend on the accelerator and on the arithmetic of its ops.

All of them are exact in real numbers. Those of "float32" and "int8" are made for XNNPACK, which runs the ops on the CPU
of phones and of this machine.
"""

from typing import NamedTuple

DEPTHWISE, POINTWISE = "depthwise", "pointwise"
BY_ROWS, BY_CONVOLUTION = "rows", "convolution"
CPU, GPU, NPU = ACCELERATORS = "cpu", "gpu", "npu"


class Arithmetic(NamedTuple):
    """The rewritings for one arithmetic.

    Attributes:
        costs_of_taps: Dict from a number of taps to the cost of a depthwise convolution with up to this many taps,
            relative to 9 taps; includes the addition to the other tiles. XNNPACK has micro-kernels for 3, 4, 9 and 25
            taps; larger kernels run as grouped convolutions, about ten times slower per tap. `kernels.cheapest_tiles`
            minimizes the sum.
        pads_outputs: Whether the outputs of 1x1 convolutions are padded with zeros to a multiple of 8. On ARM64,
            XNNPACK computes 8 outputs of a pixel at once, and falls back to 2 for the rest.
        swish_by_tanh: Whether x sigmoid(x) is computed as h (1 + tanh(h)) with h = x / 2, in fewer instructions.
        splits: Whether depthwise kernels of more than 25 taps may be split into tiles.
        merges: The layers whose channel groups become one convolution with zeros, `DEPTHWISE` and `POINTWISE` ones.
        normalization: How images are normalized. `BY_ROWS`: the mean is subtracted from a row of pixels at once, as
            XNNPACK subtracts three channels pixel by pixel, and the stem's kernel has the scale.
            `BY_CONVOLUTION`: a depthwise convolution with one tap. None: as written, by a subtraction and a product.
    """

    costs_of_taps: dict[int, float]
    pads_outputs: bool
    swish_by_tanh: bool
    splits: bool = True
    merges: tuple[str, ...] = ()
    normalization: str | None = BY_ROWS


ARITHMETICS = {
    # Costs: benchmarks/bench_depthwise.py.
    "float32": Arithmetic({4: 0.55, 9: 1.0, 25: 2.8}, pads_outputs=True, swish_by_tanh=True),
    # For ARM64 alone; padding the outputs would take 0.6% more of its instructions.
    "float16": Arithmetic({4: 0.67, 9: 1.0, 25: 1.85}, pads_outputs=False, swish_by_tanh=True),
    # Costs: instructions on ARM64, where additions requantize and make many small tiles expensive; x86 gains, too.
    # XNNPACK looks x sigmoid(x) up in a table.
    "int8": Arithmetic({4: 0.67, 9: 1.0, 25: 1.85}, pads_outputs=False, swish_by_tanh=False),
    # An accelerator takes time for each op, and for the activations between ops: tiles, and groups with the slices and
    # concatenations around them, cost more than the zeros of one convolution. Counts: docs/PERFORMANCE.md.
    "gpu": Arithmetic(
        {}, pads_outputs=False, swish_by_tanh=False, splits=False, merges=(DEPTHWISE, POINTWISE), normalization=None
    ),
    # Qualcomm's compiler refuses tiles of stride 2, which are dilated; large depthwise kernels are stored larger there.
    "npu": Arithmetic(
        {}, pads_outputs=False, swish_by_tanh=False, splits=False, merges=(POINTWISE,), normalization=BY_CONVOLUTION
    ),
}
# The arithmetic of each format on a CPU. Of fp16_weights only the weights are in half precision, of dynamic in 8 bits.
_OF_FORMAT = {
    "fp32": "float32",
    "fp16": "float16",
    "fp16_weights": "float32",
    "dynamic": "float32",
    "int8": "int8",
    "int8_full": "int8",
}


def arithmetic_of(format_name: str, accelerator: str = CPU) -> str:
    """The name of the arithmetic by which a graph is rewritten for a format and an accelerator."""
    return _OF_FORMAT[format_name] if accelerator == CPU else accelerator
