"""What Android's libraries want to know of a TFLite model, written into its file.

The layout is that of TensorFlow Lite's metadata schema, identifier M001: field numbers stand beside the fields.
"""

import io
import zipfile
from collections.abc import Sequence

import flatbuffers
from tensorflow.lite.tools import flatbuffer_utils

LABELS_FILE = "labels.txt"
_RGB = 1  # ColorSpaceType
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2  # union ContentProperties
_NORMALIZATION_OPTIONS = 1  # union ProcessUnitOptions


def with_metadata(
    content: bytes,
    *,
    name: str,
    description: str,
    license: str | None,
    author: str | None,
    input_name: str,
    output_name: str,
    labels: Sequence[str] | None,
) -> bytes:
    """A TFLite image classifier with its metadata.

    The model normalizes its images itself, so the metadata says mean 0, standard deviation 1: MediaPipe wants to be
    told. The labels are appended to the file as a zip, where its readers look for them.

    Args:
        content: The model's bytes.
        name: Of the model.
        description: Of the model, a sentence or two.
        license: Of the model; None: nothing is said.
        author: Of the model; None: nothing is said.
        input_name: Of the image tensor, RGB in [0, 255].
        output_name: Of the scores; those named "probabilities" are said to lie between 0 and 1.
        labels: One name per class; None: no labels.

    Returns:
        The new model's bytes.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    schema = flatbuffer_utils.schema_fb
    buffer = schema.BufferT()
    buffer.data = list(_metadata(name, description, license, author, input_name, output_name, labels))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    written = io.BytesIO(flatbuffer_utils.convert_object_to_bytearray(model))
    if labels is not None:
        with zipfile.ZipFile(written, "a") as archive:
            # A fixed date, so that equal models make equal files.
            archive.writestr(zipfile.ZipInfo(LABELS_FILE), "\n".join(labels) + "\n")
    return written.getvalue()


def _metadata(name, description, license, author, input_name, output_name, labels):
    builder = flatbuffers.Builder(1024)
    image = _table(
        builder,
        name=(0, builder.CreateString(input_name)),
        description=(1, builder.CreateString("RGB image, values from 0 to 255.")),
        content=(3, _content(builder, _IMAGE_PROPERTIES, _table(builder, color_space=(0, _Byte(_RGB))))),
        process_units=(4, _vector(builder, [_normalization(builder)])),
        stats=(5, _table(builder, max=(0, _floats(builder, [255.0])), min=(1, _floats(builder, [0.0])))),
    )
    files = None
    if labels is not None:
        files = _table(
            builder,
            name=(0, builder.CreateString(LABELS_FILE)),
            description=(1, builder.CreateString("One label per line, in the order of the scores.")),
            type=(2, _Byte(_TENSOR_AXIS_LABELS)),
        )
    limits = None
    if output_name == "probabilities":
        limits = _table(builder, max=(0, _floats(builder, [1.0])), min=(1, _floats(builder, [0.0])))
    scores = _table(
        builder,
        name=(0, builder.CreateString(output_name)),
        description=(1, builder.CreateString(f"One of the {output_name} per class.")),
        content=(3, _content(builder, _FEATURE_PROPERTIES, _table(builder))),
        stats=(5, limits),
        associated_files=(6, None if files is None else _vector(builder, [files])),
    )
    graph = _table(
        builder,
        input_tensor_metadata=(2, _vector(builder, [image])),
        output_tensor_metadata=(3, _vector(builder, [scores])),
    )
    root = _table(
        builder,
        name=(0, builder.CreateString(name)),
        description=(1, builder.CreateString(description)),
        subgraph_metadata=(3, _vector(builder, [graph])),
        author=(4, None if author is None else builder.CreateString(author)),
        license=(5, None if license is None else builder.CreateString(license)),
        min_parser_version=(7, builder.CreateString("1.0.0")),
    )
    builder.Finish(root, b"M001")
    return builder.Output()


class _Byte(int):
    """A scalar of one byte; every other field here is an offset."""


def _table(builder, **fields):
    """A table of fields given as name=(number, value); a value of None is left out."""
    builder.StartObject(1 + max((number for number, _ in fields.values()), default=-1))
    for number, value in fields.values():
        if isinstance(value, _Byte):
            builder.PrependUint8Slot(number, value, 0)
        elif value is not None:
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
    return builder.EndObject()


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def _content(builder, kind, properties):
    return _table(builder, type=(0, _Byte(kind)), properties=(1, properties))


def _normalization(builder):
    options = _table(builder, mean=(0, _floats(builder, [0.0])), std=(1, _floats(builder, [1.0])))
    return _table(builder, type=(0, _Byte(_NORMALIZATION_OPTIONS)), options=(1, options))
