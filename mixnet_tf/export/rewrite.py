"""A Keras MixNet to the function that a phone runs: the same numbers from fewer, faster ops.

Three passes: `fold` turns the model into nodes, `choose_edges` decides in which channel groups each is computed, and
`emit` writes the ops.
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
        # Not an attribute: a SavedModel would hold each layer's own functions, which take longer to write and to
        # convert than all the rest. The variables it does have to find.
        self._get_model = lambda: model
        self._variables = [variable.value for variable in model.variables]

    def __call__(self, images: tf.Tensor) -> Any:
        """(batch, height, width, 3) to what the model gives, a tensor or a dict of them."""
        return self._get_model()(images, training=False)


class InferenceFunction(AsWritten):
    """What a Keras MixNet computes in inference, as constants and plain TensorFlow ops.

    Batch normalization is folded into each group's kernel, activations are computed right behind their convolution, and
    channel groups stay apart for as long as nothing needs them side by side. A layer that is not MixNet's is called
    unchanged, or left out if it does nothing in inference.

    Args:
        model: A float32 `keras.Model` that contains a MixNet's layers.
        large_kernels: "split": depthwise kernels of over 25 taps become sums of smaller ones. "keep": they stay.
        units: Dict from a batch normalization to (channels,), the units to compute its output in, as
            `Activations.units` gives them; None: 1.
        arithmetic: One of `ARITHMETICS`, "float32" or "int8", whose rewritings are made.

    Attributes:
        foreign: Names of the layers that are not MixNet's and do something.

    Raises:
        ValueError: For an unknown option, several inputs, several outputs that are no dict, or a layer that the model
            uses twice.
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
        self._get_nodes = lambda: (nodes, outputs)  # not an attribute, as the model
        # All others are constants. To save the whole model's triples the time of a conversion.
        unchanged = [node.step for node in nodes if isinstance(node, Foreign)]
        self._variables = [variable.value for step in unchanged for variable in getattr(step, "variables", ())]

    def __call__(self, images: tf.Tensor) -> Any:
        """(batch, height, width, 3) to what the model gives, a tensor or a dict of them; all float32."""
        nodes, outputs = self._get_nodes()
        tensors = emit(nodes, choose_edges(nodes, outputs), images, outputs)
        return tensors[0] if len(tensors) == 1 else keras.tree.pack_sequence_as(self._get_model().output, tensors)


def choose_edges(nodes: list[Node], outputs: list[Node]) -> dict[Node, Edges]:
    """Second pass: the edges to emit each node with, those that its nearest reader wants; other readers cut it further.

    So a convolution is emitted in the groups that the next one takes, without a concatenation and a split between them.

    Args:
        nodes: Each behind its sources.
        outputs: Those of them that the graph gives.

    Returns:
        A dict that lacks the nodes that lead nowhere.
    """
    chosen: dict[Node, Edges] = dict.fromkeys(outputs, frozenset())
    for node in reversed(nodes):
        if node in chosen:
            # Readers are met from the last to the nearest, whose wish stays.
            chosen.update(zip(node.sources, node.wants(chosen[node]), strict=True))
    return chosen


def emit(nodes: list[Node], chosen: dict[Node, Edges], images: tf.Tensor, outputs: list[Node]) -> list[tf.Tensor]:
    """Third pass: the ops, each node's once, in the order of the nodes.

    Args:
        nodes: Each behind its sources; the first one is the image.
        chosen: What `choose_edges` returned.
        images: (batch, height, width, channels).
        outputs: Those nodes that the graph gives.

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
