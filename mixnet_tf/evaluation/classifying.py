"""The most probable classes of image files."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from mixnet_tf.data import UPRIGHT, Rules, preprocess_for_eval
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation.image_files import read_image_file
from mixnet_tf.evaluation.ranking import TOP, top_classes
from mixnet_tf.files import StrPath
from mixnet_tf.networks import Resizing, prepare_pixels, resizing_of, with_logits


class Classified(NamedTuple):
    """An image file and its classes.

    Attributes:
        path: The file.
        found: (class, probability) pairs, the most probable first; none if the file cannot be read.
        error: Why it cannot be read, a sentence; None: it can.
    """

    path: str
    found: list[tuple[int, float]]
    error: str | None = None


def classify(
    model: keras.Model,
    path: StrPath,
    crop: bool | Resizing | None = None,
    top: int = TOP,
    rules: Rules = UPRIGHT,
) -> list[tuple[int, float]]:
    """The most probable classes of an image file.

    Args:
        model: A Keras model from one image size to probabilities.
        path: A JPEG, PNG, GIF, WebP or BMP file.
        crop: How the image is cropped and resized, as for `networks.resizing_of`; None: as the model says.
        top: Number of classes to return.
        rules: The `data.Rules` by which the image is decoded; by default a JPEG is turned as its EXIF orientation says.

    Returns:
        A list of (class, probability), the most probable first.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not an image.
    """
    size, resizing = model.input_shape[1], resizing_of(model, crop)
    image = read_image_file(path, lambda content: preprocess_for_eval(content, size, resizing, rules))
    logits, probabilities = with_logits(model)(prepare_pixels(model)(image[tf.newaxis]), training=False)
    return [(int(number), float(probabilities[0, number])) for number in top_classes(logits, top)[0]]


def classify_files(
    model: keras.Model,
    paths: Sequence[str],
    crop: bool | Resizing | None = None,
    top: int = TOP,
    rules: Rules = UPRIGHT,
    batch_size: int = 64,
) -> Iterator[Classified]:
    """The most probable classes of many image files: decoded in parallel, classified in batches.

    Args:
        model: As for `classify`, and so are `crop`, `top` and `rules`.
        paths: The files.
        crop: How the images are cropped and resized.
        top: Number of classes of an image.
        rules: The `data.Rules`.
        batch_size: Images per step.

    Yields:
        A `Classified` for each path, in their order.
    """
    size, resizing = model.input_shape[1], resizing_of(model, crop)
    answers, prepare = with_logits(model), prepare_pixels(model)

    def decode(place, path):
        return place, preprocess_for_eval(tf.io.read_file(path), size, resizing, rules)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3))], autograph=False)
    def step(images):
        logits, probabilities = answers(prepare(images), training=False)
        classes = top_classes(logits, top)
        return classes, tf.gather(tf.cast(probabilities, tf.float32), classes, batch_dims=1)

    def again(path):  # what the dataset has left out, to say why
        try:
            return Classified(path, classify(model, path, resizing, top, rules))
        except InputError as error:
            return Classified(path, [], str(error))

    files = tf.data.Dataset.from_tensor_slices(list(paths)).enumerate()
    images = files.map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    done = 0
    for places, batch in images.batch(batch_size).prefetch(tf.data.AUTOTUNE):
        columns = (tensor.numpy().tolist() for tensor in (places, *step(batch)))
        for place, classes, probabilities in zip(*columns, strict=True):
            yield from map(again, paths[done:place])
            yield Classified(paths[place], list(zip(classes, probabilities, strict=True)))
            done = place + 1
    yield from map(again, paths[done:])
