"""Estimates of networks: after a whole training, after a few steps, or with the weights of a supernet."""

import random
from collections.abc import Callable, Sequence

import tensorflow as tf
from absl import logging

from mixnet_tf.data import naming_corrupt_images, train_batches
from mixnet_tf.progress import Progress, silent
from mixnet_tf.recipe import Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.search.blocks import SearchableBlock
from mixnet_tf.search.measuring import Data, Interrupted, Measurement, Scores, stop_if_asked
from mixnet_tf.search.space import SearchSpace
from mixnet_tf.search.supernet import build_supernet
from mixnet_tf.training import (
    Checkpointer,
    Interruption,
    MetricsLog,
    Objective,
    RunOptions,
    Trainer,
    classification,
    decayed_variables,
    dtype_policy,
    fit,
    l2_loss,
    recalibrate,
    trainer_for,
)

_STEPS_PER_LOOP = 10


def build_trainer(space: SearchSpace, classes: int, recipe: Recipe, num_images: int, total_steps: int) -> Trainer:
    """Builds the trainer of a space's supernet; its L2 term covers the weights of the step's network.

    Args:
        space: The space.
        classes: Number of classes.
        recipe: A `Recipe`; its EMA is not used.
        num_images: Images of the training split.
        total_steps: Steps of the training.

    Returns:
        A `Trainer` that takes ((images, choice), {"label", "choice"}); a choice is int32 (1, alternatives).
    """
    random.seed(recipe.seed)
    with dtype_policy(recipe.precision):
        model = build_supernet(space, classes, (recipe.image_size, recipe.image_size, 3))
    own = recipe._replace(moving_average_decay=0.0)
    if recipe.l2_factor > 0:
        own = own._replace(weight_decay=0.0)  # the trainer's own L2 term covers all weights
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
        return loss + recipe.l2_factor * l2 / replicas, measured

    return Objective(base.names, share)


class ShortTraining:
    """Estimates a network by training it for a few steps, always from the same weights on the same images.

    Args:
        space: The space.
        data: `Data`.
        recipe: A `Recipe`; its schedule is shortened to the steps.
        steps: Steps per network.
    """

    def __init__(self, space: SearchSpace, data: Data, recipe: Recipe, steps: int) -> None:
        images = data.train.num_examples
        shorter = steps / recipe.total_steps(images)
        recipe = recipe._replace(
            train_steps=steps,
            warmup_epochs=recipe.warmup_epochs * shorter,
            decay_epochs=recipe.decay_epochs * shorter,
        )
        self._train, self._steps = data.train, steps
        self._trainer = build_trainer(space, data.train.num_classes, recipe, images, steps)
        self._measure = Measurement(self._trainer.model, data, recipe)
        self._batches = train_batches(data.train, recipe, recipe.train_batch_size, use_cache=data.use_cache)
        variables = [*self._trainer.model.variables, *self._trainer.optimizer.variables]
        self._first = [(variable, variable.numpy()) for variable in variables]

    def __call__(self, choice: Sequence[int], interruption: Interruption) -> dict[str, float]:
        """Trains and measures a network.

        Args:
            choice: A choice of the space.
            interruption: Checked between steps.

        Returns:
            The dict of `Measurement`; with an infinite cross-entropy if the loss is not finite.

        Raises:
            Interrupted: If a signal was received.
        """
        for variable, value in self._first:
            variable.assign(value)
        taken = tf.constant([choice], tf.int32)
        dataset = self._batches.map(lambda images, labels: ((images, taken), {"label": labels, "choice": taken}))
        with naming_corrupt_images(self._train):
            batches = iter(dataset)
            while self._trainer.step < self._steps:
                stop_if_asked(interruption)
                steps = min(_STEPS_PER_LOOP, self._steps - self._trainer.step)
                if int(self._trainer.train_steps(batches, tf.constant(steps))["first_bad_step"]) >= 0:
                    return {"cross_entropy": float("inf"), "top_1_accuracy": 0.0}
        return self._measure(choice)


class SharedWeights:
    """Estimates networks with the weights of a supernet, trained once with a uniformly drawn network per step.

    Args:
        space: The space.
        data: `Data`.
        recipe: The `Recipe` of the supernet's training.
        folder: Folder of the supernet's run, for its checkpoints and metrics.

    Source: arXiv:1904.00420 (uniform sampling; batch statistics are measured for each network).
    """

    def __init__(self, space: SearchSpace, data: Data, recipe: Recipe, folder: str) -> None:
        images = data.train.num_examples
        steps = recipe.total_steps(images)
        trainer = build_trainer(space, data.train.num_classes, recipe, images, steps)
        self._trainer, self._checkpointer = trainer, Checkpointer(trainer, folder)
        self._train_split, self._batches, self._total_steps = data.train, drawn_batches(space), steps
        self._options = RunOptions(model_dir=folder, data_dir="", steps_per_loop=_STEPS_PER_LOOP)
        self._measure = Measurement(trainer.model, data, recipe)

    def train(self, progress: Progress = silent) -> None:
        """Trains the supernet to its last step, from its newest checkpoint.

        Raises:
            Interrupted: If a signal stopped it; it is saved.
            FloatingPointError: If the loss is not finite.
        """
        self.restore()
        trainer, options = self._trainer, self._options
        if trainer.step < self._total_steps:
            metrics = MetricsLog(options.model_dir, trainer.step, trainer.recipe.train_batch_size)
            number = fit(trainer, self._checkpointer, self._train_split, self._batches, options, metrics, progress)
            if number is not None:
                raise Interrupted(number)

    def restore(self) -> None:
        """Restores the newest checkpoint, if there is one."""
        self._checkpointer.restore()

    def __call__(self, choice: Sequence[int], interruption: Interruption) -> dict[str, float]:
        """Measures a network with the supernet's weights; returns a dict like that of `ShortTraining`."""
        stop_if_asked(interruption)
        return self._measure(choice)


class WholeTraining:
    """Measures the EMA weights of networks after the whole recipe, each in a run like those of `train.py`.

    Args:
        space: The space.
        data: `Data`.
        recipe: The `Recipe`.
    """

    def __init__(self, space: SearchSpace, data: Data, recipe: Recipe) -> None:
        self._space, self._data, self._recipe = space, data, recipe

    def __call__(self, choice: Sequence[int], folder: str, progress: Progress = silent) -> dict[str, float]:
        """Trains and measures a network.

        Args:
            choice: A choice of the space.
            folder: Folder of the run; an interrupted run resumes from its checkpoint.
            progress: Shows the training.

        Returns:
            The dict of `Measurement`; with an infinite cross-entropy if the loss is not finite.

        Raises:
            Interrupted: If a signal stopped it; it is saved.
        """
        train, recipe = self._data.train, self._recipe
        options = RunOptions(
            model_dir=folder,
            data_dir="",
            steps_per_loop=_STEPS_PER_LOOP,
            use_cache=self._data.use_cache,
        )
        content = self._space.network_content(choice)
        config = RunConfig(
            "network",
            train.num_classes,
            train.dataset,
            train.num_examples,
            recipe,
            train.label_names,
            network=content,
            data_version=train.rules.version,
            exif=train.rules.exif,
            validation_fraction=train.validation_fraction,
            hash_version=train.hash_version,
            list=train.list_path,
        )
        config.check_resumes(folder)
        trainer = trainer_for(config)
        config.write(folder)
        checkpointer = Checkpointer(trainer, folder)
        restored = checkpointer.restore()
        if restored is not None:
            logging.info(f"Resuming from {restored}.")
        metrics = MetricsLog(folder, trainer.step, recipe.train_batch_size)
        try:
            number = fit(trainer, checkpointer, train, train_batches, options, metrics, progress)
        except FloatingPointError:
            return {"cross_entropy": float("inf"), "top_1_accuracy": 0.0}
        if number is not None:
            raise Interrupted(number)
        model = trainer.ema_model
        if recipe.recalibrate_batch_norm:
            recalibrate(model, train, recipe)
        return Scores(lambda images: model(images, training=False), self._data, recipe)()


def drawn_batches(space: SearchSpace) -> Callable[..., tf.data.Dataset]:
    """Returns a function like `data.train_batches` that also draws a network uniformly for each step.

    The draw depends on the step's number and the recipe's seed, and is made outside the compiled step, because XLA
    draws other numbers.

    Args:
        space: The space.

    Returns:
        A function that returns batches of ((images, choice), {"label", "choice"}).
    """
    sizes = tf.constant([len(each.values) for each in space.alternatives])

    def batches(split, recipe, batch_size, first_image=0, shard=0, num_shards=1, use_cache=False):
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
