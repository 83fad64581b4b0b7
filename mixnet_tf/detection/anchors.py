"""The anchors of SSD: boxes of fixed sizes around each position of each map, which a detector's boxes are coded by."""

import math
from collections.abc import Sequence

import numpy as np

_SMALLEST, _LARGEST = 0.2, 0.95  # scales of the first and the last map, fractions of the image
_RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width over height
_LOWEST = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))  # (scale, ratio) of the first map, which has fewer


def shapes_at_a_position(maps: int) -> list[list[tuple[float, float]]]:
    """The (scale, aspect ratio) of each anchor at a position of each map.

    Args:
        maps: Number of maps, from 2.

    Source: tensorflow/models, object_detection/anchor_generators/multiple_grid_anchor_generator.py:create_ssd_anchors,
    where a third is written .3333.
    """
    scales = [_SMALLEST + (_LARGEST - _SMALLEST) * i / (maps - 1) for i in range(maps)] + [1.0]
    others = [
        [*((scale, ratio) for ratio in _RATIOS), (math.sqrt(scale * following), 1.0)]
        for scale, following in zip(scales[1:], scales[2:], strict=False)
    ]
    return [list(_LOWEST), *others]


def anchor_boxes(shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """All anchors of maps over a square image.

    Args:
        shapes: (rows, columns) of each map, the first the finest.

    Returns:
        float32 (anchors, 4): y0, x0, y1, x1 as fractions of the image, some of them past its border; map by map, row by
        row, column by column.
    """
    boxes = []
    for (rows, columns), kinds in zip(shapes, shapes_at_a_position(len(shapes)), strict=True):
        scale, root = np.array([(scale, math.sqrt(ratio)) for scale, ratio in kinds]).T
        y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
        centers = np.stack([y, x], -1).reshape(-1, 1, 2)
        halves = np.stack([scale / root, scale * root], -1) / 2  # height and width
        boxes.append(np.concatenate([centers - halves, centers + halves], -1).reshape(-1, 4))
    return np.concatenate(boxes).astype(np.float32)
