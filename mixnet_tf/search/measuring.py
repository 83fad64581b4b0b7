"""Measures networks on held-out images, each with its own statistics of batch normalization."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, eval_batches, measuring_batches, naming_corrupt_images
from mixnet_tf.evaluation import is_among, top_classes
from mixnet_tf.networks import BatchNormalization
from mixnet_tf.recipe import Recipe
from mixnet_tf.search.blocks import SearchableBlock
from mixnet_tf.training import Interruption, measure_statistics

_MEASURED_IMAGES = 512  # most images that the statistics of batch normalization are measured on
_CACHED_IMAGES = 8192  # most images, training and held out, that are cached in memory, encoded; about 1 GB for ImageNet
_BATCH = 128


class Interrupted(Exception):
    """A signal was received while a network was measured.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def stop_if_asked(interruption: Interruption) -> None:
    """Raises `Interrupted` if a signal was received."""
    if interruption.requested is not None:
        raise Interrupted(interruption.requested)


class Data(NamedTuple):
    """The data on which networks are compared.

    Attributes:
        train: The `data.Split` to train on.
        held_out: The `data.Split` to measure on.
    """

    train: Split
    held_out: Split

    @property
    def use_cache(self) -> bool:
        """Whether the images are few enough to be cached in memory, encoded."""
        return self.train.num_examples + self.held_out.num_examples <= _CACHED_IMAGES


class Scores:
    """Measures logits on the held-out images, with one trace.

    Args:
        logits: A function from images, and further arguments, to logits.
        data: `Data`.
        recipe: The `Recipe`; its image size and `resizing` are taken.
    """

    def __init__(self, logits: Callable[..., tf.Tensor], data: Data, recipe: Recipe) -> None:
        self._split = data.held_out
        batch = min(_BATCH, data.held_out.num_examples)
        self._batches = eval_batches(data.held_out, recipe.image_size, batch, recipe.resizing, use_cache=data.use_cache)

        @tf.function
        def sums(images, labels, mask, *others):
            found = tf.cast(logits(images, *others), tf.float32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, found)
            hits = is_among(labels, top_classes(found, 1))
            return tf.stack([tf.reduce_sum(values * mask) for values in (losses, hits)])

        self.sums = sums

    def __call__(self, *others: tf.Tensor) -> dict[str, float]:
        """Dict of "cross_entropy", without label smoothing, and "top_1_accuracy" over the held-out images."""
        totals = np.zeros(2)
        with naming_corrupt_images(self._split):
            for images, labels, mask in self._batches:
                totals += self.sums(images, labels, mask, *others).numpy()
        cross_entropy, hits = totals / self._split.num_examples
        return {"cross_entropy": float(cross_entropy), "top_1_accuracy": float(hits)}


class Measurement:
    """Measures networks of a supernet on held-out images, with one trace for all networks.

    Args:
        model: A supernet from `build_supernet`.
        data: `Data`.
        recipe: The `Recipe`; its image size and `resizing` are taken.
    """

    def __init__(self, model: keras.Model, data: Data, recipe: Recipe) -> None:
        self._train = data.train
        self._normalizations = _normalizations(model)
        self._scores = Scores(lambda images, choice: model([images, choice], training=False), data, recipe)
        images = data.train.num_examples
        batch = min(_BATCH, images)
        count = max(1, min(_MEASURED_IMAGES, images) // batch)
        self._batches = measuring_batches(data.train, recipe.image_size, batch, recipe.resizing).take(count)

        @tf.function
        def forward(images, choice):
            model([images, choice], training=True)

        self._forward = forward

    def __call__(self, choice: Sequence[int]) -> dict[str, float]:
        """Sets the statistics of batch normalization to those of a network, and returns its `Scores`."""
        taken = tf.constant([choice], tf.int32)
        with naming_corrupt_images(self._train):
            measure_statistics(self._normalizations, lambda images: self._forward(images, taken), self._batches)
        return self._scores(taken)


def _normalizations(model):
    found = []
    for layer in model.layers:
        if isinstance(layer, SearchableBlock):
            found += layer.normalizations()
        elif isinstance(layer, BatchNormalization):
            found.append(layer)
    return found
