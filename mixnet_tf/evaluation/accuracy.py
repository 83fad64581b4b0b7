"""Accuracy and cross-entropy of a classifier over every image of a split."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from mixnet_tf.data import Split, eval_batches, naming_corrupt_images
from mixnet_tf.evaluation.ranking import build_cross_entropy, is_among, top_classes
from mixnet_tf.evaluation.scores import with_notes
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

    Returns:
        A function that takes a `Progress`, or nothing, and returns a dict of "top_1_accuracy", "top_5_accuracy" (floats
        from 0 to 1), "cross_entropy" (mean over the images, nats, of the softmax of the logits, without label
        smoothing), "num_images" and, if the split has notes, "notes". Every image of the split counts once, on any
        number of hosts. An error that the progress raises ends it.

    Raises:
        ValueError: If the split has classes that the model does not know. The function raises it, with file and
            position, if an image cannot be decoded.
    """
    split = matched(model, split, model.output_shape[-1])
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
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
        return tf.stack([tf.reduce_sum(tf.math.multiply_no_nan(each, mask)) for each in of_image])

    @tf.function
    def step(images, labels, mask):
        return strategy.reduce(_SUM, strategy.run(replica_step, args=(images, labels, mask)), axis=None)

    batches = _distributed_batches(strategy, split, model.input_shape[1], resizing_of(model, crop), batch_size)

    def evaluate(progress=silent):
        top_1 = top_5 = loss = count = 0.0  # Python floats, because float32 loses images past 2^24
        with naming_corrupt_images(split, progress), progress("Evaluation", split.num_examples, "images") as phase:
            for batch in batches:
                sums = step(*batch).numpy().tolist()
                top_1, top_5, loss, count = top_1 + sums[0], top_5 + sums[1], loss + sums[2], count + sums[3]
                phase.update(int(count), f"top-1 {top_1 / count:.2%}")
        means = {"top_1_accuracy": top_1 / count, "top_5_accuracy": top_5 / count, "cross_entropy": loss / count}
        return with_notes({**means, "num_images": int(count)}, split.notes)

    return evaluate


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
