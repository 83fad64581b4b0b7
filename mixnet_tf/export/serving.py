"""Writes a SavedModel for TF Serving, which takes float images or, like the reference's, encoded ones."""

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import preprocess_for_eval
from mixnet_tf.export.convert import write_saved_model
from mixnet_tf.export.images import ImageStream, in_batches
from mixnet_tf.export.rewrite import AsWritten
from mixnet_tf.networks import Resizing, resizing_of

_BATCH = 32  # images


def write_serving_model(
    model: keras.Model,
    folder: str,
    output_name: str = "probabilities",
    crop: bool | Resizing | None = None,
) -> None:
    """Writes a SavedModel with two signatures, both for any number of images.

    `serving_default` takes `image`, float32 (batch, size, size, 3) in [0, 255]; `image_bytes` takes `image_bytes`,
    strings (batch,) of JPEG or PNG, and prepares them as for evaluation, but without turning a JPEG by its EXIF
    orientation.

    Args:
        model: A Keras model with a fixed square input.
        folder: Where to write.
        output_name: Name of the output in both signatures.
        crop: How encoded images are cropped and resized, as for `networks.resizing_of`; None: as the model says.

    Source: mnasnet_main.py:build_image_serving_input_fn.
    """
    function = AsWritten(model)
    size, resizing = model.input_shape[1], resizing_of(model, crop)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")], autograph=False)
    def from_bytes(image_bytes):
        images = tf.map_fn(
            lambda encoded: preprocess_for_eval(encoded, size, resizing),
            image_bytes,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
        )
        return {output_name: function(images)}

    write_saved_model(function, folder, size, None, output_name, image_bytes=from_bytes)


def predict_saved_model(
    folder: str, images: np.ndarray | ImageStream, output_name: str = "probabilities"
) -> np.ndarray:
    """Loads a SavedModel, and returns its outputs for float images: (images, classes)."""
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    batches = in_batches(images, _BATCH)
    return np.concatenate([serve(image=tf.constant(batch))[output_name].numpy() for batch in batches])
