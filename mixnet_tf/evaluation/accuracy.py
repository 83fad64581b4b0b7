"""Accuracy and cross-entropy of a classifier over every image of a split."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, eval_batches, naming_corrupt_images
from mixnet_tf.evaluation.ranking import build_cross_entropy, is_among, top_classes
from mixnet_tf.evaluation.scores import MEAN_CLASS_ACCURACY, mean_over_classes, with_notes
from mixnet_tf.networks import (
    NOT_CHECKED,
    Resizing,
    class_names,
    input_of,
    logits_model,
    prepare_pixels,
    resizing_of,
)
from mixnet_tf.progress import silent

_SUM = tf.distribute.ReduceOp.SUM


def build_evaluator(
    model: keras.Model,
    split: Split,
    crop: bool | Resizing | None = None,
    batch_size: int = 64,
    strategy: tf.distribute.Strategy | None = None,
    jit_compile: bool = False,
    by_class: bool = False,
) -> Callable[..., dict[str, Any]]:
    """Builds a function that measures a model's accuracy and cross-entropy on a split; it is compiled once.

    Args:
        model: A Keras model from images of a fixed size to logits or probabilities. If it takes normalized images,
            they are normalized for it.
        split: A `data.Split`.
        crop: How images are cropped and resized, as for `networks.resizing_of`; None: as the model says.
        batch_size: Images per step over all replicas.
        strategy: A `tf.distribute.Strategy`; None for the current one.
        jit_compile: Whether XLA compiles the step of each replica.
        by_class: Whether accuracy is also measured as the mean over the classes that the split has.

    Returns:
        A function that takes a `Progress`, or nothing, and returns a dict of "top_1_accuracy", "top_5_accuracy" (floats
        from 0 to 1), "cross_entropy" (mean over the images, nats, of the softmax of the logits, without label
        smoothing), "num_images", with `by_class` "mean_class_accuracy" and, if the split has notes, "notes". Every
        image of the split counts once, on any number of hosts. An error that the progress raises ends it.

    Raises:
        ValueError: If the split has classes that the model does not know. The function raises it, with file and
            position, if an image cannot be decoded.
    """
    classes = model.output_shape[-1]
    split = matched(model, split, classes)
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    replica_step = build_replica_evaluation(model, jit_compile, by_class)

    @tf.function
    def step(images, labels, mask):
        return strategy.reduce(_SUM, strategy.run(replica_step, args=(images, labels, mask)), axis=None)

    batches = _distributed_batches(strategy, split, model.input_shape[1], resizing_of(model, crop), batch_size)

    def evaluate(progress=silent):
        sums: Any = 0.0  # in float64, because float32 loses images past 2^24
        with naming_corrupt_images(split, progress), progress("Evaluation", split.num_examples, "images") as phase:
            for batch in batches:
                sums = sums + np.float64(step(*batch))
                phase.update(int(sums[3]), f"top-1 {sums[0] / sums[3]:.2%}")
        top_1, top_5, loss, count, *of_class = sums.tolist()
        measured = {
            "top_1_accuracy": top_1 / count,
            "top_5_accuracy": top_5 / count,
            "cross_entropy": loss / count,
            "num_images": int(count),
        }
        if by_class:
            measured[MEAN_CLASS_ACCURACY] = mean_over_classes(*np.reshape(of_class, (2, classes)))
        return with_notes(measured, split.notes)

    return evaluate


def build_replica_evaluation(
    model: keras.Model, jit_compile: bool = False, by_class: bool = False
) -> tf.types.experimental.PolymorphicFunction:
    """Builds the step of an evaluation that each replica runs.

    Args:
        model: As `build_evaluator` takes it.
        jit_compile: Whether XLA compiles the step.
        by_class: Whether hits and images are also summed for each class.

    Returns:
        A `tf.function` (images, labels, mask of the images that count) -> float32 (4,): sums over these images of top-1
        hits, top-5 hits and cross-entropy, and their number. With `by_class` (4 + 2 classes,): then the top-1 hits of
        each class, and the images of each class.
    """
    ranked, prepare = logits_model(model), prepare_pixels(model)
    cross_entropy = build_cross_entropy(ranked)

    @tf.function(jit_compile=jit_compile)
    def replica_step(images, labels, mask):
        outputs = ranked(prepare(images), training=False)
        top = top_classes(outputs)
        of_image = (
            is_among(labels, top[:, :1]),
            is_among(labels, top),
            cross_entropy(labels, outputs),
            tf.ones_like(mask),
        )
        sums = tf.stack([tf.reduce_sum(tf.math.multiply_no_nan(each, mask)) for each in of_image])
        if not by_class:
            return sums
        of_class = tf.one_hot(labels, model.output_shape[-1]) * mask[:, tf.newaxis]
        hits = of_class * of_image[0][:, tf.newaxis]
        return tf.concat([sums, tf.reduce_sum(hits, 0), tf.reduce_sum(of_class, 0)], 0)

    return replica_step


def matched(model: keras.Model, split: Split, classes: int) -> Split:
    """Maps a split's labels to a model's classes by their names, and notes what could not be checked.

    Args:
        model: A classifier or a detector.
        split: A `data.Split`.
        classes: The model's number of classes.

    Raises:
        ValueError: If the model cannot be measured on the split; see `Split.matched`.
    """
    found = split.matched(class_names(model), classes)
    return found if input_of(model) is not None else found.noted(NOT_CHECKED)


def _distributed_batches(strategy, split, image_size, crop, batch_size):
    replicas = strategy.num_replicas_in_sync

    def of_host(context):
        hosts = context.num_input_pipelines
        return eval_batches(
            split,
            image_size,
            -(-batch_size // replicas),
            crop,
            shard=context.input_pipeline_id,
            num_shards=hosts,
            multiple=replicas // hosts,
        )

    return strategy.distribute_datasets_from_function(of_host)
