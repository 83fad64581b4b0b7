"""Measures the latency of models, or of parts of them, in LiteRT as they are exported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mixnet_tf.export.arithmetics import CPU
from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.rewrite import InferenceFunction
from mixnet_tf.export.runtime import latencies
from mixnet_tf.progress import Progress


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


def add_latencies(
    rows: Sequence[dict[str, Any]],
    contents: Mapping[str, bytes],
    plain: Callable[[], bytes],
    threads: Sequence[int],
    runs: int,
    image: np.ndarray,
    progress: Progress,
) -> None:
    """Adds milliseconds to the rows of a report: of each file for a CPU, and of a plain conversion, in turns.

    Args:
        rows: The report's rows. `latency_ms` and `as_written_latency_ms` are numbers if `threads` is (1,), else dicts
            by the number of threads.
        contents: Dict from a format to a TFLite model's bytes.
        plain: Converts the Keras model as it is written.
        threads: Numbers of threads to measure with.
        runs: Number of rounds.
        image: (1, size, size, 3), RGB in [0, 255], that all of them are run on.
        progress: Shows the phases of the work.
    """
    with progress("Latency, beside a plain conversion: converting it"):
        models = {**contents, "as_written": plain()}
    for number in threads:
        with progress(f"Latency, {number} thread{'s' if number > 1 else ''}: {runs} rounds"):
            medians = latencies(models, number, runs, image)
        for row in rows:
            if row["format"] in contents and row["accelerator"] == CPU:
                milliseconds = {"latency_ms": medians[row["format"]], "as_written_latency_ms": medians["as_written"]}
                for name, value in milliseconds.items():
                    if threads == (1,):
                        row[name] = value
                    else:
                        row.setdefault(name, {})[str(number)] = value
