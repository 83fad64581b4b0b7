"""Runs TFLite models on this machine: predictions, delegation, latency."""

import collections
import importlib.metadata
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from mixnet_tf.export.images import ImageStream, in_batches
from mixnet_tf.provenance import processor

try:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = "ai-edge-litert " + importlib.metadata.version("ai-edge-litert")
except ImportError:
    import tensorflow as tf

    CompiledModel = None
    Interpreter = tf.lite.Interpreter
    RUNTIME = f"tf.lite of TensorFlow {tf.__version__}"


def interpreter(content: bytes, num_threads: int = 1, batch_size: int | None = None) -> Any:
    """Makes an interpreter that is ready to be invoked.

    Args:
        content: A TFLite model's bytes.
        num_threads: Threads of the delegate.
        batch_size: Number of images, for a model with an open batch size; None: the model's own.
    """
    loaded = _loaded(content, num_threads)
    if batch_size is not None:
        detail = loaded.get_input_details()[0]
        loaded.resize_tensor_input(detail["index"], [batch_size, *detail["shape"][1:]])
    loaded.allocate_tensors()
    return loaded


def _loaded(content, num_threads=1):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LiteRT.*|.*tf.lite.*")  # if only TensorFlow's own is installed
        return Interpreter(model_content=content, num_threads=num_threads)


def predict(
    content: bytes, images: np.ndarray | ImageStream, num_threads: int = 1, seen: Callable[[], None] | None = None
) -> np.ndarray:
    """Runs a model on images, and returns its outputs as floats.

    Args:
        content: A TFLite model's bytes.
        images: (images, height, width, 3), float32 in [0, 255], an array or a stream. They are quantized for a model
            with integer input.
        num_threads: Threads of the delegate.
        seen: Called without arguments after each invocation; None: not called.

    Returns:
        (images, classes), float32.
    """
    loaded = interpreter(content, num_threads)
    source, target = loaded.get_input_details()[0], loaded.get_output_details()[0]
    batch = source["shape"][0]
    outputs = []
    for chunk in in_batches(images, batch):
        # The last batch may be smaller.
        padded = np.concatenate([chunk, np.zeros((batch - len(chunk), *chunk.shape[1:]), chunk.dtype)])
        loaded.set_tensor(source["index"], quantized(padded, source))
        loaded.invoke()
        outputs.append(dequantized(loaded.get_tensor(target["index"]), target)[: len(chunk)])
        if seen is not None:
            seen()
    return np.concatenate(outputs)


def signature(content: bytes) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A model's `serving_default` as a function from an image to its outputs by name.

    The image is (1, height, width, 3), RGB in [0, 255]; it is quantized for a model with integer input.
    """
    runner = interpreter(content).get_signature_runner("serving_default")
    [(name, detail)] = runner.get_input_details().items()
    return lambda image: runner(**{name: quantized(image, detail)})


def output_names(content: bytes) -> list[str]:
    """The names of the outputs of `serving_default`, in the order of the model's output tensors."""
    loaded = interpreter(content)
    by_tensor = {
        detail["name"]: name
        for name, detail in loaded.get_signature_runner("serving_default").get_output_details().items()
    }
    return [by_tensor[detail["name"]] for detail in loaded.get_output_details()]


def quantized(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Quantizes floats as a tensor's details say."""
    scale, zero_point = detail["quantization"]
    if detail["dtype"] == np.float32:
        return values.astype(np.float32)
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def dequantized(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Dequantizes a tensor's values to floats."""
    scale, zero_point = detail["quantization"]
    return values if detail["dtype"] == np.float32 else ((values.astype(np.float32) - zero_point) * scale)


def operations(content: bytes) -> tuple[dict[str, int], int, int]:
    """Counts the ops of a model, and the partitions that the CPU's delegate runs.

    Returns:
        (dict from op name to count, partitions, custom or Flex ops).
    """
    # The interpreter has no public list of its nodes; the delegate's partitions are separate nodes.
    names = [node["op_name"] for node in interpreter(content)._get_ops_details()]
    counts = collections.Counter(names)
    partitions = counts.pop("DELEGATE", 0)
    return (
        dict(counts.most_common()),
        partitions,
        sum(n for name, n in counts.items() if name.startswith(("Flex", "CUSTOM"))),
    )


def tensors_behind(content: bytes, op: str) -> list[str]:
    """The names of the tensors that a model computes after its last ops of a kind.

    Args:
        content: A TFLite model's bytes.
        op: The kind of op, such as "RESHAPE".

    Returns:
        The outputs of the ops from there to the model's outputs, the last one first.
    """
    loaded = _loaded(content)  # not allocated, so that its ops are not yet inside a delegate
    makers = {index: node for node in loaded._get_ops_details() for index in node["outputs"]}
    waiting = [detail["index"] for detail in loaded.get_output_details()]
    found: dict[str, None] = {}
    while waiting:
        index = waiting.pop(0)
        if index in makers and makers[index]["op_name"] != op:
            found[loaded._get_tensor_details(index, 0)["name"]] = None
            waiting.extend(makers[index]["inputs"])
    return list(found)


def is_fully_delegated(content: bytes) -> bool | None:
    """Whether LiteRT's CompiledModel runs no op by the slow built-in kernels; None if it is not installed."""
    return None if CompiledModel is None else CompiledModel.from_buffer(content).is_fully_accelerated()


def latencies(
    contents: dict[str, bytes], num_threads: int, runs: int, image: np.ndarray | None = None
) -> dict[str, float]:
    """Measures the median milliseconds of one invocation; the models take turns.

    Args:
        contents: Dict from a name to a TFLite model's bytes.
        num_threads: Threads of each model.
        runs: Number of rounds; each invokes every model once.
        image: (1, height, width, 3), RGB in [0, 255], for all images of a batch: a detector's suppression takes the
            longer the more it finds. None: zeros.
    """
    loaded = {name: interpreter(content, num_threads) for name, content in contents.items()}
    times: dict[str, list[float]] = {name: [] for name in loaded}
    for model in loaded.values():
        if image is not None:
            detail = model.get_input_details()[0]
            model.set_tensor(detail["index"], quantized(np.broadcast_to(image, detail["shape"]), detail))
        for _ in range(3):
            model.invoke()
    for _ in range(runs):
        for name, model in loaded.items():
            start = time.perf_counter()
            model.invoke()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def machine() -> str:
    """The processor and the number of cores, in words."""
    return f"{processor()}, {os.cpu_count()} cores"
