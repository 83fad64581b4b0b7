"""Measures the statistics of batch normalization again after training."""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, measuring_batches
from mixnet_tf.networks import BatchNormalization
from mixnet_tf.recipe import Recipe

_BATCH = 128  # images per replica, as many as in the reference; fewer give other moments
_MAX_BATCHES = 10  # batches per replica


def recalibrate(
    model: keras.Model, split: Split, recipe: Recipe, strategy: tf.distribute.Strategy | None = None
) -> None:
    """Sets a model's moving statistics to the moments of training images, prepared as for evaluation.

    The moments in training come from small batches of augmented images, and differ from those of new images; so does
    their moving average. Here each batch normalization takes the mean of its moments over up to ten batches, which pass
    through the network in training mode. Frozen layers keep their statistics.

    Args:
        model: A Keras model from images of a fixed size.
        split: The `data.Split` that the model was trained on.
        recipe: The `Recipe` of its training.
        strategy: A `tf.distribute.Strategy`; None for the current one. Each replica uses different images.

    Source: arXiv:2105.07576, section 3 (precise statistics); not in the reference.
    """
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    normalizations = [layer for layer in model.layers if isinstance(layer, BatchNormalization) and layer.trainable]

    @tf.function
    def forward(images):
        strategy.run(lambda own: model(own, training=True), args=(images,))

    measure_statistics(normalizations, forward, _batches(strategy, split, recipe))


def measure_statistics(normalizations: Sequence[BatchNormalization], forward: Callable, batches: Iterable) -> None:
    """Sets moving statistics to the mean of the moments of some batches.

    Args:
        normalizations: The batch normalization layers.
        forward: A function of a batch that runs them in training mode. If it is a `tf.function`, it must not be used
            elsewhere, because it is traced with a momentum of 0.
        batches: At least one batch.
    """
    statistics = [v for layer in normalizations for v in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in normalizations]
    sums, count = [0.0] * len(statistics), 0
    try:
        for layer in normalizations:
            layer.momentum = 0.0  # so that the moving statistics are those of the last batch
        for batch in batches:
            forward(batch)
            sums = [total + np.float64(variable) for total, variable in zip(sums, statistics, strict=True)]
            count += 1
    finally:
        for layer, momentum in zip(normalizations, momenta, strict=True):
            layer.momentum = momentum
    for variable, total in zip(statistics, sums, strict=True):
        variable.assign(total / count)


def _batches(strategy, split, recipe):
    def of_host(context):
        hosts = context.num_input_pipelines
        own = (
            split.num_examples // hosts // (strategy.num_replicas_in_sync // hosts)
        )  # images per replica, rounded down
        batch_size = max(1, min(_BATCH, own))
        count = max(1, min(_MAX_BATCHES, own // batch_size)) * (strategy.num_replicas_in_sync // hosts)
        return measuring_batches(
            split, recipe.image_size, batch_size, recipe.resizing, context.input_pipeline_id, hosts
        ).take(count)

    return strategy.distribute_datasets_from_function(of_host)
