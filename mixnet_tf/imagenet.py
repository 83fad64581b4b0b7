"""The classes of ImageNet by their names."""

import keras
import numpy as np

from mixnet_tf.errors import InputError, is_count
from mixnet_tf.files import keras_cache

CLASSES = 1000  # ILSVRC 2012


def decode_predictions(preds, top=5):
    """The most probable ImageNet classes, by Keras' own index of their names.

    Keras downloads the index, imagenet_class_index.json, into its cache at the first call.

    Args:
        preds: (batch, 1000) probabilities or logits.
        top: How many classes of each image.

    Returns:
        For each image a list of (WordNet id, name, value), the largest value first.

    Raises:
        ConnectionError: If the index is not cached and cannot be had.
        ValueError: For another shape, or a `top` that is not from 1 to 1000.
    """
    preds = np.asarray(keras.ops.convert_to_numpy(preds), "float32")
    if preds.ndim != 2 or preds.shape[1] != CLASSES:
        raise InputError(f"decode_predictions: expected (batch, {CLASSES}) predictions, received shape {preds.shape}.")
    if not is_count(top) or top > CLASSES:
        raise InputError(f"decode_predictions: expected top from 1 to {CLASSES}, received {top!r}.")
    try:
        return keras.applications.imagenet_utils.decode_predictions(preds, top=top)
    except Exception as error:  # get_file raises plain Exceptions
        raise ConnectionError(
            f"Keras' index of ImageNet's class names could not be had: {error}\nPlace imagenet_class_index.json in "
            f"{keras_cache()}, or give the names with --labels=FILE where a script asks for them."
        ) from error


def imagenet_labels():
    """The names of ImageNet's 1000 classes, in their order, as `decode_predictions` gives them.

    Raises:
        ConnectionError: If Keras' index is not cached and cannot be had.
    """
    return tuple(name for [(_, name, _)] in decode_predictions(np.eye(CLASSES), top=1))
