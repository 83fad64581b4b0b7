"""The loss, the learning rate and the optimizer of the official recipe."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.recipe import Recipe


def build_learning_rate(recipe: Recipe, steps_per_epoch: float, total_steps: int | None = None) -> "LearningRate":
    """The learning rate as a function of the step.

    Args:
        recipe: A `Recipe`; the peak is its base rate times its batch size over 256.
        steps_per_epoch: A float, as in the reference.
        total_steps: Where the cosine ends; only that schedule needs it.

    Returns:
        A Keras schedule: called with the step, counted before its increment, it gives a float32 scalar.

    Raises:
        ValueError: For an unknown schedule, or a cosine without an end.

    Source: mnasnet_utils.py:build_learning_rate. The decay counts from step 0, so the rate drops
    as the warm-up ends; the cosine, which the reference does without, starts where the warm-up ends.
    """
    schedule = recipe.learning_rate_schedule
    if schedule not in _SCHEDULES:
        raise InputError(f"Unknown learning_rate_schedule {schedule!r}; expected exponential, cosine or constant.")
    if schedule == "cosine" and total_steps is None:
        raise InputError("The cosine schedule needs total_steps, the step at which it reaches 0.")
    return LearningRate(
        schedule,
        peak=recipe.base_learning_rate * recipe.train_batch_size / 256,
        warmup_steps=int(recipe.warmup_epochs * steps_per_epoch),
        decay_steps=recipe.decay_epochs * steps_per_epoch,
        decay_factor=recipe.decay_factor,
        total_steps=total_steps,
    )


_SCHEDULES = ("exponential", "cosine", "constant")


@keras.saving.register_keras_serializable("mixnet_tf")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """A rise from 0 to the peak, then what `build_learning_rate` describes.

    Args:
        schedule: "exponential", "cosine" or "constant".
        peak: The rate at the end of the warm-up.
        warmup_steps: Of the warm-up; 0 for none.
        decay_steps: exponential: steps between two drops, a float.
        decay_factor: exponential: what a drop multiplies the rate by.
        total_steps: cosine: where it reaches 0.
    """

    def __init__(
        self,
        schedule: str,
        peak: float,
        warmup_steps: Any,
        decay_steps: Any,
        decay_factor: float,
        total_steps: int | None,
    ) -> None:
        self._config = {
            "schedule": schedule,
            "peak": peak,
            "warmup_steps": warmup_steps,
            "decay_steps": decay_steps,
            "decay_factor": decay_factor,
            "total_steps": total_steps,
        }
        self._peak = peak
        self._warmup_steps = warmup_steps

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        if self._warmup_steps == 0:
            return self._decayed(step)
        return tf.where(step < self._warmup_steps, self._peak * step / self._warmup_steps, self._decayed(step))

    def _decayed(self, step):
        config = self._config
        if config["schedule"] == "exponential":
            decay_steps = tf.constant(config["decay_steps"], tf.float32)
            return self._peak * tf.pow(tf.constant(config["decay_factor"], tf.float32), tf.floor(step / decay_steps))
        if config["schedule"] == "cosine":
            progress = (step - self._warmup_steps) / max(1, config["total_steps"] - self._warmup_steps)
            return self._peak * 0.5 * (1 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
        return tf.fill(tf.shape(step), tf.constant(self._peak, tf.float32))

    def get_config(self) -> dict[str, Any]:
        return dict(self._config)


@keras.saving.register_keras_serializable("mixnet_tf")
class RMSProp(keras.optimizers.Optimizer):
    """TensorFlow 1's RMSProp, which Keras' differs from.

    The mean square starts at one, epsilon is inside the root, and the learning rate inside the momentum:
    ms = decay ms + (1 - decay) g^2; mom = momentum mom + lr g / sqrt(ms + epsilon); w -= mom.

    Args:
        learning_rate: A float or a Keras schedule.
        decay: Decay of the mean square.
        momentum: Decay of the momentum.
        epsilon: Added inside the root.

    Source: tf.compat.v1.train.RMSPropOptimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-3,
        name: str = "rmsprop",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.decay = decay
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._mean_squares = self._slots(variables, "mean_square", "ones")
        self._momentums = self._slots(variables, "momentum", "zeros")

    def _slots(self, variables, name, initializer):
        return [self.add_variable_from_reference(v, name=name, initializer=initializer) for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=self._mean_squares[index].value.handle,
            mom=self._momentums[index].value.handle,
            lr=learning_rate,
            rho=self.decay,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay, "momentum": self.momentum, "epsilon": self.epsilon}


def build_optimizer(recipe: Recipe, learning_rate: Any) -> keras.optimizers.Optimizer:
    """The recipe's optimizer.

    Source: mnasnet_utils.py:build_optimizer; the reference has no "sgd".
    """
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(learning_rate, recipe.momentum, nesterov=True)
    return RMSProp(learning_rate, recipe.rmsprop_decay, recipe.momentum, recipe.rmsprop_epsilon)


def smoothed_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Cross-entropy of each example against a target of which a fraction is spread over all classes.

    Args:
        logits: float32 (batch, classes).
        labels: int32 (batch,).
        label_smoothing: The fraction.

    Returns:
        float32 (batch,).
    """
    classes = logits.shape[-1]
    target = tf.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)


def decayed_variables(model: keras.Model) -> list[Any]:
    """The trainables that the L2 term covers: all but batch normalization's scales and offsets.

    Source: mnasnet_main.py:mnasnet_model_fn, which leaves out names with "batch_normalization".
    """
    spared = set()
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            spared |= {id(layer.gamma), id(layer.beta)}
    return [variable for variable in model.trainable_variables if id(variable) not in spared]


def _layers(model):
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def l2_loss(variables: Sequence[Any]) -> tf.Tensor:
    """Half the sum of all squares, float32 scalar."""
    return tf.add_n([tf.nn.l2_loss(variable) for variable in variables])
