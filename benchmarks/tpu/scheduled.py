"""What a program compiled for a TPU tells: the compiler's estimate of cycles by op, layer and kind of op."""

import collections
import re
from collections.abc import Iterable
from typing import NamedTuple

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(\S+) = (.*?) ([a-z][a-z0-9\-]*)\(")
_NAME = re.compile(r'metadata=\{[^}]*?op_name="([^"]*)"')
_NUMBER = re.compile(r"[._]\d+$")  # by which TensorFlow, Keras and XLA make a name unique
_GRADIENT = "gradient_tape/"
_DEPTHWISE, _OTHER, _EMA = "depthwise convolution", "other convolution", "moving averages of the weights"
_NORMALIZATION = "batch normalization"
_CONVOLUTIONS = {  # by TensorFlow's op
    **dict.fromkeys(("depthwise", "Conv2D", "convolution"), "forward"),
    **dict.fromkeys(("DepthwiseConv2dNativeBackpropInput", "Conv2DBackpropInput"), "gradient of the input"),
    **dict.fromkeys(("DepthwiseConv2dNativeBackpropFilter", "Conv2DBackpropFilter"), "gradient of the kernel"),
}
_KINDS = {
    **dict.fromkeys(("mul", "Mul"), "products"),
    **dict.fromkeys(("add", "Add", "AddV2", "AddN"), "sums"),
}


class Op(NamedTuple):
    """An op of the schedule, mostly a fusion of many.

    Attributes:
        layer: The Keras layer of the TensorFlow op that it is named after; "" if it is of none, as in the optimizer.
        op: That TensorFlow op; XLA's if it is of none.
        kind: The kind of op, as in "depthwise convolution, forward"; `op` itself where there is no such word.
        shape: XLA's type of the result, with the layout.
        cycles: The compiler's estimate.
    """

    layer: str
    op: str
    kind: str
    shape: str
    cycles: int


def schedule(text: str) -> list[Op]:
    """The ops of a compiled program that have an estimate, in their order.

    Copies that run beside other ops have none.
    """
    entry = text[text.index("\nENTRY ") :].partition("\n}")[0]
    ops = []
    for line in entry.splitlines():
        cycles = _CYCLES.search(line)
        if cycles is not None:
            own, shape, _ = _INSTRUCTION.match(line).groups()
            name = _NAME.search(line)
            layer, op = _parts(own if name is None else name[1])
            is_gradient = name is not None and name[1].startswith(_GRADIENT)
            ops.append(Op(layer, op, _kind(layer, op, is_gradient), shape, int(cycles[1])))
    return ops


def by_kind(ops: Iterable[Op]) -> dict[str, int]:
    """The cycles of each kind of op, the largest first."""
    sums: collections.Counter[str] = collections.Counter()
    for op in ops:
        sums[op.kind] += op.cycles
    return dict(sums.most_common())


def _kind(layer, op, is_gradient):
    if layer.endswith("bn"):
        return f"{_NORMALIZATION}, {'gradient' if is_gradient else 'forward'}"
    if op in _CONVOLUTIONS:  # a MixConv may compute depthwise convolutions as others
        is_depthwise = op.lower().startswith("depthwise") or layer.endswith("mixconv")
        return f"{_DEPTHWISE if is_depthwise else _OTHER}, {_CONVOLUTIONS[op]}"
    return _EMA if not layer and op == "Sub" else _KINDS.get(op, op)


def _parts(name):
    """(layer, op) of a name like gradient_tape/model_1/layer_1/op_2."""
    path = name.removeprefix(_GRADIENT).split("/")
    layer = _NUMBER.sub("", path[1]) if len(path) > 2 else ""
    return layer, _NUMBER.sub("", path[-1])
