"""The rewritings that make a graph fast, which depend on the arithmetic of its ops (float32 or int8).

All of them are exact in real numbers. They are made for XNNPACK, which runs the ops on phones and on this machine.
"""

from typing import NamedTuple


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
    """

    costs_of_taps: dict[int, float]
    pads_outputs: bool
    swish_by_tanh: bool


ARITHMETICS = {
    # Costs: benchmarks/bench_depthwise.py.
    "float32": Arithmetic({4: 0.55, 9: 1.0, 25: 2.8}, pads_outputs=True, swish_by_tanh=True),
    # Costs: instructions on ARM64, where additions requantize and make many small tiles expensive; x86 gains, too.
    # XNNPACK looks x sigmoid(x) up in a table.
    "int8": Arithmetic({4: 0.67, 9: 1.0, 25: 1.85}, pads_outputs=False, swish_by_tanh=False),
}
# The arithmetic of each format. fp16 has only weights in half precision, dynamic only weights in 8 bits.
ARITHMETIC_OF = {"fp32": "float32", "fp16": "float32", "dynamic": "float32", "int8": "int8", "int8_full": "int8"}
