"""Measures the latency of models, or of parts of them, in LiteRT as they are exported."""

from collections.abc import Mapping

import keras

from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.runtime import latencies


def litert_latencies(models: Mapping[str, keras.Model], runs: int = 30) -> dict[str, float]:
    """Measures models in float32 on one thread of this machine, in turns.

    Args:
        models: Dict from a name to a Keras model that contains a MixNet's layers, from (batch, size, size, channels).
        runs: Number of rounds; each runs every model once.

    Returns:
        Dict from a name to the median milliseconds for one image.
    """
    contents = {}
    for name, model in models.items():
        _, size, _, channels = model.input_shape
        contents[name] = to_tflite(InferenceFunction(model), size, channels=channels)
    return latencies(contents, 1, runs)
