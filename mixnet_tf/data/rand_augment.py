"""RandAugment: operations drawn at random, of the kinds and strengths of EfficientNet's code.

Source: tensorflow/tpu, models/official/efficientnet/autoaugment.py:distort_image_with_randaugment; arXiv:1909.13719.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from mixnet_tf.data import byte_operations as on_bytes

_PUBLISHED_SIZE = 224  # pixels of the images for which lengths are published


class _Draw(NamedTuple):
    """How an operation is applied: all are float32 scalars."""

    magnitude: tf.Tensor
    sign: tf.Tensor  # 1 or -1
    y: tf.Tensor  # from 0 to 1, of the center of Cutout
    x: tf.Tensor

    @property
    def signed(self) -> tf.Tensor:
        return self.sign * self.magnitude

    @property
    def factor(self) -> tf.Tensor:
        # In float64, because a last bit more or less changes bytes, which truncate.
        return tf.cast(0.1 + 0.18 * tf.cast(self.magnitude, tf.float64), tf.float32)


# Functions of (image, draw). The published ranges are for a magnitude of 10.
OPERATIONS = {
    "AutoContrast": lambda image, _: on_bytes.autocontrast(image),
    "Equalize": lambda image, _: on_bytes.equalize(image),
    "Invert": lambda image, _: on_bytes.invert(image),
    "Rotate": lambda image, draw: on_bytes.rotate(image, 3 * draw.signed),
    "Posterize": lambda image, draw: on_bytes.posterize(image, tf.clip_by_value(_whole(0.4 * draw.magnitude), 1, 8)),
    "Solarize": lambda image, draw: on_bytes.solarize(image, _whole(25.6 * draw.magnitude)),
    "Color": lambda image, draw: on_bytes.color(image, draw.factor),
    "Contrast": lambda image, draw: on_bytes.contrast(image, draw.factor),
    "Brightness": lambda image, draw: on_bytes.brightness(image, draw.factor),
    "Sharpness": lambda image, draw: on_bytes.sharpness(image, draw.factor),
    "ShearX": lambda image, draw: on_bytes.affine_bytes(image, (1.0, 0.03 * draw.signed, 0.0), (0.0, 1.0, 0.0)),
    "ShearY": lambda image, draw: on_bytes.affine_bytes(image, (1.0, 0.0, 0.0), (0.03 * draw.signed, 1.0, 0.0)),
    "TranslateX": lambda image, draw: on_bytes.affine_bytes(
        image, (1.0, 0.0, _length(image, 10 * draw.signed)), (0.0, 1.0, 0.0)
    ),
    "TranslateY": lambda image, draw: on_bytes.affine_bytes(
        image, (1.0, 0.0, 0.0), (0.0, 1.0, _length(image, 10 * draw.signed))
    ),
    "Cutout": lambda image, draw: on_bytes.cutout(image, _square(image, draw)),
    "SolarizeAdd": lambda image, draw: on_bytes.solarize_add(image, _whole(11 * draw.magnitude)),
}


def _whole(number):
    return tf.cast(number, tf.int32)


def _side(image):
    return tf.cast(tf.shape(image)[0], tf.float32)


def _length(image, published):
    """A length, pixels, in proportion to the size of the image."""
    return published * (_side(image) / _PUBLISHED_SIZE)


def _square(image, draw):
    half = _whole(_length(image, 4 * draw.magnitude))
    y, x = _whole(draw.y * _side(image)), _whole(draw.x * _side(image))
    return tf.stack([y - half, x - half, y + half, x + half])


def rand_augment(image: tf.Tensor, layers: int, magnitude: float, seed: Any) -> tf.Tensor:
    """Applies operations drawn at random, one after the other.

    Args:
        image: uint8 (size, size, 3), RGB.
        layers: Number of operations.
        magnitude: Strength of the operations.
        seed: int (2,); equal seeds give equal results.

    Returns:
        uint8 (size, size, 3).
    """
    for draws in tf.unstack(tf.random.stateless_uniform((layers, 4), seed)):
        image = distorted(image, tf.constant(magnitude, tf.float32), draws)
    return image


@tf.function(  # traced once, not for each pipeline and layer
    input_signature=[
        tf.TensorSpec((None, None, 3), tf.uint8),
        tf.TensorSpec((), tf.float32),
        tf.TensorSpec((4,), tf.float32),
    ],
    autograph=False,
)
def distorted(image: tf.Tensor, magnitude: Any, draws: Any) -> tf.Tensor:
    """Applies one of the `OPERATIONS`.

    Args:
        image: uint8 (size, size, 3), RGB.
        magnitude: Strength of the operation.
        draws: float32 (4,), from 0 to below 1: which operation, in which direction, and the center of Cutout.

    Returns:
        uint8 (size, size, 3).
    """
    number, direction, y, x = tf.unstack(draws)
    draw = _Draw(magnitude, tf.where(direction < 0.5, 1.0, -1.0), y, x)
    branches = [lambda operation=operation: operation(image, draw) for operation in OPERATIONS.values()]
    return tf.switch_case(_whole(number * len(branches)), branches)
