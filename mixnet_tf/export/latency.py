"""How long models, or parts of them, take in LiteRT as they are exported."""

from collections.abc import Mapping

import keras

from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.runtime import latencies


def litert_latencies(models: Mapping[str, keras.Model], runs: int = 30) -> dict[str, float]:
    """Measures models in float32 on one thread of this machine, in turns.

    Args:
        models: Dict from a name to a Keras model that contains a MixNet's layers, from (batch, size, size, channels).
        runs: Rounds; each runs every model once.

    Returns:
        Dict from the name to the median milliseconds of one image.
    """
    contents = {}
    for name, model in models.items():
        _, size, _, channels = model.input_shape
        contents[name] = to_tflite(InferenceFunction(model), size, channels=channels)
    return latencies(contents, 1, runs)
