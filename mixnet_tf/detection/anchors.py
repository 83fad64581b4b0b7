"""The anchors of SSD: boxes of fixed sizes around each position of each feature map."""

import math
from collections.abc import Sequence

import numpy as np

_SMALLEST, _LARGEST = 0.2, 0.95  # scales of the first and the last feature map, fractions of the image
_RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width over height
_LOWEST = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))  # (scale, ratio) of the first feature map, which has fewer anchors


def shapes_at_a_position(maps: int) -> list[list[tuple[float, float]]]:
    """The (scale, aspect ratio) of the anchors at one position, for each feature map.

    Args:
        maps: Number of feature maps, from 2.

    Source: tensorflow/models, object_detection/anchor_generators/multiple_grid_anchor_generator.py:create_ssd_anchors,
    where 1/3 is written as .3333.
    """
    scales = [_SMALLEST + (_LARGEST - _SMALLEST) * i / (maps - 1) for i in range(maps)] + [1.0]
    others = [
        [*((scale, ratio) for ratio in _RATIOS), (math.sqrt(scale * following), 1.0)]
        for scale, following in zip(scales[1:], scales[2:], strict=False)
    ]
    return [list(_LOWEST), *others]


def anchor_boxes(shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """The anchors of all feature maps of a square image.

    Args:
        shapes: (rows, columns) of each feature map, the finest first.

    Returns:
        float32 (anchors, 4): y0, x0, y1, x1 as fractions of the image; some reach past its border. Ordered by feature
        map, row and column.
    """
    boxes = []
    for (rows, columns), kinds in zip(shapes, shapes_at_a_position(len(shapes)), strict=True):
        scale, root = np.array([(scale, math.sqrt(ratio)) for scale, ratio in kinds]).T
        y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
        centers = np.stack([y, x], -1).reshape(-1, 1, 2)
        halves = np.stack([scale / root, scale * root], -1) / 2  # height and width
        boxes.append(np.concatenate([centers - halves, centers + halves], -1).reshape(-1, 4))
    return np.concatenate(boxes).astype(np.float32)
