"""Plots a search: its front among all networks that were tried, and the kernels of the front."""

from collections.abc import Mapping
from typing import Any

from mixnet_tf.errors import require_package
from mixnet_tf.figures import new_figure, png
from mixnet_tf.files import StrPath, write_bytes
from mixnet_tf.networks import MixnetDecoder

_FRONT, _TRIED, _RANDOM, _PATTERN = "#b91c1c", "#9ca3af", "#1d4ed8", "#047857"


def require_matplotlib() -> None:
    """Raises a `MissingPackageError` if matplotlib is missing; call it before a long search."""
    require_package("matplotlib", "matplotlib", "The picture of a search", "search")


def draw_front(report: Mapping[str, Any], path: StrPath) -> None:
    """Plots the content of front.json as a PNG file.

    Args:
        report: The report of `write_front`, with at least one network.
        path: The PNG file.

    Raises:
        MissingPackageError: If matplotlib is not installed.
    """
    require_matplotlib()
    front = report["front"]
    height = 3.6 + 0.28 * (len(front) + 1)
    figure = new_figure(figsize=(7, height), dpi=150, layout="constrained")
    points, table = figure.subplots(2, 1, gridspec_kw={"height_ratios": (3.6, height - 3.6)})
    for rows, color, name, marker in (
        (report.get("random", ()), _RANDOM, "drawn at random", "x"),
        (report["tried"], _TRIED, "tried by the search", "o"),
        (report.get("mixnet-s", ()), _PATTERN, "MixNet-S's pattern", "D"),
    ):
        if rows:
            points.scatter(*_places(rows), s=14, color=color, marker=marker, linewidths=0.8, label=name)
    points.plot(*_places(front), color=_FRONT, marker="o", markersize=5, linewidth=1, label="front")
    for number, row in enumerate(front):
        place = (_cost(row), row["cross_entropy"])
        points.annotate(f"{number:02}", place, (3, 4), textcoords="offset points", fontsize=7, color=_FRONT)
    points.set(
        xlabel="ms in LiteRT, sum over blocks" if "latency_ms" in front[0] else "multiply-adds, millions",
        ylabel="cross-entropy of held-out images",
    )
    points.grid(color="#e5e7eb", linewidth=0.6)
    points.legend(fontsize=8, frameon=False)
    table.axis("off")
    table.set_title("Kernel sizes by stage", loc="left", fontsize=9)
    cells = [[f"{number:02}", *_kernels(row["blocks"])] for number, row in enumerate(front)]
    cells += [["MixNet-S's pattern", *_kernels(row["blocks"])] for row in report.get("mixnet-s", ())]
    drawn = table.table(cells, loc="upper center", cellLoc="left", edges="open")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    write_bytes(path, png(figure))


def _cost(row):
    return row.get("latency_ms", row["multiply_adds"] / 1e6)


def _places(rows):
    finite = [row for row in rows if row["cross_entropy"] is not None]
    return [_cost(row) for row in finite], [row["cross_entropy"] for row in finite]


def _kernels(blocks):
    """The depthwise kernels of each stage, such as "3.5 x2" for two blocks."""
    stages = MixnetDecoder.decode(blocks)
    return [
        ".".join(map(str, stage.dw_ksize)) + (f" x{stage.num_repeat}" if stage.num_repeat > 1 else "")
        for stage in stages
    ]
