"""Accuracy of a classifier over every image of a split."""

import tensorflow as tf

_SUM = tf.distribute.ReduceOp.SUM


def build_evaluator(model, strategy=None, jit_compile=False):
    """A function from batches to accuracy, compiled once.

    Args:
        model: A Keras model from images to logits or probabilities.
        strategy: A `tf.distribute.Strategy`; None for the current one.
        jit_compile: Whether XLA compiles the step of each replica.

    Returns:
        A function from an iterable of (images, int32 labels, float32 mask), of the strategy's
        distributed dataset where it has one, to a dict of "top_1_accuracy", "top_5_accuracy" (both
        floats from 0 to 1) and "num_images"; padding, where the mask is 0, does not count.
    """
    strategy = tf.distribute.get_strategy() if strategy is None else strategy

    @tf.function(jit_compile=jit_compile)
    def replica_step(images, labels, mask):
        scores = tf.cast(model(images, training=False), tf.float32)
        top_1 = tf.cast(tf.argmax(scores, axis=-1, output_type=tf.int32) == labels, tf.float32)
        top_5 = tf.cast(tf.math.in_top_k(labels, scores, min(5, scores.shape[-1])), tf.float32)
        return tf.stack([tf.reduce_sum(hits * mask) for hits in (top_1, top_5, tf.ones_like(mask))])

    @tf.function
    def step(images, labels, mask):
        return strategy.reduce(_SUM, strategy.run(replica_step, args=(images, labels, mask)), axis=None)

    def evaluate(batches):
        top_1 = top_5 = count = 0.0  # Python's floats: float32 would lose images past 2^24
        for batch in batches:
            hits = step(*batch).numpy().tolist()
            top_1, top_5, count = top_1 + hits[0], top_5 + hits[1], count + hits[2]
        if count == 0:
            raise ValueError("There is no image to evaluate on.")
        return {"top_1_accuracy": top_1 / count, "top_5_accuracy": top_5 / count, "num_images": int(count)}

    return evaluate
