"""The detections in image files, as a list and as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import UPRIGHT, Rules, Split, decode_image, object_eval_batches
from mixnet_tf.detection import IOU_THRESHOLD, detect
from mixnet_tf.errors import require_package
from mixnet_tf.evaluation.image_files import read_image_file
from mixnet_tf.figures import new_figure, plain_text, png
from mixnet_tf.files import StrPath, write_bytes

SHOWN_SCORE = 0.3  # lowest score that is listed and drawn
_EXAMPLES, _COLUMNS = 12, 4  # number of images of a split that are drawn
_FOUND, _TRUE = "#b91c1c", "#16a34a"  # colors of found and of true boxes
_DRAWN = ("boxes", "scores", "classes")  # of the entries of `detect`
_PIXELS = 400  # minimum of the longer side of an image in a picture
Found = tuple[tuple[float, ...], float, int]


def detect_in_file(
    model: keras.Model,
    path: StrPath,
    score_threshold: float = SHOWN_SCORE,
    rules: Rules = UPRIGHT,
    iou_threshold: float = IOU_THRESHOLD,
) -> list[Found]:
    """Finds the objects in an image file.

    Args:
        model: An `SSDLite`.
        path: A JPEG, PNG, GIF, WebP or BMP file.
        score_threshold: Objects with a lower score are left out.
        rules: The `data.Rules` by which the image is decoded; by default a JPEG is turned as its EXIF orientation says.
        iou_threshold: Of two boxes of a class that overlap by more, the less probable one is left out.

    Returns:
        A list of ((y0, x0, y1, x1) as fractions of the image, score, class), the most probable first.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image.
    """
    size = model.input_shape[1]
    image = tf.raw_ops.ResizeBilinear(images=_decoded(path, rules)[tf.newaxis], size=(size, size))
    found = {name: value[0].numpy() for name, value in detect(model, image, score_threshold, iou_threshold).items()}
    rows = zip(found["boxes"], found["scores"], found["classes"], strict=True)
    return [(tuple(map(float, box)), float(score), int(label)) for box, score, label in rows][: found["count"]]


def draw_boxes(
    path: StrPath, boxes: Sequence[tuple[Sequence[float], str]], output: StrPath, rules: Rules = UPRIGHT
) -> None:
    """Draws boxes on an image, and writes it as a PNG file.

    Args:
        path: The image file.
        boxes: For each box, (y0, x0, y1, x1) as fractions of the image, and its text.
        output: The file to write.
        rules: The `data.Rules` by which the image is decoded, as for `detect_in_file`.

    Raises:
        MissingPackageError: Without matplotlib.
    """
    image = _decoded(path, rules).numpy()
    figure = _figure(image.shape, 1, 1)
    _draw(figure.add_axes((0, 0, 1, 1)), image, boxes)
    write_bytes(output, png(figure))


def draw_examples(
    model: keras.Model,
    split: Split,
    names: Sequence[Any],
    output: StrPath,
    score_threshold: float = SHOWN_SCORE,
    iou_threshold: float = IOU_THRESHOLD,
) -> None:
    """Draws the first twelve images of a split into one PNG file: detections in red, true boxes in green.

    Args:
        model: An `SSDLite`.
        split: A `data.load_objects` split.
        names: Of the classes.
        output: The file to write.
        score_threshold: Detections with a lower score are not drawn.
        iou_threshold: Of two boxes of a class that overlap by more, the less probable one is not drawn.

    Raises:
        MissingPackageError: Without matplotlib.
    """
    images, examples = next(iter(object_eval_batches(split, model.input_shape[1], _EXAMPLES)))
    detections = {name: value.numpy() for name, value in detect(model, images, score_threshold, iou_threshold).items()}
    rows = -(-len(images) // _COLUMNS)
    figure = _figure(images.shape[1:], rows, _COLUMNS)
    for place, image in enumerate(images.numpy()):
        axes = figure.add_subplot(rows, _COLUMNS, place + 1)
        example = {name: examples[name][place].numpy() for name in ("boxes", "labels")}
        found = {name: detections[name][place][: detections["count"][place]] for name in _DRAWN}
        _draw_both(axes, image, example, found, names)
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    write_bytes(output, png(figure))


def draw_found(
    image: np.ndarray, example: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], names: Any
) -> Any:
    """A matplotlib figure of an image: detections in red, true boxes in green.

    Args:
        image: (height, width, 3), from 0 to 255.
        example: "boxes" and "labels" in the form of `object_eval_batches`, without the batch dimension.
        found: Its detections in the form of `detect`, without the batch dimension.
        names: Of the classes.

    Raises:
        MissingPackageError: Without matplotlib.
    """
    figure = _figure(image.shape, 1, 1)
    shown = found["scores"] >= SHOWN_SCORE
    _draw_both(figure.add_axes((0, 0, 1, 1)), image, example, {name: found[name][shown] for name in _DRAWN}, names)
    return figure


def _draw_both(axes, image, example, found, names):
    """Draws an image with its true boxes and its detections."""
    _draw(axes, image, [(box, "") for box in example["boxes"][example["labels"] >= 0]], _TRUE)
    rows = zip(*(found[name] for name in _DRAWN), strict=True)
    _draw(axes, image, [(box, f"{names[label]} {score:.0%}") for box, score, label in rows])


def _figure(shape, rows, columns):
    """A matplotlib figure for images of one shape; their longer side has at least `_PIXELS` pixels."""
    require_package("matplotlib", "matplotlib", "To draw boxes", "detection")
    height, width = shape[:2]
    size = (columns * width / 100, rows * height / 100)
    return new_figure(figsize=size, dpi=max(100, 100 * _PIXELS / max(width, height)))


@plain_text()
def _draw(axes, image, boxes, color=_FOUND):
    """Draws boxes with their text on an image."""
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    axes.imshow(image.astype(np.uint8))
    axes.axis("off")
    for (y0, x0, y1, x1), words in reversed(boxes):  # in reverse order, so that the most probable stay readable
        corner, size = (x0 * width, y0 * height), ((x1 - x0) * width, (y1 - y0) * height)
        axes.add_patch(Rectangle(corner, *size, fill=False, color=color, linewidth=1))
        if words:
            axes.text(*corner, words, color="white", fontsize=6, va="bottom", bbox={"color": color, "pad": 0.5})


def _decoded(path, rules):
    """float32 (height, width, 3)."""
    return tf.cast(read_image_file(path, lambda content: decode_image(content, rules)), tf.float32)
