"""The export from end to end: a Keras model to verified files and a report on them."""

import os
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.errors import InputError
from mixnet_tf.export import publish, report, runtime
from mixnet_tf.export.convert import INPUT_NAME, ConversionError, to_tflite
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.images import ImageStream, in_batches
from mixnet_tf.export.inputs import Settings, gather
from mixnet_tf.export.metadata import FEATURES, LABELS_FILE, LABELS_OF_AXIS, Output, description, with_metadata
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.export.selective import check_float_parts
from mixnet_tf.export.serving import predict_saved_model, write_serving_model
from mixnet_tf.export.target import target_model
from mixnet_tf.files import StrPath, json_text
from mixnet_tf.networks import NOT_CHECKED, input_of
from mixnet_tf.progress import Progress, silent

REPORT_FILE = "report.json"
_KERAS_BATCH = 32  # images


class _File(NamedTuple):
    """A model in one format, not yet at its path."""

    format_name: str
    path: str  # where it will be
    content: bytes | None = None  # of a TFLite file; a SavedModel is written aside
    failure: str | None = None  # why there is none


def export_model(
    model: keras.Model,
    output_dir: StrPath,
    images: np.ndarray | ImageStream,
    labels: np.ndarray | None = None,
    *,
    calibration_images: np.ndarray | None = None,
    label_names: Sequence[str] | None = None,
    options: ExportOptions | None = None,
    notes: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes a model in each format, verified, with `labels.txt` and `report.json`.

    A format that fails its gate is not written, and an older file of its name is renamed `.old`; the others are.

    Args:
        model: A `keras.Model` with a MixNet's layers and a fixed input size. The files take RGB in [0, 255], whether
            the model does or, as its layers show, normalized images.
        output_dir: Where the files go; made if it is missing.
        images: (images, size, size, 3), numbers in [0, 255]: what the files are compared with Keras on.
        labels: (images,) ints: their classes, if they are known.
        calibration_images: Others of the same data, for the int8 formats.
        label_names: A name for each class; None: the files have none.
        options: `ExportOptions`; None for the defaults.
        notes: A dict of further entries of the report, such as where the images are from.
        progress: Shows the phases of the work.

    Returns:
        The report, a dict, as written to `report.json`; `written` of each entry of `files` says whether its gate let it
        through.

    Raises:
        ValueError: For arguments that do not fit, before anything is converted.
    """
    options = (options or ExportOptions()).check()
    target = target_model(model, options.output)
    if calibration_images is not None:
        calibration_images = np.asarray(calibration_images, np.float32)
    foreign = _checked(target, images, calibration_images, label_names, options)
    output_dir = os.fspath(output_dir)
    publish.check_folder(output_dir, options.formats)
    publish.check_writable(output_dir)
    if foreign:
        logging.info(f"Not MixNet's, exported unchanged: {', '.join(foreign)}.")

    with progress(f"Keras: classifying {len(images)} images"):
        expected = np.concatenate([target.predict_on_batch(batch) for batch in in_batches(images, _KERAS_BATCH)])
    stem = os.path.join(output_dir, f"{model.name.replace('-', '_')}_{target.input_shape[1]}")
    files, rows = [], []
    with tempfile.TemporaryDirectory() as scratch:
        graphs = Graphs(target, options, calibration_images, scratch, progress)
        for format_name in options.formats:
            file = _convert(target, graphs, format_name, stem, label_names, options, progress)
            files.append(file)
            rows.append(_verify(file, expected, images, labels, options, progress))
    _add_latencies(rows, files, target, options, progress)

    notes = dict(notes or {})
    if input_of(target) is None:
        logging.info(f"{NOT_CHECKED[0].upper()}{NOT_CHECKED[1:]}: the files take what the model takes.")
        notes["notes"] = [*(note for note in notes.get("notes", ()) if note != NOT_CHECKED), NOT_CHECKED]
    result = {
        "model": model.name,
        "image_size": target.input_shape[1],
        "classes": target.output_shape[-1],
        "num_images": len(images),
        **options._asdict(),
        **notes,
        "calibration": None if graphs.calibration is None else graphs.calibration.summary(),
        "foreign_layers": foreign,
        "runtime": runtime.RUNTIME,
        "tensorflow": tf.__version__,
        "machine": runtime.machine(),
        "files": rows,
    }
    _write(result, files, output_dir, label_names)
    return result


def export_opened(
    opened: Any, settings: Settings, options: ExportOptions, progress: Progress = silent
) -> dict[str, Any]:
    """Exports a model with the images and names that the settings find; the arguments and errors are those of `gather`.

    Returns:
        The report of `export_model`.
    """
    inputs = gather(opened, settings, options, progress)
    return export_model(
        opened.model,
        settings.output_dir,
        inputs.images,
        inputs.labels,
        calibration_images=inputs.calibration_images,
        label_names=inputs.label_names,
        options=options._replace(crop=inputs.crop),
        notes=inputs.notes,
        progress=progress,
    )


def _checked(target, images, calibration_images, label_names, options):
    """The names of the layers that are not MixNet's, after all that can be refused without work was."""
    size, classes = target.input_shape[1], target.output_shape[-1]
    if label_names is not None and len(label_names) != classes:
        raise InputError(f"{len(label_names)} labels do not fit a model of {classes} classes.")
    if options.calibrates and (calibration_images is None or not len(calibration_images)):
        raise InputError("The int8 formats need calibration images; give a dataset or a folder of images.")
    for given in (images, calibration_images) if options.calibrates else (images,):
        if len(given) == 0 or tuple(given.shape[1:]) != (size, size, 3):
            raise InputError(f"The model takes {size}x{size} RGB images; received {tuple(given.shape)}.")
    if options.int8_float_parts:
        check_float_parts(target, options.int8_float_parts)
    return InferenceFunction(target, options.large_kernels).foreign


def _convert(target, graphs, format_name, stem, label_names, options, progress) -> _File:
    """The model in a format: a TFLite file's bytes, or a SavedModel, written aside."""
    if format_name == "saved_model":
        path = f"{stem}_saved_model"
        with progress("saved_model: writing"):
            write_serving_model(target, publish.prepared_folder(path), options.output, options.crop)
        return _File(format_name, path)
    path = f"{stem}_{format_name}.tflite"
    try:
        content = graphs.convert(format_name)
    except ConversionError as error:
        return _File(format_name, path, failure=str(error))
    content = with_metadata(
        content,
        name=target.name,
        description=description(target, "an image classifier", format_name),
        license=options.license,
        author=options.author,
        input_name=INPUT_NAME,
        outputs=[
            Output(
                options.output,
                f"One of the {options.output} per class.",
                FEATURES,
                (0.0, 1.0) if options.output == "probabilities" else None,
                LABELS_OF_AXIS,
            )
        ],
        labels=label_names,
    )
    return _File(format_name, path, content)


def _verify(file, expected, images, labels, options, progress) -> dict[str, Any]:
    """A row of the report: what the file is, what it answers beside Keras, and whether it is written."""
    row = {"format": file.format_name, "file": os.path.basename(file.path)}
    if file.failure is not None:
        row |= {"failures": [file.failure], "written": False}
    else:
        if file.content is None:
            aside = publish.aside(file.path)
            with progress("saved_model: verifying"):
                actual = predict_saved_model(aside, images, options.output)
            row["bytes"] = publish.size_of(aside)
        else:
            with progress(f"{file.format_name}: verifying", len(images), "images") as phase:
                actual = runtime.predict(file.content, images, seen=phase.advance)
            row |= report.structure(file.content)
        largest = 1.0 if options.output == "probabilities" else float(np.abs(expected).max())
        row |= report.compare(expected, actual, labels)
        row["failures"], row["warnings"] = report.judge(file.format_name, row, largest)
        row["written"] = not row["failures"] or options.allow_accuracy_drop
    if not row["written"]:
        row["older_file"] = publish.name_aside(file.path)
    return row


def _add_latencies(rows, files, target, options, progress):
    """Milliseconds of each TFLite model beside those of the plain conversion of the Keras model, in turns."""
    contents = {file.format_name: file.content for file in files if file.content is not None}
    if not options.latency_runs or not contents:
        return
    with progress("Latency, beside a plain conversion: converting it"):
        plain = to_tflite(AsWritten(target), target.input_shape[1], options.batch_size or None, options.output)
    for threads in (1, 2):
        with progress(f"Latency, {threads} thread{'s' if threads > 1 else ''}: {options.latency_runs} rounds"):
            medians = runtime.latencies({**contents, "as_written": plain}, threads, options.latency_runs)
        for row in rows:
            if row["format"] in medians:
                row.setdefault("latency_ms", {})[str(threads)] = medians[row["format"]]
                row.setdefault("as_written_latency_ms", {})[str(threads)] = medians["as_written"]


def _write(result, files, output_dir, label_names):
    """Gives the files that passed their names, and sets the older ones of those that failed aside."""
    paths, outdated = [], {}
    for row, file in zip(result["files"], files, strict=True):
        if row["written"]:
            paths.append(file.path)
            if file.content is not None:
                publish.prepared(file.path, file.content)
        else:
            publish.discard(file.path)
            if row["older_file"] is not None:
                outdated[file.path] = row["older_file"]
                row["older_file"] = os.path.basename(row["older_file"])
    if label_names is not None:
        paths.append(os.path.join(output_dir, LABELS_FILE))
        publish.prepared(paths[-1], ("\n".join(label_names) + "\n").encode())
    report_path = os.path.join(output_dir, REPORT_FILE)
    publish.prepared(report_path, json_text(result).encode())
    publish.publish(paths, outdated, report_path)
