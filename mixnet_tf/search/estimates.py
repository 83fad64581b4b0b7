"""How good a network of a space is: trained for a few steps, or with weights that all networks share."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, eval_batches, measuring_batches, naming_corrupt_images, train_batches
from mixnet_tf.networks import BatchNormalization
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.search.blocks import SearchableBlock
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.search.supernet import build_supernet
from mixnet_tf.training import (
    Checkpointer,
    MetricsLog,
    Objective,
    Run,
    Settings,
    Task,
    Trainer,
    classification,
    decayed_variables,
    dtype_policy,
    fit,
    l2_loss,
    measure_statistics,
)

_MEASURED_IMAGES = 512  # that batch normalization's statistics are measured on, at most
_BATCH = 128
_STEPS_PER_LOOP = 10


class Interrupted(Exception):
    """A signal asked to stop while a network was measured."""


class Data(NamedTuple):
    """What networks are compared on.

    Attributes:
        train: The `data.Split` to train on.
        held_out: The one to measure on.
    """

    train: Split
    held_out: Split


def build_trainer(space: SearchSpace, classes: int, recipe: Recipe, num_images: int, total_steps: int) -> Trainer:
    """A trainer of a space's supernet, whose L2 term covers what a step's network has.

    Args:
        space: The space.
        classes: Number of classes.
        recipe: A `Recipe`; no average of the weights is kept.
        num_images: Of the training split.
        total_steps: Of the training.

    Returns:
        A `Trainer` that takes ((images, choice), {"label", "choice"}), a choice being int32 (1, alternatives).
    """
    random.seed(recipe.seed)
    with dtype_policy(recipe.precision):
        model = build_supernet(space, classes, (recipe.image_size, recipe.image_size, 3))
    # The trainer's own L2 term covers all weights.
    own = recipe._replace(weight_decay=0.0, moving_average_decay=0.0)
    steps_per_epoch = recipe.steps_per_epoch(num_images)
    return Trainer(model, own, steps_per_epoch, total_steps=total_steps, objective=_objective(recipe, model))


def _objective(recipe, model):
    base = classification(recipe)
    blocks = [layer for layer in model.layers if isinstance(layer, SearchableBlock)]
    of_blocks = {id(variable) for layer in blocks for variable in layer.trainable_variables}
    always = [variable for variable in decayed_variables(model) if id(variable) not in of_blocks]

    def share(outputs, targets):
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        loss, measured = base.share(outputs, targets["label"])
        l2 = l2_loss(always) + tf.add_n([layer.l2(targets["choice"][0]) for layer in blocks])
        return loss + recipe.weight_decay * l2 / replicas, measured

    return Objective(base.names, share)


class Measurement:
    """Measures networks of a supernet on held-out images, with one trace for all.

    Args:
        model: What `build_supernet` returned.
        data: `Data`.
        recipe: The `Recipe`; its image size and `crop` are taken.
    """

    def __init__(self, model: keras.Model, data: Data, recipe: Recipe) -> None:
        self._data = data
        self._normalizations = _normalizations(model)
        size, images = recipe.image_size, data.train.num_examples
        batch = min(_BATCH, images)
        count = max(1, min(_MEASURED_IMAGES, images) // batch)
        self._measuring = measuring_batches(data.train, size, batch, recipe.crop).take(count)
        self._held_out = eval_batches(data.held_out, size, batch, recipe.crop)

        @tf.function
        def forward(images, choice):
            model([images, choice], training=True)

        @tf.function
        def sums(images, labels, mask, choice):
            logits = tf.cast(model([images, choice], training=False), tf.float32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            hits = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
            return tf.stack([tf.reduce_sum(values * mask) for values in (losses, hits)])

        self._forward, self._sums = forward, sums

    def __call__(self, choice: Sequence[int]) -> dict[str, float]:
        """Sets the statistics of batch normalization to those of a network, and measures it.

        Returns:
            Dict of "cross_entropy", without label smoothing, and "top_1_accuracy" over the held-out images.
        """
        taken = tf.constant([choice], tf.int32)
        with naming_corrupt_images(self._data.train):
            measure_statistics(self._normalizations, lambda images: self._forward(images, taken), self._measuring)
        totals = np.zeros(2)
        with naming_corrupt_images(self._data.held_out):
            for images, labels, mask in self._held_out:
                totals += self._sums(images, labels, mask, taken).numpy()
        cross_entropy, hits = totals / self._data.held_out.num_examples
        return {"cross_entropy": float(cross_entropy), "top_1_accuracy": float(hits)}


def _normalizations(model):
    found = []
    for layer in model.layers:
        if isinstance(layer, SearchableBlock):
            found += layer.normalizations()
        elif isinstance(layer, BatchNormalization):
            found.append(layer)
    return found


class ShortTraining:
    """Estimates a network by training it for a few steps: each from the same weights, on the same images.

    Args:
        space: The space.
        data: `Data`.
        recipe: A `Recipe`; its schedule is shortened to the steps.
        steps: Of each network.
    """

    def __init__(self, space: SearchSpace, data: Data, recipe: Recipe, steps: int) -> None:
        images = data.train.num_examples
        shorter = steps / recipe.total_steps(images)
        recipe = recipe._replace(
            train_steps=steps,
            warmup_epochs=recipe.warmup_epochs * shorter,
            decay_epochs=recipe.decay_epochs * shorter,
        )
        self._data, self._recipe, self._steps = data, recipe, steps
        self._trainer = build_trainer(space, data.train.num_classes, recipe, images, steps)
        self._measure = Measurement(self._trainer.model, data, recipe)
        variables = [*self._trainer.model.variables, *self._trainer.optimizer.variables]
        self._first = [(variable, variable.numpy()) for variable in variables]

    def __call__(self, choice: Sequence[int], is_stopped: Callable[[], bool]) -> dict[str, float]:
        """Trains and measures a network.

        Args:
            choice: Of the space.
            is_stopped: Asked between steps.

        Returns:
            What `Measurement` does; an infinite cross-entropy if the loss is not finite.

        Raises:
            Interrupted: If `is_stopped` said so.
        """
        for variable, value in self._first:
            variable.assign(value)
        taken = tf.constant([choice], tf.int32)
        dataset = train_batches(self._data.train, self._recipe, self._recipe.train_batch_size).map(
            lambda images, labels: ((images, taken), {"label": labels, "choice": taken})
        )
        with naming_corrupt_images(self._data.train):
            batches = iter(dataset)
            while self._trainer.step < self._steps:
                if is_stopped():
                    raise Interrupted
                steps = min(_STEPS_PER_LOOP, self._steps - self._trainer.step)
                if int(self._trainer.train_steps(batches, tf.constant(steps))["first_bad_step"]) >= 0:
                    return {"cross_entropy": float("inf"), "top_1_accuracy": 0.0}
        return self._measure(choice)


class SharedWeights:
    """Estimates networks by a supernet trained once, each step with a network drawn uniformly.

    Args:
        space: The space.
        data: `Data`.
        recipe: The `Recipe` of the supernet's training.
        folder: Of the supernet's run: its checkpoints and metrics.

    Source: arXiv:1904.00420 (uniform sampling, statistics measured for each network).
    """

    def __init__(self, space: SearchSpace, data: Data, recipe: Recipe, folder: str) -> None:
        images = data.train.num_examples
        steps = recipe.total_steps(images)
        trainer = build_trainer(space, data.train.num_classes, recipe, images, steps)
        checkpointer = Checkpointer(trainer, folder)
        checkpointer.restore()
        config = RunConfig("supernet", data.train.num_classes, data.train.dataset, images, recipe)
        settings = Settings(model_dir=folder, data_dir="", steps_per_loop=_STEPS_PER_LOOP)
        task = Task(lambda recipe: None, _unused, drawn_batches(space), _unused, _unused)
        self._run = Run(config, settings, task, data.train, data.held_out, trainer, checkpointer, _unused, steps)
        self._measure = Measurement(trainer.model, data, recipe)

    def train(self, progress: Progress = silent) -> int | None:
        """Trains the supernet to its end, from where it was left.

        Returns:
            The signal that stopped it, or None.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        trainer = self._run.trainer
        if trainer.step >= self._run.total_steps:
            return None
        metrics = MetricsLog(self._run.settings.model_dir, trainer.step, trainer.recipe.train_batch_size)
        return fit(self._run, metrics, progress)

    def __call__(self, choice: Sequence[int], is_stopped: Callable[[], bool]) -> dict[str, float]:
        """Measures a network with the supernet's weights, as `ShortTraining` does with its own."""
        if is_stopped():
            raise Interrupted
        return self._measure(choice)


def drawn_batches(space: SearchSpace) -> Callable[..., tf.data.Dataset]:
    """A function as `data.train_batches`, that draws a network uniformly for each step.

    The step's number and the recipe's seed decide it, outside the compiled step: XLA draws other numbers.

    Args:
        space: The space.

    Returns:
        A function that gives batches of ((images, choice), {"label", "choice"}).
    """
    sizes = tf.constant([len(each.values) for each in space.alternatives])

    def batches(
        split: Split,
        recipe: Recipe,
        batch_size: int,
        first_image: int = 0,
        shard: int = 0,
        num_shards: int = 1,
        use_cache: bool = False,
    ) -> tf.data.Dataset:
        images_of_step = recipe.train_batch_size // num_shards  # here; a step of several replicas is several batches

        def with_choice(number, batch):
            step = (first_image + number * batch_size) // images_of_step
            seed = tf.random.experimental.stateless_fold_in(tf.constant((recipe.seed, 0)), step)
            drawn = tf.random.stateless_uniform(sizes.shape, seed, None, None, tf.int32)
            choice = tf.math.floormod(drawn, sizes)[tf.newaxis]
            images, labels = batch
            return (images, choice), {"label": labels, "choice": choice}

        examples = train_batches(split, recipe, batch_size, first_image, shard, num_shards, use_cache)
        return examples.enumerate().map(with_choice)

    return batches


def _unused(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("A supernet's run neither evaluates nor exports.")
