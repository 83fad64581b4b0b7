"""Compiled trainers that tests share: to trace and compile a step is most of what a short run costs."""

from tensorflow.python.framework import config  # whether determinism is on is told by no public function

from mixnet_tf.recipe import Recipe
from mixnet_tf.training import Trainer, preparation

# Fields of a recipe that decide the batches, and nothing about a step.
_OF_THE_DATA = ("name", "train_epochs", "train_steps", "crop", "flip", "shift", "zoom", "rotation", "seed")
_TRAINERS = {}  # of this process: a trainer and the state of its optimizer at the start, by what was compiled


def _models(trainer):
    return [trainer.model] if trainer.ema_model is trainer.model else [trainer.model, trainer.ema_model]


def shared(model, recipe, steps_per_epoch, strategy, total_steps=None, jit_compile=False, objective=None):
    """A `Trainer` of these arguments at its first step: one that an earlier call made, where it compiled the same."""
    step = recipe._replace(
        **{name: Recipe._field_defaults[name] for name in _OF_THE_DATA}, recalibrate_batch_norm=False
    )
    key = (
        model.to_json(),
        repr(step),
        steps_per_epoch,
        total_steps,
        id(strategy),
        jit_compile,
        config.is_op_determinism_enabled(),
    )
    if key not in _TRAINERS:
        trainer = Trainer(model, recipe, steps_per_epoch, strategy, total_steps, jit_compile, objective)
        _TRAINERS[key] = trainer, [variable.numpy() for variable in trainer.optimizer.variables]
        return trainer
    trainer, slots = _TRAINERS[key]
    trainer.recipe = recipe
    values = [variable.numpy() for variable in model.variables]
    for own in _models(trainer):
        for variable, value in zip(own.variables, values, strict=True):
            variable.assign(value)
    for variable, value in zip(trainer.optimizer.variables, slots, strict=True):
        variable.assign(value)
    return trainer


def share(patch):
    """Has every run of this process take its trainer from `shared`, until the patch is undone."""
    patch.setattr(preparation, "Trainer", shared)
