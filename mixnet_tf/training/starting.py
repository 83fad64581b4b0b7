"""Starts a new run from saved weights, as far as they fit its model and its classes."""

import keras
from absl import logging

from mixnet_tf.class_names import NOT_COMPARED, listed
from mixnet_tf.detection import class_predictors
from mixnet_tf.recipe import DETECTION
from mixnet_tf.runs import RunConfig
from mixnet_tf.weights import Arrays, assign


def start_from(read: Arrays, config: RunConfig, model: keras.Model) -> None:
    """Assigns all weights that fit a run's model, and logs which they were.

    A classifier with the same class names is put into the run's order. A classifier with other names, or with another
    number of classes, is left out. If one side has no names, the number of classes decides, and the log says so.

    Args:
        read: The saved weights.
        config: The run's `RunConfig`.
        model: The run's model.

    Raises:
        ValueError: If other weights do not fit, or if names that have to be put into another order occur twice.
    """
    trained_on = config.resizing if read.resizing is None else read.resizing
    if config.task != DETECTION and trained_on.interpolation != config.recipe.interpolation:
        logging.info(
            f"{config.weights} were trained on {trained_on.interpolation} images, the run trains on "
            f"{config.recipe.interpolation} ones; --interpolation={trained_on.interpolation} keeps theirs."
        )
    read = read._replace(resizing=None)  # the run's model says what the run does
    if config.task == DETECTION:
        _start_detector_from(read, config, model)
        return
    there, here = read.classes, config.num_label_classes
    kept = read.in_order_of(config.class_names) if there == here else None
    assign(model, read if kept is None else kept, skip_head=kept is None)
    if kept is not None:
        logging.info(
            f"Loaded all weights of {config.weights}, the classifier of {here} classes included{_order(read, config)}."
        )
        return
    theirs = "it has none" if there is None else f"there it is of {there} classes"
    if there == here:
        theirs += f" with other names, such as {listed(_others(read, config)[:3])}"
    logging.info(
        f"Loaded all weights of {config.weights} but the classifier, head_dense ({theirs}): "
        f"the new one, of {here} classes, starts from random weights."
    )


def _order(read, config):
    """How the classes of loaded weights were matched with the run's classes, in words."""
    if read.class_names is None or config.class_names is None:
        return f"; {NOT_COMPARED}"
    return "" if read.class_names == config.class_names else "; its classes were put into the order of the dataset's"


def _others(read, config):
    """The class names that the weights have and the run lacks."""
    return sorted(set(read.class_names) - set(config.class_names))


def _start_detector_from(read, config, model):
    """Loads a detector, without its class predictors if its classes differ; of any other model, the network alone."""
    predictors = [layer.name for layer in class_predictors(model)]
    shapes = [[value.shape for value in read.of_layer(name)] for name in predictors]
    if not all(shapes):
        assign(model, read.network(), skip_head=True)
        logging.info(f"Loaded the network of {config.weights}; the detector's own layers start from random weights.")
        return
    fits = shapes == [[tuple(weight.shape) for weight in layer.weights] for layer in class_predictors(model)]
    kept = read.in_order_of(config.class_names, predictors) if fits else None
    if kept is not None:
        assign(model, kept)
        logging.info(
            f"Loaded all weights of {config.weights}, the predictors of classes included{_order(read, config)}."
        )
        return
    assign(model, read, skip_layers=predictors)
    names = f" (there with other names, such as {listed(_others(read, config)[:3])})" if fits else ""
    logging.info(
        f"Loaded all weights of {config.weights} but the predictors of classes{names}: the new ones, of "
        f"{config.num_label_classes} classes, start from random weights."
    )
