"""Times large depthwise kernels in LiteRT: whole, as dilation-2 quarters, and as the tiles that the export chooses.

python benchmarks/bench_depthwise.py
"""

import itertools

import numpy as np
import tensorflow as tf
from absl import app, flags

from mixnet_tf.export import runtime
from mixnet_tf.export.convert import convert_function
from mixnet_tf.export.kernels import cheapest_rectangles, cheapest_tiles, depthwise_conv2d

_RUNS = flags.DEFINE_integer("runs", 100, "Invocations of each graph.", lower_bound=1)
# (height and width, channels of the group, stride): MixNet's at 224 px.
_SHAPES = ((28, 96, 1), (14, 240, 1), (7, 300, 1), (28, 80, 2), (14, 144, 2))


def _quarters(maps, kernel, stride, bias):
    """The kernel as four kernels of every other row and column, with dilation 2,."""
    quarters = (kernel[row::2, column::2] for row, column in itertools.product((0, 1), repeat=2))
    # TensorFlow's own function refuses a stride and a dilation at once; LiteRT computes them.
    return sum(
        tf.raw_ops.DepthwiseConv2dNative(
            input=maps, filter=taps, strides=(1, stride, stride, 1), padding="SAME", dilations=(1, 2, 2, 1)
        )
        + bias
        for taps in quarters
    )


def _content(form, kernel_size, size, channels, stride):
    kernel = np.random.default_rng(0).normal(size=(kernel_size, kernel_size, channels, 1)).astype(np.float32)
    bias = np.ones(channels, np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, size, size, channels))], autograph=False)
    def convolve(maps):
        if form == "quarters":
            return _quarters(maps, kernel, stride, bias)
        return depthwise_conv2d(maps, kernel, stride, 1, bias, "float32" if form == "chosen" else None)

    return convert_function(convolve)


def _number(kernel_size, stride):
    return len(cheapest_tiles(kernel_size) if stride == 1 else cheapest_rectangles(kernel_size))


def main(_):
    """Prints a line for each shape and kernel."""
    print(f"{runtime.RUNTIME}, 1 thread, median of {_RUNS.value}; {runtime.machine()}; microseconds")
    print("maps        stride  kernel  whole  quarters  chosen (tiles)")
    for size, channels, stride in _SHAPES:
        for kernel in (3, 5, 7, 9, 11):
            forms = ["whole"]
            if kernel > 5:
                forms += ["quarters", "chosen"] if kernel < 11 else ["chosen"]  # a quarter of 11x11 has 36 taps
            contents = {form: _content(form, kernel, size, channels, stride) for form in forms}
            medians = runtime.latencies(contents, 1, _RUNS.value)
            shown = [f"{1e3 * medians[name]:8.0f}" if name in medians else "       -" for name in ("whole", "quarters")]
            chosen = f"{1e3 * medians['chosen']:6.0f} ({_number(kernel, stride)})" if "chosen" in medians else "     -"
            print(f"{size}x{size}x{channels:<4}  {stride:>6}  {kernel:>6}  {'  '.join(shown)}  {chosen}", flush=True)


if __name__ == "__main__":
    app.run(main)
