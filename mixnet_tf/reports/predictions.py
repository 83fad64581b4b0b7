"""A classifier's predictions on a split, in one pass, and its most confident mistakes."""

import heapq
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.data import Split, naming_corrupt_images, report_batches
from mixnet_tf.evaluation import (
    MEAN_CLASS_ACCURACY,
    build_cross_entropy,
    is_among,
    matched,
    mean_over_classes,
    top_classes,
    with_notes,
)
from mixnet_tf.networks import Resizing, logits_model, prepare_pixels, resizing_of, with_logits
from mixnet_tf.progress import Progress, silent

_MISTAKES = 25


class Mistake(NamedTuple):
    """An image that is classified wrongly.

    Attributes:
        probability: Probability of the predicted class.
        image: uint8 (height, width, 3), as fed to the model.
        label: The true class.
        predicted: The predicted class.
        id: File and position of the image.
    """

    probability: float
    image: np.ndarray
    label: int
    predicted: int
    id: str


class Predictions(NamedTuple):
    """A classifier's predictions for every image of a split.

    Attributes:
        labels: int32 (images,).
        predicted: int32 (images,), the most probable class of each image.
        probability: float32 (images,), the probability of this class.
        in_top_5: bool (images,).
        cross_entropy: float32 (images,), nats.
        mistakes: The 25 most confident mistakes, the most confident first.
        notes: The notes of the split.
    """

    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    in_top_5: np.ndarray
    cross_entropy: np.ndarray
    mistakes: list[Mistake]
    notes: tuple[str, ...] = ()

    def metrics(self, by_class: bool = False) -> dict[str, Any]:
        """The metrics that `mixnet_tf.evaluation.build_evaluator` measures, with the same `by_class`."""
        hits = self.predicted == self.labels
        of_class = {}
        if by_class:
            of_class[MEAN_CLASS_ACCURACY] = mean_over_classes(np.bincount(self.labels, hits), np.bincount(self.labels))
        measured = {
            "top_1_accuracy": float(np.mean(hits)),
            "top_5_accuracy": float(np.mean(self.in_top_5)),
            "cross_entropy": float(np.mean(self.cross_entropy, dtype=np.float64)),
            "num_images": len(self.labels),
            **of_class,
        }
        return with_notes(measured, self.notes)


def predict(
    model: keras.Model,
    split: Split,
    crop: bool | Resizing | None = None,
    batch_size: int = 64,
    progress: Progress = silent,
) -> Predictions:
    """Predicts every image of a split once.

    Args:
        model: A Keras model from images of a fixed size to probabilities.
        split: A `data.Split`.
        crop: How images are cropped and resized, as for `networks.resizing_of`; None: as the model says.
        batch_size: Images per step.
        progress: Shows the phase.

    Raises:
        ValueError: If the model's classes are not the split's, or if an image cannot be decoded.
    """
    split, resizing = matched(model, split, model.output_shape[-1]), resizing_of(model, crop)
    answers, prepare = with_logits(model), prepare_pixels(model)
    cross_entropy = build_cross_entropy(logits_model(model))

    @tf.function(reduce_retracing=True)
    def step(images, labels):
        logits, scores = answers(prepare(images), training=False)
        top = top_classes(logits)
        probability = tf.gather(tf.cast(scores, tf.float32), top[:, 0], batch_dims=1)
        return top[:, 0], probability, is_among(labels, top) > 0, cross_entropy(labels, logits)

    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    mistakes: list[Mistake] = []  # the most confident first
    done = 0
    with naming_corrupt_images(split, progress), progress("Evaluation", split.num_examples, "images") as phase:
        for images, labels, ids in report_batches(split, model.input_shape[1], batch_size, resizing):
            found = [labels.numpy(), *(tensor.numpy() for tensor in step(images, labels))]
            for column, values in zip(columns, found, strict=True):
                column.append(values)
            true, guess, sure = found[:3]
            for place in np.flatnonzero(true != guess):
                if len(mistakes) == _MISTAKES and sure[place] <= mistakes[-1].probability:
                    continue
                image = np.uint8(np.clip(np.rint(images[place].numpy()), 0, 255))
                name = ids[place].numpy().decode()
                mistake = Mistake(float(sure[place]), image, int(true[place]), int(guess[place]), name)
                mistakes = heapq.nlargest(_MISTAKES, [*mistakes, mistake], key=lambda each: each.probability)
            done += len(true)
            phase.update(done)
    labels, predicted, probability, in_top_5, losses = (np.concatenate(column) for column in columns)
    return Predictions(labels, predicted, probability, in_top_5, losses, mistakes, split.notes)
