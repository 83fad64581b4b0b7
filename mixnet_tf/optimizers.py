"""The recipe's optimizer and learning rate schedule, which Keras finds in saved models after `import mixnet_tf`."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("mixnet_tf")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The recipe's learning rate: a linear warm-up from 0 to the peak, then one of three schedules above a minimum.

    Args:
        schedule: "exponential": the rate drops by a factor at regular steps, counted from step 0. "cosine": it follows
            a cosine from the end of the warm-up to 0. "constant": it stays at the peak.
        peak: Learning rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up; 0: no warm-up.
        decay_steps: exponential: steps between two drops, a float.
        decay_factor: exponential: factor of each drop.
        total_steps: cosine: step at which the rate reaches 0.
        minimum: Lowest rate after the warm-up.
    """

    def __init__(
        self,
        schedule: str,
        peak: float,
        warmup_steps: Any,
        decay_steps: Any,
        decay_factor: float,
        total_steps: int | None,
        minimum: float = 0.0,
    ) -> None:
        self._config = {
            "schedule": schedule,
            "peak": peak,
            "warmup_steps": warmup_steps,
            "decay_steps": decay_steps,
            "decay_factor": decay_factor,
            "total_steps": total_steps,
            "minimum": minimum,
        }
        self._peak = peak
        self._warmup_steps = warmup_steps
        self._minimum = minimum

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        decayed = self._decayed(step)
        if self._minimum > 0:
            decayed = tf.maximum(decayed, self._minimum)
        if self._warmup_steps == 0:
            return decayed
        return tf.where(step < self._warmup_steps, self._peak * step / self._warmup_steps, decayed)

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
    """TensorFlow 1's RMSProp.

    It differs from `keras.optimizers.RMSprop`: the mean square starts at one, epsilon is added inside the root, and the
    learning rate is applied before the momentum:
    ms = decay ms + (1 - decay) g^2; mom = momentum mom + lr g / sqrt(ms + epsilon); w -= mom.

    Args:
        learning_rate: A float or a Keras learning rate schedule.
        decay: Decay of the mean square of the gradients.
        momentum: Decay of the momentum.
        epsilon: Number added inside the root.

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
