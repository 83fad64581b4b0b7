"""A supernet computes every network of a space in one graph; each network can be extracted as a model."""

from collections.abc import Sequence

import keras

from mixnet_tf.errors import InputError, is_count
from mixnet_tf.models import build_model
from mixnet_tf.networks import backbone, block_part, classifier, unroll
from mixnet_tf.search.blocks import SearchableBlock
from mixnet_tf.search.masks import BlockOptions
from mixnet_tf.search.space import SearchSpace


def build_supernet(space: SearchSpace, classes: int, input_shape: tuple[int, int, int]) -> keras.Model:
    """Builds a model that computes any network of a space, with weights that the networks share.

    The center of a large depthwise kernel is the smaller kernel. A smaller expansion uses channels of the larger one,
    spread evenly. Groups of 1x1 convolutions and channels of squeeze-and-excitation are masks, and repeats that a
    network lacks are skipped. Shapes do not depend on the choice, so one trace serves all networks.

    Args:
        space: The space.
        classes: Number of classes.
        input_shape: (height, width, 3), pixels.

    Returns:
        A `keras.Model` from [images, choice] to logits (batch, classes). Images are (batch, height, width, 3), RGB from
        0 to 255; a choice is int32 (1, alternatives). The moving statistics of its batch normalization fit no single
        network, so a model from `extract` has to measure its own. Save it by its weights.

    Raises:
        ValueError: If the space has dilated kernels, expanding or projecting kernels larger than 1x1, or a drop_path.
    """
    if space.global_params.drop_path > 0:
        raise InputError(f"drop_path={space.global_params.drop_path}: a supernet drops no blocks; leave it out.")
    if not is_count(classes):
        raise InputError(f"classes: expected a whole number from 1, received {classes!r}.")
    largest = [_largest(space, number) for number in range(len(space.stages))]
    options = _options(space, largest)
    images = keras.Input(input_shape, name="image")
    choice = keras.Input((len(space.alternatives),), dtype="int32", name="choice")

    def block(x, block_args, params, part):
        del block_args  # `options` have it
        return SearchableBlock(options[part], params, name=part)([x, choice])

    params = space.global_params._replace(num_classes=classes)
    features = backbone(images, largest, params, block=block)
    return keras.Model([images, choice], classifier(features, params, None), name="supernet")


def extract(model: keras.Model, space: SearchSpace, choice: Sequence[int]) -> keras.Model:
    """Extracts a network of a supernet as a model of its own, with its weights.

    Args:
        model: The supernet of the space, from `build_supernet`.
        space: The space.
        choice: A choice of the space.

    Returns:
        A model like that of `mixnet_tf.build_model` for the choice's block strings, which outputs logits.
    """
    extracted = build_model(
        blocks_args=space.stages_of(choice),
        override_params={**space.global_params._asdict(), "num_classes": model.output_shape[-1]},
        classifier_activation=None,
        input_shape=model.input_shape[0][1:],
    )
    number = 0
    for layer in model.layers:
        if isinstance(layer, SearchableBlock):
            if layer.is_in(choice):
                for suffix, values in layer.extracted(choice).items():
                    extracted.get_layer(f"{block_part(number)}_{suffix}").set_weights(values)
                number += 1
        elif layer.weights:
            extracted.get_layer(layer.name).set_weights(layer.get_weights())
    return extracted


def _largest(space, number):
    """The largest stage of the space: with as many repeats and channels as any network has."""
    stage, values = space.stages[number], space.values(number)
    if stage.dilated or space.global_params.dilated:
        raise InputError("A supernet has no dilated kernels: a smaller one is not a part of a larger one.")
    if any(set(kernels) != {1} for field in ("expand_ksize", "project_ksize") for kernels in values[field]):
        raise InputError(f"A supernet's options a and p are groups of 1x1 convolutions; stage {number} has others.")
    return stage._replace(
        num_repeat=max(values["num_repeat"]),
        expand_ratio=max(values["expand_ratio"]),
        se_ratio=max((ratio for ratio in values["se_ratio"] if ratio is not None), default=None),
    )


def _options(space, largest):
    """`BlockOptions` by the name of the block."""
    found: dict[str, BlockOptions] = {}
    for number, stage in enumerate(largest):
        places = {each.field: place for place, each in enumerate(space.alternatives) if each.stage == number}
        for repeat, block in enumerate(unroll([stage], space.global_params)):
            found[block_part(len(found))] = BlockOptions(block, repeat, space.values(number), places)
    return found
