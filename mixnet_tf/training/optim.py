"""The loss, the learning rate and the optimizer of the official recipe."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.optimizers import LearningRate, RMSProp
from mixnet_tf.recipe import ADAMW, SGD, Recipe


def build_learning_rate(recipe: Recipe, steps_per_epoch: float, total_steps: int | None = None) -> LearningRate:
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
    if schedule not in ("exponential", "cosine", "constant"):
        raise InputError(f"Unknown learning_rate_schedule {schedule!r}; expected exponential, cosine or constant.")
    if schedule == "cosine" and total_steps is None:
        raise InputError("The cosine schedule needs total_steps, the step at which it reaches 0.")
    return LearningRate(
        schedule,
        peak=recipe.peak_learning_rate,
        warmup_steps=int(recipe.warmup_epochs * steps_per_epoch),
        decay_steps=recipe.decay_epochs * steps_per_epoch,
        decay_factor=recipe.decay_factor,
        total_steps=total_steps,
        minimum=recipe.minimum_learning_rate,
    )


def build_optimizer(recipe: Recipe, learning_rate: Any, variables: Sequence[Any]) -> keras.optimizers.Optimizer:
    """The recipe's optimizer, with its slots.

    AdamW decays neither batch normalization nor biases, which are the variables of one dimension.

    Args:
        recipe: A `Recipe`.
        learning_rate: A float or a Keras schedule.
        variables: The trainable variables.

    Source: mnasnet_utils.py:build_optimizer; the reference has neither "sgd" nor "adamw". What is decayed: timm 1.0.31,
    optim/_param_groups.py:param_groups_weight_decay.
    """
    if recipe.optimizer == ADAMW:
        optimizer = keras.optimizers.AdamW(learning_rate, recipe.weight_decay, beta_1=recipe.momentum)
        optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
    elif recipe.optimizer == SGD:
        optimizer = keras.optimizers.SGD(learning_rate, recipe.momentum, nesterov=True)
    else:
        optimizer = RMSProp(learning_rate, recipe.rmsprop_decay, recipe.momentum, recipe.rmsprop_epsilon)
    optimizer.build(list(variables))
    return optimizer


def clip_gradients(gradients: Sequence[tf.Tensor], clip_norm: float) -> list[tf.Tensor]:
    """Scales a replica's gradients so that the global norm of their sums over replicas is at most `clip_norm`.

    Keras' `global_clipnorm` clips before the sums, each replica's gradients by a norm of their own.
    """
    context = tf.distribute.get_replica_context()
    norm = tf.linalg.global_norm(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)))
    return [gradient * (clip_norm / tf.maximum(norm, clip_norm)) for gradient in gradients]


def smoothed_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Cross-entropy of each example against a target of which a fraction is spread over all classes.

    Args:
        logits: float32 (batch, classes).
        labels: int32 (batch,), or soft labels, float32 (batch, classes).
        label_smoothing: The fraction.

    Returns:
        float32 (batch,).
    """
    classes = logits.shape[-1]
    target = tf.one_hot(labels, classes) if labels.dtype.is_integer else labels
    target = target * (1 - label_smoothing) + label_smoothing / classes
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
