"""One training step of a recipe, under any `tf.distribute` strategy."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.detection import is_detector
from mixnet_tf.errors import InputError
from mixnet_tf.networks import find_classifier, is_mixnets
from mixnet_tf.recipe import Recipe
from mixnet_tf.training.ema import moving_average_decay, update_moving_average
from mixnet_tf.training.objectives import Objective, classification
from mixnet_tf.training.optim import (
    build_learning_rate,
    build_optimizer,
    clip_gradients,
    decayed_variables,
    l2_loss,
)

_SUM = tf.distribute.ReduceOp.SUM


class Trainer:
    """Trains a model by a recipe, and keeps the EMA of its weights and statistics.

    Args:
        model: A Keras model from images to logits, or to the outputs that another objective takes; built inside
            `strategy.scope()`.
        recipe: A `Recipe`.
        steps_per_epoch: A float, as in the reference.
        strategy: A `tf.distribute.Strategy`; None for the current one.
        total_steps: Number of steps of the whole run; only the cosine schedule needs it.
        jit_compile: Whether XLA compiles the step of each replica. On a TPU it always does; on a CPU it makes
            depthwise convolutions ten times slower.
        objective: The loss to minimize; None for the recipe's `classification`.

    Attributes:
        model: The model with raw weights.
        ema_model: The model with EMA weights; the same object as `model` if the recipe has no EMA.
        optimizer: The optimizer; its `iterations` is the step.
        replica_step: The `tf.function` that each replica runs in a step: (its images, its targets) -> dict of its share
            of the loss and of the metrics.

    Raises:
        ValueError: If the model ends in an activation, if the batch size is not a multiple of the number of
            replicas, or if there is nothing to train.

    Source: mnasnet_main.py:mnasnet_model_fn.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        steps_per_epoch: float,
        strategy: tf.distribute.Strategy | None = None,
        total_steps: int | None = None,
        jit_compile: bool = False,
        objective: Objective | None = None,
    ) -> None:
        self.objective = classification(recipe) if objective is None else objective
        self.strategy = tf.distribute.get_strategy() if strategy is None else strategy
        self.recipe = recipe
        self.model = model
        replicas = self.strategy.num_replicas_in_sync
        if recipe.train_batch_size % replicas:
            raise InputError(f"train_batch_size={recipe.train_batch_size} does not divide over {replicas} replicas.")
        last = getattr(model.layers[-1], "activation", keras.activations.linear)
        if last is not keras.activations.linear:
            raise InputError(
                f"The model ends in {last.__name__}; training takes logits: build it with classifier_activation=None."
            )
        if recipe.sync_batch_norm:
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        _freeze(model, recipe.freeze)
        self._decayed = decayed_variables(model)
        with self.strategy.scope():
            self.learning_rate = build_learning_rate(recipe, steps_per_epoch, total_steps)
            self.optimizer = build_optimizer(recipe, self.learning_rate, model.trainable_variables)
            if recipe.moving_average_decay > 0:
                self.ema_model = keras.models.clone_model(model)
                self.ema_model.set_weights(model.get_weights())
            else:
                self.ema_model = model
        self.replica_step = tf.function(self._step_of_replica, jit_compile=jit_compile)

    @property
    def step(self) -> int:
        """The number of steps taken, a Python int."""
        return int(self.optimizer.iterations.numpy())

    def is_finite(self) -> bool:
        """Whether all weights, averages and optimizer slots are finite."""
        variables = [*self.model.weights, *self.ema_model.weights, *self.optimizer.variables]
        return bool(_all_finite([v.value for v in variables if v.dtype == "float32"]))

    def any_host(self, flag: bool) -> bool:
        """Whether the bool `flag` is true on any host; every host has to call this at the same step."""
        if not isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return flag  # of the only host
        value = tf.constant(float(flag))
        per_replica = self.strategy.run(lambda: tf.identity(value))
        return bool(self.strategy.reduce(_SUM, per_replica, axis=None) > 0)

    def train_step(self, images: Any, targets: Any) -> dict[str, tf.Tensor]:
        """Trains one step on a global batch.

        Args:
            images: Input of the model, (train_batch_size, height, width, 3).
            targets: Targets of the objective: labels, int (train_batch_size,), from 0, or soft labels, float32
                (train_batch_size, classes); or a dict of tensors.

        Returns:
            A dict of float32 scalars over all replicas: "loss" (with L2), the metrics of the objective (for
            classification "cross_entropy" and, unless the recipe mixes images, "top_1_accuracy"), and the
            "learning_rate" of this step.
        """
        images, targets = tf.convert_to_tensor(images), tf.nest.map_structure(_as_target, targets)
        own = len(images) // self.strategy.num_replicas_in_sync

        def of_replica(tensor):
            def value(context):
                return tensor[context.replica_id_in_sync_group * own :][:own]

            return self.strategy.experimental_distribute_values_from_function(value)

        return self._train_step(of_replica(images), tf.nest.map_structure(of_replica, targets))

    @tf.function
    def _train_step(self, images, targets):
        return self._run(images, targets)

    @tf.function
    def train_steps(self, batches: Any, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Trains several steps on the next batches of an iterator.

        Args:
            batches: An iterator of the strategy's distributed dataset of (images, targets).
            steps: Scalar int32 tensor.

        Returns:
            The dict of `train_step`, averaged over the steps, except that "learning_rate" is the last step's;
            and "first_bad_step": the number of steps before the first whose loss was not finite, or -1.
        """
        totals = {name: tf.constant(0.0) for name in ("loss", *self.objective.names)}
        rate = tf.constant(0.0)
        first_bad_step = tf.constant(-1, self.optimizer.iterations.dtype)
        for _ in tf.range(steps):
            step = tf.identity(self.optimizer.iterations.value)  # read before the step increments it
            metrics = self._run(*next(batches))
            bad = tf.logical_not(tf.math.is_finite(metrics["loss"]))
            first_bad_step = tf.where(bad & (first_bad_step < 0), step, first_bad_step)
            rate = metrics["learning_rate"]
            totals = {name: total + metrics[name] for name, total in totals.items()}
        averages = {name: total / tf.cast(steps, tf.float32) for name, total in totals.items()}
        return {**averages, "learning_rate": rate, "first_bad_step": first_bad_step}

    def _run(self, images, targets):
        rate = self.learning_rate(self.optimizer.iterations.value)
        per_replica = self.strategy.run(self.replica_step, args=(images, targets))
        summed = {name: self.strategy.reduce(_SUM, value, axis=None) for name, value in per_replica.items()}
        return {**summed, "learning_rate": rate}

    def _step_of_replica(self, images, targets):
        """A step of one replica, in the reference's order: loss, statistics, optimizer, step, EMA."""
        replicas = self.strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            share, measured = self.objective.share(self.model(images, training=True), targets)
            # Gradients and metrics are summed over replicas, but L2 has to count once.
            loss = share + self.recipe.l2_factor * l2_loss(self._decayed) / replicas
        gradients = tape.gradient(loss, self.model.trainable_variables)
        if self.recipe.clip_norm is not None:
            gradients = clip_gradients(gradients, self.recipe.clip_norm)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        if self.ema_model is not self.model:
            decay = moving_average_decay(self.recipe.moving_average_decay, self.optimizer.iterations)
            update_moving_average(self.ema_model.weights, self.model.weights, decay)
        return {"loss": loss, **dict(zip(self.objective.names, measured, strict=True))}


@contextlib.contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Within its `with` block, Keras builds layers of a recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _freeze(model, part):
    """Freezes the layers that `Recipe.freeze` names; frozen layers stay frozen."""
    classifier = find_classifier(model)
    behind = [] if classifier is None else [classifier]
    if is_detector(model):
        behind = [layer for layer in model.layers if not is_mixnets(layer)]
    if part == "backbone" and not behind:
        raise InputError(
            f"freeze='backbone' trains only the layer head_dense, or a detector's own layers; model {model.name!r} has "
            "neither."
        )
    for layer in model.layers:
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        if (part == "bn" and normalizes) or (part == "backbone" and layer not in behind):
            layer.trainable = False


def _as_target(value):
    tensor = tf.convert_to_tensor(value)
    return tf.cast(tensor, tf.int32) if tensor.dtype.is_integer else tensor


def _all_finite(variables):
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable)) for variable in variables])
