"""Plots accuracy against multiply-adds of MixNet and its peers: benchmarks/plot_family.py --output=docs/family.png.

All figures are the papers' own; none was measured here. Needs matplotlib: pip install 'mixnet_tf[docs]'.
"""

import pathlib

import matplotlib.style
from absl import app, flags

from mixnet_tf.figures import new_figure, png

_OUTPUT = flags.DEFINE_string("output", "docs/family.png", "The PNG file to write.")

# Name: (millions of multiply-adds, ImageNet top-1 in percent), as published.
_MIXNET = {"MixNet-S": (256, 75.8), "MixNet-M": (360, 77.0), "MixNet-L": (565, 78.9)}  # arXiv:1907.09595
_PEERS = {
    "MobileNetV2": {"": (300, 72.0), "1.4x": (585, 74.7)},  # arXiv:1801.04381
    "MnasNet": {"A1": (312, 75.2), "A2": (340, 75.6)},  # arXiv:1807.11626
    "MobileNetV3-L": {"": (219, 75.2)},  # arXiv:1905.02244
    "EfficientNet-B0": {"": (390, 76.3)},  # arXiv:1905.11946, first version
}
_GREY, _BLUE = "#6b7280", "#1d4ed8"


def main(_):
    matplotlib.style.use(pathlib.Path(__file__).with_name("figures.mplstyle"))
    figure = new_figure(figsize=(6.4, 4.2), layout="tight")
    axes = figure.subplots()
    for family, points in _PEERS.items():
        axes.plot(*zip(*points.values(), strict=True), "o-", color=_GREY, markersize=4, linewidth=1)
        for name, (cost, accuracy) in points.items():
            _label(axes, f"{family} {name}".strip(), cost, accuracy, _GREY)
    axes.plot(*zip(*_MIXNET.values(), strict=True), "o-", color=_BLUE, markersize=6, linewidth=2)
    for name, (cost, accuracy) in _MIXNET.items():
        _label(axes, name, cost, accuracy, _BLUE, above=True)
    axes.set(xlabel="multiply-adds per image, millions", ylabel="ImageNet top-1, %", xlim=(190, 690), ylim=(71, 80))
    axes.set_title("Accuracy and cost, as the papers give them")
    pathlib.Path(_OUTPUT.value).write_bytes(png(figure))


def _label(axes, text, cost, accuracy, color, above=False):
    offset = (-4, 7) if above else (6, -10)
    align = "right" if above else "left"
    axes.annotate(
        text, (cost, accuracy), offset, textcoords="offset points", fontsize=8, color=color, ha=align,
        fontweight="bold" if above else "normal",
    )  # fmt: skip


if __name__ == "__main__":
    app.run(main)
