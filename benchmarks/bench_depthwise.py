"""Times large depthwise kernels in LiteRT: whole, as dilation-2 quarters, and as the tiles that the export chooses.

python benchmarks/bench_depthwise.py
"""

import itertools

import numpy as np
import tensorflow as tf
from absl import app, flags

from mixnet_tf.export import runtime
from mixnet_tf.export.kernels import _depthwise, cheapest_tiles

_RUNS = flags.DEFINE_integer("runs", 100, "Invocations of each graph.", lower_bound=1)
# (height and width, channels of the group, stride): MixNet's at 224 px.
_SHAPES = ((28, 96, 1), (14, 240, 1), (7, 300, 1), (28, 80, 2), (14, 144, 2))


class _Tiles(tf.Module):
    """A depthwise convolution as a sum of tiles."""

    def __init__(self, tiles, channels, stride):
        super().__init__()
        self._stride, self._channels = stride, channels
        rng = np.random.default_rng(0)
        self._tiles = [
            (rng.normal(size=(len(rows), len(columns), channels, 1)).astype(np.float32), (_step(rows), _step(columns)))
            for rows, columns in tiles
        ]

    def __call__(self, maps):
        bias = np.ones(self._channels, np.float32)
        return sum(_depthwise(maps, kernel, self._stride, rates) + bias for kernel, rates in self._tiles)


def _step(comb):
    return comb[1] - comb[0] if len(comb) > 1 else 1


def _quarters(size):
    offsets = range(-(size // 2), size // 2 + 1)
    return list(itertools.product([tuple(offsets[i::2]) for i in (0, 1)], repeat=2))


def _content(tiles, size, channels, stride):
    function = tf.function(
        _Tiles(tiles, channels, stride), input_signature=[tf.TensorSpec((1, size, size, channels))], autograph=False
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    return converter.convert()


def main(_):
    """Prints a line for each shape and kernel."""
    print(f"{runtime.RUNTIME}, 1 thread, median of {_RUNS.value}; {runtime.machine()}; microseconds")
    print("maps        stride  kernel  whole  quarters  chosen (tiles)")
    for size, channels, stride in _SHAPES:
        for kernel in (3, 5, 7, 9, 11):
            offsets = tuple(range(-(kernel // 2), kernel // 2 + 1))
            forms = {"whole": [(offsets, offsets)]}
            if kernel > 5:
                if kernel < 11:  # a quarter of 11x11 has 36 taps
                    forms["quarters"] = _quarters(kernel)
                forms["chosen"] = cheapest_tiles(kernel, stride)
            contents = {name: _content(tiles, size, channels, stride) for name, tiles in forms.items()}
            medians = runtime.latencies(contents, 1, _RUNS.value)
            shown = [f"{1e3 * medians[name]:8.0f}" if name in medians else "       -" for name in ("whole", "quarters")]
            chosen = f"{1e3 * medians['chosen']:6.0f} ({len(forms['chosen'])})" if "chosen" in medians else "     -"
            print(f"{size}x{size}x{channels:<4}  {stride:>6}  {kernel:>6}  {'  '.join(shown)}  {chosen}", flush=True)


if __name__ == "__main__":
    app.run(main)
