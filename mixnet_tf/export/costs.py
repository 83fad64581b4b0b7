"""What one inference of a TFLite model computes and moves, counted from the file."""

from typing import NamedTuple

import numpy as np
from tensorflow.lite.tools import flatbuffer_utils

_SCHEMA = flatbuffer_utils.schema_fb
_OP, _TYPE = _SCHEMA.BuiltinOperator, _SCHEMA.TensorType
_BYTES = {
    _TYPE.FLOAT32: 4, _TYPE.INT32: 4, _TYPE.UINT32: 4, _TYPE.FLOAT16: 2, _TYPE.INT16: 2, _TYPE.UINT16: 2,
    _TYPE.INT8: 1, _TYPE.UINT8: 1, _TYPE.BOOL: 1, _TYPE.INT64: 8, _TYPE.UINT64: 8, _TYPE.FLOAT64: 8,
}  # fmt: skip


class Costs(NamedTuple):
    """What one inference takes.

    Attributes:
        ops: Number of ops that compute anything; not those of constants, such as the DEQUANTIZE of fp16's weights.
        activation_bytes: Bytes of activations that the ops read and write, if each op reads its inputs from memory and
            writes its outputs there. Constants do not count.
        multiply_adds: Multiply-adds of convolutions and dense layers.
    """

    ops: int
    activation_bytes: int
    multiply_adds: int


def costs_of(content: bytes) -> Costs:
    """Counts the ops of a TFLite model, its traffic and its multiply-adds.

    Args:
        content: A TFLite model's bytes; an open batch counts as one image.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    constants = {place for place, tensor in enumerate(graph.tensors) if _has_data(model.buffers[tensor.buffer])}
    ops = traffic = multiply_adds = 0
    for op in graph.operators:
        read = [place for place in op.inputs if place >= 0 and place not in constants]
        if not read:
            constants.update(op.outputs)
            continue
        ops += 1
        moved = [graph.tensors[place] for place in [*read, *op.outputs]]
        traffic += sum(_size(tensor) * _BYTES[tensor.type] for tensor in moved)
        code = model.operatorCodes[op.opcodeIndex]
        inputs, output = [graph.tensors[place] for place in op.inputs if place >= 0], graph.tensors[op.outputs[0]]
        multiply_adds += _multiply_adds(max(code.builtinCode, code.deprecatedBuiltinCode), inputs, output)
    return Costs(ops, traffic, multiply_adds)


def _has_data(buffer):
    return buffer.data is not None and len(buffer.data) > 0


def _size(tensor):
    return int(np.prod(tensor.shape))


def _multiply_adds(kind, inputs, output):
    if kind == _OP.CONV_2D:  # weights (out, rows, columns, in of a group)
        return _size(output) * int(np.prod(inputs[1].shape[1:]))
    if kind == _OP.DEPTHWISE_CONV_2D:  # weights (1, rows, columns, out)
        return _size(output) * int(np.prod(inputs[1].shape[1:3]))
    if kind == _OP.FULLY_CONNECTED:  # weights (out, in)
        return _size(output) * int(inputs[1].shape[1])
    return 0
