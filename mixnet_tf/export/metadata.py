"""Writes metadata for Android's libraries into a TFLite file.

The layout is TensorFlow Lite's metadata schema with the identifier M001; field numbers are given beside the fields.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers
import keras
from tensorflow.lite.tools import flatbuffer_utils

from mixnet_tf.networks import normalizes

LABELS_FILE = "labels.txt"
_RGB = 1  # ColorSpaceType
_IMAGE = 2  # union ContentProperties
_NORMALIZATION_OPTIONS = 1  # union ProcessUnitOptions
_BOUNDARIES = 1  # BoundingBoxType
FEATURES, BOXES = 1, 3  # union ContentProperties: the kind of an output
LABELS_OF_AXIS, LABELS_OF_VALUES = (
    2,
    3,
)  # AssociatedFileType: whether a label names an index of a tensor or a value in it


class Output(NamedTuple):
    """The metadata of an output.

    Attributes:
        name: Name of the tensor.
        description: A sentence.
        content: `FEATURES`, or `BOXES` for y0, x0, y1, x1 as fractions of the image; None: not given.
        limits: Smallest and largest value; None: not given.
        labels: `LABELS_OF_AXIS` or `LABELS_OF_VALUES`; None: the output has no labels.
    """

    name: str
    description: str
    content: int | None = None
    limits: tuple[float, float] | None = None
    labels: int | None = None


def description(model: keras.Model, kind: str, format_name: str) -> str:
    """The description of a model; it claims normalization only if a layer of ours normalizes."""
    size = model.input_shape[1]
    scaled = " It normalizes its images itself." if normalizes(model) else ""
    return f"{model.name}, {kind}: {size}x{size} pixels, {format_name}.{scaled}"


def with_metadata(
    content: bytes,
    *,
    name: str,
    description: str,
    license: str | None,
    author: str | None,
    input_name: str,
    outputs: Sequence[Output],
    labels: Sequence[str] | None,
    custom: Mapping[str, bytes] | None = None,
) -> bytes:
    """Adds metadata to a TFLite model of images.

    The model takes pixels, so the metadata has a mean of 0 and a standard deviation of 1, which MediaPipe requires. The
    labels are appended to the file as a zip, where readers look for them.

    Args:
        content: The model's bytes.
        name: Name of the model.
        description: Description of the model, a sentence or two.
        license: License of the model; None: not given.
        author: Author of the model; None: not given.
        input_name: Name of the image tensor, RGB in [0, 255].
        outputs: An `Output` for each output, in the model's order.
        labels: One name per class; None: no labels.
        custom: Dict from a name to bytes, for clients that read more.

    Returns:
        The new model's bytes.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    schema = flatbuffer_utils.schema_fb
    buffer = schema.BufferT()
    buffer.data = list(_metadata(name, description, license, author, input_name, outputs, labels, custom or {}))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    written = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    if labels is not None:
        with zipfile.ZipFile(written, "a") as archive:
            # A fixed date, so that equal models give equal files.
            archive.writestr(zipfile.ZipInfo(LABELS_FILE), "\n".join(labels) + "\n")
    return written.getvalue()


def _metadata(name, description, license, author, input_name, outputs, labels, custom):
    builder = flatbuffers.Builder(1024)
    image = table(
        builder,
        name=(0, builder.CreateString(input_name)),
        description=(1, builder.CreateString("RGB image, values from 0 to 255.")),
        content=(3, _content(builder, _IMAGE, table(builder, color_space=(0, Byte(_RGB))))),
        process_units=(4, vector(builder, [_normalization(builder)])),
        stats=(5, _stats(builder, (0.0, 255.0))),
    )
    described = [_output(builder, output, labels) for output in outputs]
    others = [
        table(builder, name=(0, builder.CreateString(key)), data=(1, builder.CreateByteVector(data)))
        for key, data in custom.items()
    ]
    graph = table(
        builder,
        input_tensor_metadata=(2, vector(builder, [image])),
        output_tensor_metadata=(3, vector(builder, described)),
        custom_metadata=(9, vector(builder, others) if others else None),
    )
    root = table(
        builder,
        name=(0, builder.CreateString(name)),
        description=(1, builder.CreateString(description)),
        subgraph_metadata=(3, vector(builder, [graph])),
        author=(4, None if author is None else builder.CreateString(author)),
        license=(5, None if license is None else builder.CreateString(license)),
        min_parser_version=(7, builder.CreateString("1.0.0")),
    )
    builder.Finish(root, b"M001")
    return builder.Output()


def _output(builder, output, labels):
    files = None
    if labels is not None and output.labels is not None:
        files = table(
            builder,
            name=(0, builder.CreateString(LABELS_FILE)),
            description=(1, builder.CreateString("One label per line, in the order of the classes.")),
            type=(2, Byte(output.labels)),
        )
    content = None
    if output.content == FEATURES:
        content = _content(builder, FEATURES, table(builder))
    elif output.content == BOXES:
        order = numbers(builder, [1, 0, 3, 2], builder.PrependUint32)  # x0, y0, x1, y1
        properties = table(builder, index=(0, order), type=(1, Byte(_BOUNDARIES)))
        content = _content(builder, BOXES, properties)
    return table(
        builder,
        name=(0, builder.CreateString(output.name)),
        description=(1, builder.CreateString(output.description)),
        content=(3, content),
        stats=(5, None if output.limits is None else _stats(builder, output.limits)),
        associated_files=(6, None if files is None else vector(builder, [files])),
    )


class Byte(int):
    """A scalar of one byte."""


class Int32(int):
    """A scalar of four bytes; every other whole number is an offset."""


def table(builder: flatbuffers.Builder, **fields: Any) -> int:
    """Writes a table of fields, name=(number, value): a `Byte`, `Int32`, float or offset; None is left out."""
    builder.StartObject(1 + max((number for number, _ in fields.values()), default=-1))
    for number, value in fields.values():
        if isinstance(value, Byte):
            builder.PrependUint8Slot(number, value, 0)
        elif isinstance(value, Int32):
            builder.PrependInt32Slot(number, value, 0)
        elif isinstance(value, float):
            builder.PrependFloat32Slot(number, value, 0.0)
        elif value is not None:
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
    return builder.EndObject()


def vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    """Writes a vector of tables."""
    return numbers(builder, offsets, builder.PrependUOffsetTRelative)


def numbers(builder: flatbuffers.Builder, values: Sequence[Any], prepend: Any) -> int:
    """Writes a vector of values of four bytes, each by `prepend`."""
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        prepend(value)
    return builder.EndVector()


def _floats(builder, values):
    return numbers(builder, values, builder.PrependFloat32)


def _stats(builder, limits):
    smallest, largest = limits
    return table(builder, max=(0, _floats(builder, [largest])), min=(1, _floats(builder, [smallest])))


def _content(builder, kind, properties):
    return table(builder, type=(0, Byte(kind)), properties=(1, properties))


def _normalization(builder):
    options = table(builder, mean=(0, _floats(builder, [0.0])), std=(1, _floats(builder, [1.0])))
    return table(builder, type=(0, Byte(_NORMALIZATION_OPTIONS)), options=(1, options))
