"""What a detector finds in an image file, as a list and as a picture."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.detection import detect
from mixnet_tf.errors import InputError, MissingFileError, MissingPackageError
from mixnet_tf.files import StrPath, publishing

LEAST_SCORE = 0.3  # of what is worth a person's look
Found = tuple[tuple[float, ...], float, int]


def detect_in_file(model: keras.Model, path: StrPath, score_threshold: float = LEAST_SCORE) -> list[Found]:
    """The objects that a detector finds in an image file.

    Args:
        model: An `SSDLite`.
        path: A JPEG, PNG, GIF or BMP file.
        score_threshold: Below it an object is left out.

    Returns:
        A list of ((y0, x0, y1, x1) as fractions of the image, score, class), the most probable first.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image.
    """
    size = model.input_shape[1]
    image = tf.raw_ops.ResizeBilinear(images=_decoded(path)[tf.newaxis], size=(size, size))
    found = {name: value[0].numpy() for name, value in detect(model, image, score_threshold).items()}
    rows = zip(found["boxes"], found["scores"], found["classes"], strict=True)
    return [(tuple(map(float, box)), float(score), int(label)) for box, score, label in rows][: found["count"]]


def draw_boxes(path: StrPath, boxes: Sequence[tuple[Sequence[float], str]], output: StrPath) -> None:
    """Writes an image with boxes as a PNG file.

    Args:
        path: The image file.
        boxes: (y0, x0, y1, x1) as fractions of the image, and the words of each.
        output: The file to write.

    Raises:
        MissingPackageError: Without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("To draw boxes needs matplotlib: pip install 'mixnet_tf[detection]'.") from error
    image = _decoded(path).numpy()
    height, width = image.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=max(100, 40000 / max(width, height)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image.astype(np.uint8))
    axes.axis("off")
    for (y0, x0, y1, x1), words in boxes:
        corner, size = (x0 * width, y0 * height), ((x1 - x0) * width, (y1 - y0) * height)
        axes.add_patch(_rectangle(corner, *size))
        axes.text(*corner, words, color="white", fontsize=6, va="bottom", bbox={"color": "#b91c1c", "pad": 0.5})
    with publishing(output) as local:
        FigureCanvasAgg(figure).print_png(local)


def _rectangle(corner, width, height):
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, color="#b91c1c", linewidth=1)


def _decoded(path):
    """float32 (height, width, 3)."""
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        raise MissingFileError(f"image: there is no file {path}.")
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise InputError(f"image: {path} is not a readable JPEG, PNG, GIF or BMP file.") from error
    return tf.cast(image, tf.float32)
