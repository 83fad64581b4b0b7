"""Dropout with masks that differ between replicas, of single values or of whole images."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("mixnet_tf")
class Dropout(keras.layers.Dropout):
    """Keras' dropout with a different mask on each replica; its seed is a weight of the layer."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        context = tf.distribute.get_replica_context()  # None directly inside a strategy's scope
        replica = 0 if context is None else context.replica_id_in_sync_group
        seed = tf.random.experimental.stateless_fold_in(self.seed_generator.next(), replica)
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed, noise_shape=self._mask_shape(inputs))

    def _mask_shape(self, inputs):
        if self.noise_shape is None:
            return None
        sizes = zip(self.noise_shape, tf.unstack(tf.shape(inputs)), strict=True)
        return tf.stack([own if size is None else size for size, own in sizes])


@keras.saving.register_keras_serializable("mixnet_tf")
class DropPath(Dropout):
    """Stochastic depth: sets all of an image's values to 0, and scales those of the other images by 1 / (1 - rate).

    Args:
        rate: Probability of dropping an image.

    Input and output: (batch, height, width, channels).

    Source: arXiv:1603.09382; timm 1.0.31, layers/drop.py:drop_path, with `scale_by_keep`.
    """

    def __init__(self, rate: float, noise_shape: Any = (None, 1, 1, 1), **kwargs: Any) -> None:
        super().__init__(rate, noise_shape, **kwargs)
