"""What runs of one process share in tests: to trace and compile is most of what a short run costs.

A trainer comes in the state of a new one. Pipelines and evaluators have no state.
"""

import keras
import tensorflow as tf
from tensorflow.python.framework import config  # whether determinism is on is told by no public function

from mixnet_tf.data import Split
from mixnet_tf.networks import steps
from mixnet_tf.recipe import Recipe
from mixnet_tf.training import Trainer, run, tasks

# Fields of a recipe that decide the batches, and nothing about a step.
_OF_THE_DATA = (
    *("name", "train_epochs", "train_steps", "crop", "interpolation", "flip", "shift", "zoom", "rotation", "seed"),
    *("randaugment_layers", "randaugment_magnitude", "color_jitter", "erasing"),
)
_TRAINERS = {}  # a trainer and the state of its optimizer at the start, by what was compiled
_REMEMBERED = {}  # the arguments of a call and what it gave


def shared(model, recipe, steps_per_epoch, strategy, total_steps=None, jit_compile=False, objective=None):
    """A `Trainer` of these arguments at its first step: one that an earlier call made, where it compiled the same."""
    step = recipe._replace(
        **{name: Recipe._field_defaults[name] for name in _OF_THE_DATA}, recalibrate_batch_norm=False
    )
    how = (_same(strategy), jit_compile, _is_deterministic(), _forms(model))
    key = (model.to_json(), repr(step), steps_per_epoch, total_steps, *how)
    if key not in _TRAINERS:
        trainer = Trainer(model, recipe, steps_per_epoch, strategy, total_steps, jit_compile, objective)
        _TRAINERS[key] = trainer, [variable.numpy() for variable in trainer.optimizer.variables]
        return trainer
    trainer, slots = _TRAINERS[key]
    trainer.recipe = recipe
    values = [variable.numpy() for variable in model.variables]
    for own in (trainer.model, trainer.ema_model):
        for variable, value in zip(own.variables, values, strict=True):
            variable.assign(value)
    for variable, value in zip(trainer.optimizer.variables, slots, strict=True):
        variable.assign(value)
    return trainer


def _forms(model):
    """What `set_forms` has set, which the model's JSON does not tell."""
    return tuple(getattr(step, name, None) for step in steps(model) for name in ("dense", "one_pass"))


def share(patch):
    """Lets the runs of this process share trainers, pipelines and evaluators until the patch is undone."""
    patch.setattr(run, "Trainer", shared)
    for name in ("train_batches", "train_object_batches", "build_evaluator", "_build_detection_evaluator"):
        patch.setattr(tasks, name, _remembering(getattr(tasks, name)))


def _remembering(function):
    def call(*arguments):
        key = (function.__name__, *map(_same, arguments), _is_deterministic())
        if key not in _REMEMBERED:
            _REMEMBERED[key] = arguments, function(*arguments)  # the arguments, so that no other gets their identity
        return _REMEMBERED[key][1]

    return call


def _same(argument):
    """Equal for arguments of equal meaning."""
    if isinstance(argument, Split) and argument.dataset in ("digits", "digit_scenes"):
        return repr(argument._replace(read=None, overlaps=None))
    return id(argument) if isinstance(argument, keras.Model | tf.distribute.Strategy | Split) else repr(argument)


def _is_deterministic():
    return config.is_op_determinism_enabled()
