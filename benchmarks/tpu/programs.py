"""The program that one core of a TPU runs in a step, as TensorFlow hands it to XLA."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from mixnet_tf.data.object_batches import MAX_OBJECTS
from mixnet_tf.errors import InputError
from mixnet_tf.evaluation import build_replica_evaluation
from mixnet_tf.named_recipes import RECIPES
from mixnet_tf.networks import (
    Forms,
    block_part,
    endpoints,
    is_network_file,
    network_content,
    network_name,
    parse_kernels,
    set_forms,
    stages_and_params,
    unroll,
)
from mixnet_tf.recipe import CLASSIFICATION, DETECTION, DetectionRecipe, Recipe
from mixnet_tf.runs import RunConfig
from mixnet_tf.training import Trainer, dtype_policy, trainer_for

TRAINING, EVALUATION, INFERENCE = STEPS = ("training", "evaluation", "inference")
_CLASSES, _IMAGES = 1000, 1_281_167  # of ImageNet


class Program(NamedTuple):
    """What a core computes.

    Attributes:
        network: A network's name or the path of a network file, with other kernels as in mobilenet-v2:3.5.7; or the
            name of a function of `keras.applications`.
        step: One of `STEPS`: training by the official recipe, with gradients, optimizer and EMA; evaluation with its
            metrics; inference from images to probabilities, or to a detector's boxes and logits.
        precision: "float32" or "bfloat16", as in `Recipe`.
        image_size: Pixels.
        images: Images of a step on one core.
        detector_classes: Classes of an `SSDLite` detector on the network; None: a classifier of ImageNet's classes.
        pointwise_form: As in `mixnet_tf.networks.Forms`, and so are the next two; for training.
        depthwise_form: For MixConv.
        batch_norm_form: For batch normalization.
        blocks: The blocks, "3" or "0-2", of which alone the gradients are computed, from those of their output; None:
            the whole network.
    """

    network: str = "mixnet-s"
    step: str = INFERENCE
    precision: str = "float32"
    image_size: int = 224
    images: int = 128
    detector_classes: int | None = None
    pointwise_form: str = Forms().pointwise_form
    depthwise_form: str = Forms().depthwise_form
    batch_norm_form: str = Forms().batch_norm_form
    blocks: str | None = None

    @property
    def forms(self) -> Forms:
        """The forms in which the layers compute in training."""
        return Forms(self.pointwise_form, self.depthwise_form, self.batch_norm_form)

    def __str__(self) -> str:
        classes = "" if self.detector_classes is None else f"-detector{self.detector_classes}"
        network = network_name(self.network).replace(":", "-")
        blocks = "" if self.blocks is None else f"-blocks{self.blocks}"
        others = [
            f"-{value}_{name.removesuffix('_form')}"
            for name, value in self.forms._asdict().items()
            if value != getattr(Forms(), name)
        ]
        return (
            f"{network}{classes}{blocks}-{self.step}-{self.precision}-{self.images}x{self.image_size}{''.join(others)}"
        )


def check(program: Program) -> None:
    """Raises a ValueError if there is no such network, or if a TPU does not run such a step."""
    if program.step == EVALUATION and program.detector_classes is not None:
        raise InputError("A detector is evaluated on the host; step: expected training or inference.")
    if program.forms != Forms() and (program.step != TRAINING or _is_of_keras(program)):
        raise InputError("Only the training steps of our networks have forms of layers; leave them out.")
    if program.blocks is not None:
        if program.step != TRAINING or program.detector_classes is not None or _is_of_keras(program):
            raise InputError("blocks are those of a classifier of ours in training; leave them out.")
        _first_and_last_block(program)
    if not _is_of_keras(program):
        _stages_and_params(program)


def emit(program: Program) -> tuple[bytes, str]:
    """Traces a program, which `check` accepts.

    Returns:
        (the program as a serialized HloModuleProto, its text without the names of layers).
    """
    images = tf.zeros((program.images, program.image_size, program.image_size, 3))
    labels = tf.zeros((program.images,), tf.int32)
    if program.blocks is not None:
        blocks = _blocks(program)
        arguments = [tf.zeros((program.images, *end.shape[1:]), end.dtype) for end in (blocks.input, blocks.output)]
        ir = tf.function(_gradients_of(blocks), jit_compile=True).experimental_get_compiler_ir(*arguments)
    elif program.step == TRAINING:
        targets = labels if program.detector_classes is None else _objects(program.images)
        ir = _trainer(program).replica_step.experimental_get_compiler_ir(images, targets)
    elif program.step == EVALUATION:
        step = build_replica_evaluation(_model(program, None), jit_compile=True)
        ir = step.experimental_get_compiler_ir(images, labels, tf.ones(program.images))
    else:
        model = _model(program, "softmax")
        step = tf.function(lambda images: model(images, training=False), jit_compile=True)
        ir = step.experimental_get_compiler_ir(images)
    return ir(stage="hlo_serialized"), ir(stage="hlo_no_metadata")


def _trainer(program):
    if not _is_of_keras(program):
        return trainer_for(_config(program), jit_compile=True)
    recipe = _recipe(program)
    steps_per_epoch = recipe.steps_per_epoch(_IMAGES)
    return Trainer(_model(program, None), recipe, steps_per_epoch, jit_compile=True)


def _first_and_last_block(program):
    """The numbers of the first and the last block."""
    number = len(unroll(*_stages_and_params(program)))
    ends = program.blocks.split("-")
    if len(ends) > 2 or not all(end.isdecimal() for end in ends) or not int(ends[0]) <= int(ends[-1]) < number:
        raise InputError(f"blocks: expected numbers below {number}, such as 3 or 0-2; received {program.blocks!r}.")
    return int(ends[0]), int(ends[-1])


def _blocks(program):
    """The blocks as a model, with the forms of the program."""
    first, last = _first_and_last_block(program)
    model = _model(program, None)
    set_forms(model, program.forms)
    ends = endpoints(model)
    return keras.Model(ends[block_part(first - 1) if first else "stem"], ends[block_part(last)])


def _gradients_of(blocks):
    """A function from the input, and the gradient of the output, to the gradients of input and variables."""

    def gradients(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = blocks(inputs, training=True)
        return tape.gradient(outputs, [inputs, *blocks.trainable_variables], upstream)

    return gradients


def _model(program, activation):
    with dtype_policy(program.precision):
        if not _is_of_keras(program):
            return _config(program).build_model(activation)
        shape = (program.image_size, program.image_size, 3)
        function = getattr(keras.applications, program.network)
        return function(weights=None, input_shape=shape, classifier_activation=activation)


def _is_of_keras(program):
    return hasattr(keras.applications, program.network)


def _stages_and_params(program):
    name, _, kernels = program.network.partition(":")
    return stages_and_params(name, kernel_size=parse_kernels(kernels) if kernels else None)


def _config(program):
    """The configuration of a run that takes such steps."""
    name, _, kernels = program.network.partition(":")
    content = network_content(*_stages_and_params(program)) if kernels or is_network_file(name) else None
    is_detector = program.detector_classes is not None
    return RunConfig(
        network_name(name),
        program.detector_classes or _CLASSES,
        "imagenet2012",
        _IMAGES,
        _recipe(program),
        network=content,
        task=DETECTION if is_detector else CLASSIFICATION,
        detection=DetectionRecipe() if is_detector else None,
        forms=program.forms,
    )


def _recipe(program) -> Recipe:
    recipe = RECIPES["imagenet" if program.detector_classes is None else "coco"]
    return recipe._replace(train_batch_size=program.images, image_size=program.image_size, precision=program.precision)


def _objects(images) -> dict[str, Any]:
    """The targets of a detector."""
    return {
        "boxes": tf.zeros((images, MAX_OBJECTS, 4)),
        "labels": tf.zeros((images, MAX_OBJECTS), tf.int32),
    }
