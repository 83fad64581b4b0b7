"""Measures a network's activations, to find typical images and units of channels, in int8 and in half precision."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.networks import BatchNormalization, call, walk

_BATCH = 16  # images per batch
_SMALLEST = 1e-3  # smallest unit as a fraction of the tensor's largest one, for channels that are always zero


class Activations:
    """The largest absolute values after each batch normalization of a model, for each of some images.

    Args:
        model: A `keras.Model`; MixNet's layers may be in nested models.
        images: (images, size, size, 3), float32 in [0, 255].

    Attributes:
        largest: Dict from a batch normalization, or from an addition of several, to (images, channels).
    """

    def __init__(self, model: keras.Model, images: np.ndarray) -> None:
        self._added: dict[Any, Any] = {}  # from a layer to an addition that directly follows it
        steps = []
        spec = tf.TensorSpec((None, *images.shape[1:]), tf.float32)

        @tf.function(input_signature=[spec], autograph=False)  # traced once, so that each step is recorded once
        def largest(batch):
            found = []

            def apply(step, inputs):
                tensors, sources = zip(*inputs, strict=True)
                output = call(step, list(tensors))
                if _is_sum_of(step, sources):
                    self._added |= dict.fromkeys(sources, step)
                elif not isinstance(step, keras.layers.BatchNormalization):
                    return output, None
                steps.append(step)
                found.append(tf.reduce_max(tf.abs(output), list(range(1, len(output.shape) - 1))))
                return output, step

            walk(model, [(batch, None)], apply)
            return found

        batches = [largest(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        values = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        self.largest = dict(zip(steps, values, strict=True))
        self._num_images = len(images)

    def scores(self) -> np.ndarray:
        """Scores how strongly each image drives the network: the mean over batch normalizations of log(largest value).

        Returns:
            (images,); infinite if a value is not finite, 0 for a model without batch normalization.
        """
        normalizations = [v.max(-1) for step, v in self.largest.items() if not isinstance(step, keras.layers.Add)]
        if not normalizations:
            return np.zeros(self._num_images)
        logs = np.log(np.maximum(normalizations, np.finfo(np.float32).tiny))
        return np.nan_to_num(logs.mean(0), nan=np.inf)

    def units(self, chosen: Any = slice(None)) -> dict[keras.layers.Layer, np.ndarray]:
        """The largest absolute value of each channel after each batch normalization of a MixNet.

        int8 has one scale per tensor, so a channel a hundred times smaller than another loses its precision. In
        units of its own range, each channel uses all of int8. This is exact in real numbers, is folded into the
        kernels before and after, and costs nothing except at swish, whose sigmoid needs the original values. Blocks
        that are added share their units.

        Args:
            chosen: Indices of the images to use.

        Returns:
            Dict from a batch normalization to float64 (channels,), all above 0.

        Source: cross-layer equalization, arXiv:1906.04721, section 4.1, with measured ranges; the treatment of swish is
        ours.
        """
        ranges = self._ranges(chosen)
        return {step: np.maximum(top, _SMALLEST * top.max()) for step, top in ranges.items() if top.max() > 0}

    def powers_of_two(self, limit: float) -> dict[keras.layers.Layer, np.ndarray]:
        """Units, powers of two, in which no channel after a batch normalization exceeds a limit.

        Args:
            limit: The largest absolute value that a channel may have.

        Returns:
            As `units`; only the batch normalizations that have a channel with a unit above 1. A channel that is not
            finite keeps 1.
        """
        units = {}
        for step, top in self._ranges().items():
            exponents = np.ceil(np.log2(np.maximum(np.where(np.isfinite(top), top, 0.0) / limit, 1.0)))
            if exponents.any():
                units[step] = np.exp2(exponents)
        return units

    def _ranges(self, chosen=slice(None)):
        """The largest absolute value of each channel after each batch normalization; blocks that are added share it."""
        by_end: dict[Any, np.ndarray] = {}
        for step, values in self.largest.items():
            end = self._last_sum(step)
            by_end[end] = np.maximum(by_end.get(end, 0.0), values[chosen].max(0).astype(np.float64))
        return {step: by_end[self._last_sum(step)] for step in self.largest if isinstance(step, BatchNormalization)}

    def _last_sum(self, step):
        while step in self._added:
            step = self._added[step]
        return step


def _is_sum_of(step, sources):
    return isinstance(step, keras.layers.Add) and None not in sources
