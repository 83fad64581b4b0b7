"""Preprocesses encoded images as the reference does: to float32 (size, size, 3), RGB in [0, 255]."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mixnet_tf.data.decoding import decode_window
from mixnet_tf.data.rules import NEWEST, Rules
from mixnet_tf.networks import BICUBIC, BILINEAR, CROP_PADDING, GOOGLES, Resizing

_AREA_RANGE = (0.08, 1.0)  # fraction of the image
_ASPECT_RATIO_RANGE = (3 / 4, 4 / 3)
_MIN_OBJECT_COVERED = 0.1
_MAX_ATTEMPTS = 10


def preprocess_for_eval(
    image_bytes: tf.Tensor, image_size: int, crop: bool | Resizing = True, rules: Rules = NEWEST
) -> tf.Tensor:
    """Prepares an image for evaluation: crops its center and resizes it.

    Args:
        image_bytes: Scalar string tensor: JPEG, PNG, GIF (its first frame), WebP or BMP.
        image_size: Pixels.
        crop: The `Resizing`. True: as the reference does, the center square of image_size / (image_size + 32) of the
            shorter side, bilinear. False: the whole image, bilinear.
        rules: The `Rules` by which the image is decoded.

    Returns:
        float32 (image_size, image_size, 3), RGB in [0, 255].

    Source: preprocessing.py:preprocess_for_eval; with a `crop_fraction` timm 1.0.31,
    data/transforms_factory.py:transforms_imagenet_eval.
    """
    resizing = crop if isinstance(crop, Resizing) else GOOGLES.given(crop)
    if resizing.crop_fraction is not None:
        image = decode_window(image_bytes, whole_window, rules)
        return _resize_and_cut(image, image_size, resizing.crop_fraction, resizing.interpolation)

    def window(shape):
        if resizing.crop_padding is None:
            return whole_window(shape)
        return center_window(shape, image_size, resizing.crop_padding)

    return decode_and_resize(image_bytes, window, image_size, rules, resizing.interpolation)


def preprocess_for_train(
    image_bytes: tf.Tensor,
    image_size: int,
    seed: Any,
    crop: bool = True,
    flip: bool = True,
    shift: float = 0.0,
    zoom: float = 0.0,
    rotation: float = 0.0,
    rules: Rules = NEWEST,
    interpolation: str = BILINEAR,
) -> tf.Tensor:
    """Prepares an image for training: crops a random area, resizes it, and perhaps flips and moves it.

    Args:
        image_bytes: Scalar string tensor: JPEG, PNG, GIF (its first frame), WebP or BMP.
        image_size: Pixels.
        seed: Two ints or an int tensor (2,); equal seeds give equal results.
        crop: Whether to crop at random. If not, the whole image is resized.
        flip: Whether to flip left to right with probability 1/2.
        shift: Largest random shift along each axis, a fraction of `image_size`.
        zoom: Largest random change of size: the scale is from 1 - zoom to 1 + zoom.
        rotation: Largest random angle, degrees either way.
        rules: The `Rules` by which the image is decoded.
        interpolation: As in `Resizing`; a moved image is bilinear all the same.

    Returns:
        float32 (image_size, image_size, 3), RGB in [0, 255]. A moved image is padded with black.

    Source: preprocessing.py:preprocess_for_train, which has neither shift, zoom nor rotation.
    """
    seed = tf.convert_to_tensor(seed)

    def window(shape):
        return random_window(shape, image_size, seed) if crop else whole_window(shape)

    image = decode_and_resize(image_bytes, window, image_size, rules, interpolation)
    if flip:
        image = tf.image.stateless_random_flip_left_right(image, tf.random.experimental.stateless_fold_in(seed, 1))
    if shift or zoom or rotation:
        draws = tf.random.stateless_uniform((4,), tf.random.experimental.stateless_fold_in(seed, 2), -1.0, 1.0)
        down, right, larger, turn = tf.unstack(draws * (shift * image_size, shift * image_size, zoom, rotation))
        image = affine(image, down, right, 1 + larger, turn)
    return image


def affine(image: tf.Tensor, down: Any = 0.0, right: Any = 0.0, scale: Any = 1.0, rotation: Any = 0.0) -> tf.Tensor:
    """Rotates and scales an image about its center, then shifts it; bilinear, padded with black.

    Args:
        image: float32 (height, width, channels).
        down: Shift downwards, pixels.
        right: Shift to the right, pixels.
        scale: Factor of the size, above 0.
        rotation: Degrees, counterclockwise.

    Returns:
        float32 of the shape of `image`.
    """
    height, width, channels = image.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    angle = rotation * (math.pi / 180)
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    # The op needs the input position of each output position, so everything is inverted, the shift first.
    x, y = middle_x + right, middle_y + down
    to_x = (cos, -sin, middle_x - cos * x + sin * y)
    to_y = (sin, cos, middle_y - sin * x - cos * y)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack([*to_x, *to_y, 0.0, 0.0])[tf.newaxis],
        output_shape=(height, width),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    return tf.ensure_shape(moved[0], (height, width, channels))


def decode_and_resize(
    image_bytes: tf.Tensor,
    window: Callable[[tf.Tensor], tf.Tensor],
    image_size: int,
    rules: Rules = NEWEST,
    interpolation: str = BILINEAR,
) -> tf.Tensor:
    """Decodes and resizes a part of an image.

    Args:
        image_bytes: Scalar string tensor: JPEG, PNG, GIF (its first frame), WebP or BMP.
        window: A function from the image's shape, int32 (3,), to int32 (4,): offset y, offset x, height and width,
            pixels.
        image_size: Pixels.
        rules: The `Rules` by which the image is decoded, and perhaps turned before the window is taken.
        interpolation: As in `Resizing`. Nothing outside the window is seen.

    Returns:
        float32 (image_size, image_size, 3), RGB in [0, 255].
    """
    image = resize(decode_window(image_bytes, window, rules), (image_size, image_size), interpolation)
    return tf.ensure_shape(image, (image_size, image_size, 3))


def resize(image: tf.Tensor, size: Any, interpolation: str = BILINEAR) -> tf.Tensor:
    """Resizes an image.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the result, pixels; ints or int32 (2,).
        interpolation: "bilinear", as TensorFlow 1 does it; or "bicubic", antialiased as Pillow does it: columns first,
            then rows, rounded to whole grey levels after each.

    Returns:
        float32 (height, width, 3), in [0, 255].

    Source: preprocessing.py:_resize_image; Pillow 12.1, src/libImaging/Resample.c (13.0 takes the rows first where
    the height shrinks much more than the width).
    """
    image = tf.cast(image, tf.float32)
    if interpolation == BICUBIC:
        height, width = tf.unstack(size)
        for step in ((tf.shape(image)[0], width), (height, width)):
            image = tf.image.resize(image, step, BICUBIC, antialias=True)
            image = tf.clip_by_value(tf.floor(image + 0.5), 0.0, 255.0)
        return image
    # The op of tf.compat.v1.image.resize: no half-pixel centers, no antialiasing. The function itself would return a
    # uint8 image of the right size unchanged. The op accepts uint8, too, with the same values, but only its float32
    # code is vectorized, so the cast is faster.
    return tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=size)[0]


def _resize_and_cut(image, image_size, fraction, interpolation):
    """Resizes the shorter side to image_size / fraction, and takes the center, as torchvision does."""
    shape = tf.shape(image)[:2]
    size = math.floor(image_size / fraction) * shape // tf.reduce_min(shape)
    first = tf.cast(tf.round((size - image_size) / 2), tf.int32)  # half to even, as Python
    begin = tf.concat([first, [0]], 0)
    return tf.slice(resize(image, size, interpolation), begin, (image_size, image_size, 3))


def whole_window(shape: tf.Tensor) -> tf.Tensor:
    """The `window` of a whole image."""
    return tf.stack([0, 0, shape[0], shape[1]])


def center_window(shape: tf.Tensor, image_size: int, crop_padding: int = CROP_PADDING) -> tf.Tensor:
    """The center square that the reference crops for evaluation.

    Args:
        shape: int32 (height, width, ...) of the image, pixels.
        image_size: Pixels that the crop is resized to.
        crop_padding: As in `Resizing`.

    Returns:
        int32 (4,): offset y, offset x, height and width, pixels.

    Source: preprocessing.py:_decode_and_center_crop.
    """
    height_and_width = shape[:2]
    # In float32 like the reference, because float64 gives another side at some sizes.
    fraction = tf.constant(image_size / (image_size + crop_padding), tf.float32)
    shorter = tf.cast(tf.reduce_min(height_and_width, keepdims=True), tf.float32)
    side = tf.maximum(tf.cast(fraction * shorter, tf.int32), 1)  # the reference fails on an image one pixel wide
    return tf.concat([((height_and_width - side) + 1) // 2, side, side], axis=0)


def random_window(shape: tf.Tensor, image_size: int, seed: Any) -> tf.Tensor:
    """A window of random area and aspect ratio, or the center square if all attempts fail.

    Args:
        shape: int32 (height, width, 3) of the image, pixels.
        image_size: Pixels that the crop is resized to.
        seed: int (2,).

    Returns:
        int32 (4,): offset y, offset x, height and width, pixels.

    Source: preprocessing.py:_decode_and_random_crop.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=_MIN_OBJECT_COVERED,
        aspect_ratio_range=_ASPECT_RATIO_RANGE,
        area_range=_AREA_RANGE,
        max_attempts=_MAX_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    # The whole image means that all attempts failed.
    whole = tf.reduce_all(size[:2] == shape[:2])
    return tf.where(whole, center_window(shape, image_size), tf.concat([begin[:2], size[:2]], axis=0))
