"""Which rewritings make a graph fast, by the arithmetic that its ops compute in.

All are exact in real numbers. XNNPACK, which runs the ops on phones and here, is what they are made for.
"""

from typing import NamedTuple


class Arithmetic(NamedTuple):
    """The rewritings for an arithmetic.

    Attributes:
        costs_of_taps: Dict from a number of taps to the cost of a depthwise convolution of up to so many, relative to 9
            taps, the addition to the others included. XNNPACK has micro-kernels of 3, 4, 9 and 25 taps; anything larger
            runs as a grouped convolution, some ten times slower per tap. `kernels.cheapest_tiles` minimizes them.
        pads_outputs: Whether 1x1 convolutions get outputs of zeros up to the next multiple of 8, as many as XNNPACK
            computes of a pixel at once on ARM64 before it falls back to 2.
        swish_by_tanh: Whether x sigmoid(x) is computed as h (1 + tanh(h)) with h = x / 2, in fewer instructions.
    """

    costs_of_taps: dict[int, float]
    pads_outputs: bool
    swish_by_tanh: bool


ARITHMETICS = {
    # Costs: benchmarks/bench_depthwise.py.
    "float32": Arithmetic({4: 0.55, 9: 1.0, 25: 2.8}, pads_outputs=True, swish_by_tanh=True),
    # Costs: instructions on ARM64, as additions that requantize make many small tiles dear; x86 gains as well. XNNPACK
    # looks x sigmoid(x) up in a table.
    "int8": Arithmetic({4: 0.67, 9: 1.0, 25: 1.85}, pads_outputs=False, swish_by_tanh=False),
}
# The arithmetic of a format's ops; weights alone are of half precision in fp16 and of 8 bits in dynamic.
ARITHMETIC_OF = {"fp32": "float32", "fp16": "float32", "dynamic": "float32", "int8": "int8", "int8_full": "int8"}
