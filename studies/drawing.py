"""Draws a study's figure above the paper's. Needs matplotlib: pip install 'mixnet_tf[report]'."""

import json
import math
import pathlib

import matplotlib.style
from figures import SERIES

from mixnet_tf.figures import new_figure, png
from mixnet_tf.files import write_bytes

_HERE = pathlib.Path(__file__).parent
# Color of each curve, and the letter before the kernel size or the number of groups at its dots.
_CURVES = {
    "one size": ("#1d4ed8", "k"),
    "mixed": ("#b91c1c", "g"),
    "exponential": ("#15803d", "g"),
    "dilated": ("#a16207", "g"),
    "9x9": ("#1d4ed8", ""),
    "3.5.7.9": ("#b91c1c", ""),
}
_GREY = "#6b7280"
_AREAS = (25, 160)  # areas of the dots with the fewest and the most parameters, points^2
_ONE_AREA = 40  # area if the parameters are not known


def draw(report, path):
    """Draws a study.

    Args:
        report: The content of the study's JSON file, with at least one point.
        path: The PNG file to write.
    """
    number = report["figure"]
    ours = {f"{name} on {report['dataset']}": curves for name, curves in report["networks"].items()}
    papers = {f"Paper, figure {number}: {name} on ImageNet": curves for name, curves in paper_networks(number).items()}
    matplotlib.style.use(_HERE.parent / "benchmarks" / "figures.mplstyle")
    figure = new_figure(figsize=(5.4 * max(len(ours), len(papers)), 8), layout="constrained")
    columns = math.lcm(len(ours), len(papers))
    grid = figure.add_gridspec(2, columns)
    for row, panels in enumerate((ours, papers)):
        width = columns // len(panels)
        for place, (title, curves) in enumerate(panels.items()):
            axes = figure.add_subplot(grid[row, place * width : (place + 1) * width], title=title)
            _draw_panel(axes, curves, number)
    figure.supxlabel(_caption(report), fontsize=8, color=_GREY)
    write_bytes(path, png(figure))


def paper_networks(figure):
    """The points of the paper's figure as in a report, as curves by network, but without parameters."""
    paper = json.loads((_HERE / "paper.json").read_text())
    if figure == 5:
        return {
            network: {
                name: [{"place": layer, "mean": top_1 / 100} for layer, top_1 in enumerate(values)]
                for name, values in curves.items()
            }
            for network, curves in paper["layers"].items()
        }
    return {
        network: {
            name: [
                {
                    "place": 3 + 2 * place if name == "one size" else 1 + place,
                    "multiply_adds": millions * 1e6,
                    "mean": top_1 / 100,
                }
                for place, (millions, top_1) in enumerate(curves[name])
            ]
            for name in SERIES[figure]
        }
        for network, curves in paper["curves"].items()
    }


def _draw_panel(axes, curves, figure):
    for name, points in curves.items():
        y = [100 * point["mean"] for point in points]
        if name == "base":
            axes.axhline(y[0], color=_GREY, linestyle="--", linewidth=1, label="3x3 in every layer")
            continue
        color, letter = _CURVES[name]
        x = [point["place"] if figure == 5 else point["multiply_adds"] / 1e6 for point in points]
        axes.plot(x, y, color=color, linewidth=1.5, label=name)
        axes.scatter(x, y, s=_areas(points, curves), color=color, alpha=0.7, linewidths=0)
        spreads = [100 * (point.get("standard_deviation") or 0) for point in points]
        if any(spreads):
            axes.errorbar(x, y, yerr=spreads, color=color, linestyle="none", linewidth=1, capsize=3)
        if letter:
            named = [number for number, point in enumerate(points) if number or name == next(iter(curves))]
            for point, *at in ((points[number], x[number], y[number]) for number in named):
                axes.annotate(
                    f"{letter}{point['place']}", at, (5, 6), textcoords="offset points", fontsize=7, color=color
                )
    axes.set(xlabel="layer" if figure == 5 else "multiply-adds per image, millions", ylabel="top-1, %")
    if curves:
        axes.legend(fontsize=8)


def _areas(points, curves):
    """The areas of dots, which grow linearly with the parameters, within `_AREAS`."""
    known = [point["parameters"] for curve in curves.values() for point in curve if "parameters" in point]
    if not known or min(known) == max(known):
        return _ONE_AREA
    least, most = _AREAS
    share = [(point["parameters"] - min(known)) / (max(known) - min(known)) for point in points]
    return [least + (most - least) * part for part in share]


def _caption(report):
    runs = [len(p["runs"]) for curves in report["networks"].values() for points in curves.values() for p in points]
    seeds = " to ".join(map(str, sorted({min(runs), max(runs)})))
    return (
        f"Above: mean and standard deviation over {seeds} seeds; the area of a dot grows with the parameters. "
        "Below: as read off the paper."
    )
