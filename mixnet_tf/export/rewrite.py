"""Rewrites a Keras MixNet into a function for phones: the same numbers from fewer and faster ops.

Three passes: `fold` turns the model into nodes, `choose_edges` decides the channel groups in which each node is
computed, and `emit` writes the ops.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.export.arithmetics import ARITHMETICS
from mixnet_tf.export.fold import fold
from mixnet_tf.export.nodes import Edges, Foreign, Node
from mixnet_tf.export.pieces import Pieces
from mixnet_tf.networks import foreign_steps

LARGE_KERNELS = ("split", "keep")


class AsWritten(tf.Module):
    """A Keras model as a function of images, unchanged.

    Args:
        model: A `keras.Model` from (batch, height, width, 3) to (batch, classes).
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="as_written")
        # Not an attribute, because a SavedModel would store the functions of each layer, which takes longer to write
        # and convert than all the rest. But it has to find the variables.
        self._get_model = lambda: model
        self._variables = [variable.value for variable in model.variables]

    def __call__(self, images: tf.Tensor) -> Any:
        """From (batch, height, width, 3) to the model's output, a tensor or a dict of tensors."""
        return self._get_model()(images, training=False)


class InferenceFunction(AsWritten):
    """The inference of a Keras MixNet, as constants and plain TensorFlow ops.

    Batch normalization is folded into each group's kernel, activations directly follow their convolution, and channel
    groups stay separate until something needs their concatenation. A layer outside the MixNet is called unchanged, or
    left out if it does nothing in inference.

    Args:
        model: A float32 `keras.Model` that contains a MixNet's layers.
        large_kernels: "split": depthwise kernels of more than 25 taps become sums of smaller ones. "keep": they stay.
        units: Dict from a batch normalization to the units of its output, (channels,), from `Activations.units`; None:
            all are 1.
        arithmetic: One of `ARITHMETICS`; it decides the rewritings.

    Attributes:
        foreign: Names of the layers outside the MixNet that do something in inference.

    Raises:
        ValueError: If an option is unknown, if the model has several inputs, or several outputs that are not a dict, or
            if it uses a layer twice.
    """

    def __init__(
        self,
        model: keras.Model,
        large_kernels: str = "split",
        units: dict[keras.layers.Layer, np.ndarray] | None = None,
        arithmetic: str = "float32",
    ) -> None:
        super().__init__(model)
        if large_kernels not in LARGE_KERNELS:
            raise InputError(f"large_kernels: expected one of {LARGE_KERNELS}; received {large_kernels!r}.")
        if arithmetic not in ARITHMETICS:
            raise InputError(f"arithmetic: expected one of {tuple(ARITHMETICS)}; received {arithmetic!r}.")
        named = isinstance(model.output, dict) if len(model.outputs) > 1 else True
        if len(model.inputs) != 1 or not named:
            raise InputError(
                f"{model.name!r} has {len(model.inputs)} inputs, {len(model.outputs)} outputs; expected one each, or a "
                "dict of outputs."
            )
        self.foreign = [step.name for step in foreign_steps(model)]
        nodes, outputs = fold(model, units or {}, arithmetic, large_kernels == "split")
        self._get_nodes = lambda: (nodes, outputs)  # not an attribute, like the model
        # All others are constants. Saving the whole model would triple the time of a conversion.
        unchanged = [node.step for node in nodes if isinstance(node, Foreign)]
        self._variables = [variable.value for step in unchanged for variable in getattr(step, "variables", ())]

    def __call__(self, images: tf.Tensor) -> Any:
        """From (batch, height, width, 3) to the model's output, a tensor or a dict of tensors; all float32."""
        nodes, outputs = self._get_nodes()
        tensors = emit(nodes, choose_edges(nodes, outputs), images, outputs)
        return tensors[0] if len(tensors) == 1 else keras.tree.pack_sequence_as(self._get_model().output, tensors)


def choose_edges(nodes: list[Node], outputs: list[Node]) -> dict[Node, Edges]:
    """Second pass: chooses the edges of each node: those of its nearest reader; other readers cut it further.

    So a convolution is emitted in the groups of the next one, without a concatenation and a split between them.

    Args:
        nodes: The nodes, each after its sources.
        outputs: The output nodes of the graph.

    Returns:
        A dict from a node to its edges, without unused nodes.
    """
    chosen: dict[Node, Edges] = dict.fromkeys(outputs, frozenset())
    for node in reversed(nodes):
        if node in chosen:
            # Readers are visited from the last to the nearest, which decides.
            chosen.update(zip(node.sources, node.wants(chosen[node]), strict=True))
    return chosen


def emit(nodes: list[Node], chosen: dict[Node, Edges], images: tf.Tensor, outputs: list[Node]) -> list[tf.Tensor]:
    """Third pass: emits the ops of each node once, in the order of the nodes.

    Args:
        nodes: The nodes, each after its sources; the first one is the image.
        chosen: The result of `choose_edges`.
        images: (batch, height, width, channels).
        outputs: The output nodes of the graph.

    Returns:
        The tensors of the outputs.
    """
    emitted = {nodes[0]: Pieces([images])}
    for node in nodes[1:]:
        if node in chosen:
            inputs = [emitted[source] for source in node.sources]
            name = node.scope.lstrip("_\\/>-") or "layer"  # no outermost scope begins so, though a layer's name may
            with tf.name_scope(f"{name}/"):  # the slash: not inside another's
                emitted[node] = Pieces(node.emit(inputs, chosen[node]))
    return [emitted[node].whole() for node in outputs]
