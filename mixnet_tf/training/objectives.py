"""The loss of each task, computed by each replica as its share of the global batch's loss."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mixnet_tf.detection import anchor_targets, detection_losses
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import is_among, top_classes
from mixnet_tf.recipe import UNWEIGHTED, DetectionRecipe, Recipe
from mixnet_tf.training.optim import smoothed_cross_entropy


class Objective(NamedTuple):
    """The loss of a task without its L2 term.

    Attributes:
        names: The names of the scalars that `share` returns beside the loss.
        share: A function (outputs of the model, targets) -> (loss, tuple of scalars), float32, which each replica
            calls. The sums over replicas are the loss and the scalars of the global batch.
    """

    names: tuple[str, ...]
    share: Callable


def classification(recipe: Recipe, class_weights: Sequence[float] | None = None) -> Objective:
    """The objective of classifiers: cross-entropy with smoothed labels.

    Targets are int32 (batch,), or soft labels, float32 (batch, classes), if the recipe mixes images. These have no
    top-1 accuracy: a mixed image has no single class.

    Args:
        recipe: A `Recipe`.
        class_weights: The weight of each class, by which the cross-entropies of its images are multiplied, as Keras
            does; the sum is divided by the number of images. None: all are 1.

    Raises:
        ValueError: If the recipe has class weights, but there are no numbers, or the other way round.
    """
    if (class_weights is None) != (recipe.class_weights == UNWEIGHTED):
        raise InputError(
            f"The recipe has class_weights={recipe.class_weights!r}, and the numbers are {class_weights!r:.60}; give "
            "both or neither."
        )

    def share(outputs, labels):
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        logits = tf.cast(outputs, tf.float32)
        losses = smoothed_cross_entropy(logits, labels, recipe.label_smoothing)
        if class_weights is not None:
            weights = tf.constant(class_weights, tf.float32)
            losses *= tf.linalg.matvec(labels, weights) if recipe.mixes else tf.gather(weights, labels)
        cross_entropy = tf.reduce_mean(losses) / replicas
        if recipe.mixes:
            return cross_entropy, (cross_entropy,)
        hits = is_among(labels, top_classes(logits, 1))
        return cross_entropy, (cross_entropy, tf.reduce_mean(hits) / replicas)

    return Objective(("cross_entropy",) if recipe.mixes else ("cross_entropy", "top_1_accuracy"), share)


def detection(detection_recipe: DetectionRecipe, anchors: np.ndarray) -> Objective:
    """The objective of detectors: the losses of classes and boxes, divided by the matches of the global batch.

    Args:
        detection_recipe: A `DetectionRecipe`.
        anchors: The detector's anchors, as `anchors_of` returns them.

    Returns:
        An `Objective` whose targets are a dict of "boxes" (batch, objects, 4) and "labels" (batch, objects), as
        `anchor_targets` takes them.
    """

    def share(outputs, targets):
        slots, codes = anchor_targets(targets["boxes"], targets["labels"], anchors)
        classes, boxes, matches = detection_losses(
            outputs["logits"], outputs["boxes"], slots, codes, detection_recipe.classification_loss
        )
        everywhere = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, matches)
        normalizer = tf.maximum(everywhere, 1.0)
        classes, boxes = classes / normalizer, boxes / normalizer
        return classes + boxes, (classes, boxes)

    return Objective(("classification_loss", "box_loss"), share)
