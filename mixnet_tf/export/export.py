"""The export from end to end: a Keras model to verified files and a report on them."""

import os
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.data import Split
from mixnet_tf.detection import is_detector
from mixnet_tf.errors import InputError
from mixnet_tf.export import ahead_of_time, publish, report, runtime
from mixnet_tf.export.arithmetics import CPU, NPU
from mixnet_tf.export.classifier import Classifier
from mixnet_tf.export.convert import INPUT_NAME, ConversionError
from mixnet_tf.export.detector import Detector
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.half_precision import HalfPrecision, computes_in_half_precision
from mixnet_tf.export.images import ImageStream
from mixnet_tf.export.inputs import ExportSettings, gather
from mixnet_tf.export.latency import add_latencies
from mixnet_tf.export.metadata import LABELS_FILE, description, with_metadata
from mixnet_tf.export.options import ExportOptions
from mixnet_tf.export.serving import write_serving_model
from mixnet_tf.export.tasks import Task
from mixnet_tf.files import StrPath, json_text
from mixnet_tf.networks import NOT_CHECKED, input_of
from mixnet_tf.progress import Progress, silent

REPORT_FILE = "report.json"
_FORM_WORDS = {"": "", "nms": "", "boxes": "boxes", "none": "raw"}  # in the name of a file, by `Task.form_for`


class _File(NamedTuple):
    """A model in one format, not yet at its path."""

    format_name: str
    path: str  # where it will be
    accelerator: str = CPU
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
    objects: Split | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes a classifier or a detector in each format, verified, with `labels.txt` and `report.json`.

    A format that fails its gate is not written, and an older file of its name is renamed `.old`; the others are. A
    detector's gates: encoded boxes and scores of float32 within 1e-5 of the largest (5% of them within 1e-4; not with
    the postprocessing, which hides them), and at most 0.1 points of average precision lost in fp32, 0.5 in fp16, 1 in
    dynamic and int8.

    Args:
        model: A `keras.Model` with a MixNet's layers and a fixed input size, or an `SSDLite`. The files take RGB in
            [0, 255], whether the model does or, as its layers show, normalized images.
        output_dir: Where the files go; made if it is missing.
        images: (images, size, size, 3), numbers in [0, 255]: what the files are compared with Keras on.
        labels: (images,) ints: their classes, if they are known; not for a detector.
        calibration_images: Others of the same data, for the int8 formats.
        label_names: A name for each class; None: the files have none.
        options: `ExportOptions`; None for the defaults. With `soc_models`, `compiled` of each entry of `files` has the
            files compiled for these chips.
        notes: A dict of further entries of the report, such as where the images are from.
        objects: For a detector: a split of `data.load_objects`, to measure average precision on.
        progress: Shows the phases of the work.

    Returns:
        The report, a dict, as written to `report.json`; `written` of each entry of `files` says whether its gate let it
        through.

    Raises:
        ValueError: For arguments that do not fit, before anything is converted.
    """
    options = (options or ExportOptions()).check()
    task = task_of(model)(model, options)
    if calibration_images is not None:
        calibration_images = np.asarray(calibration_images, np.float32)
    _check(task, images, labels, objects, calibration_images, label_names)
    output_dir = os.fspath(output_dir)
    publish.check_loadable(output_dir, options.formats)
    publish.check_writable(output_dir)
    if task.foreign_layers:
        logging.info(f"Not MixNet's, exported unchanged: {', '.join(task.foreign_layers)}.")

    task.measure(images, labels, objects, progress)
    size = task.model.input_shape[1]
    stem = os.path.join(output_dir, f"{model.name.replace('-', '_')}_{size}")
    files, rows, compiled = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        graphs = Graphs(task, calibration_images, scratch, progress)
        for format_name, accelerator in _wanted(options):
            files.append(_convert(task, graphs, format_name, accelerator, stem, label_names, progress))
            rows.append(_verify(task, files[-1], progress))
            compiled += _compile(task, files[-1], rows[-1], progress)
        contents = {
            file.format_name: file.content for file in files if file.content is not None and file.accelerator == CPU
        }
        if options.latency_runs and contents:
            image = next(iter(images))[np.newaxis]
            add_latencies(rows, contents, graphs.as_written, task.threads, options.latency_runs, image, progress)

    notes = dict(notes or {})
    if input_of(task.model) is None:
        notes["notes"] = [*(note for note in notes.get("notes", ()) if note != NOT_CHECKED), NOT_CHECKED]
    result = {
        "model": model.name,
        "image_size": size,
        "classes": task.classes,
        "num_images": task.num_images,
        **task.shown_options(),
        **notes,
        "calibration": None if graphs.calibration is None else graphs.calibration.summary(),
        **({} if task.foreign_layers is None else {"foreign_layers": task.foreign_layers}),
        "runtime": runtime.RUNTIME,
        "tensorflow": tf.__version__,
        "machine": runtime.machine(),
        "files": rows,
    }
    _write([*zip(rows, files, strict=True), *compiled], result, output_dir, label_names)
    return result


def task_of(model: keras.Model) -> type[Task]:
    """Returns the `Task` that exports a model: `Detector` for an `SSDLite`, else `Classifier`."""
    return Detector if is_detector(model) else Classifier


def export_opened(
    opened: Any, settings: ExportSettings, options: ExportOptions, progress: Progress = silent
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
        options=options._replace(crop=None, resizing=inputs.resizing),
        notes=inputs.notes,
        objects=inputs.objects,
        progress=progress,
    )


def _check(task, images, labels, objects, calibration_images, label_names):
    """Refuses arguments that do not fit the model, before any work."""
    for name, value in (("labels", labels), ("objects", objects)):
        if value is not None and name != task.measured_on:
            raise InputError(f"{name}: expected None for {task.kind}, which is measured on {task.measured_on}.")
    if task.measured_on == "objects" and objects is None:
        raise InputError(f"objects: expected a split of `data.load_objects` for {task.kind}; received None.")
    size, calibrates = task.model.input_shape[1], task.options.calibrates
    if label_names is not None and len(label_names) != task.classes:
        raise InputError(f"{len(label_names)} labels do not fit a model of {task.classes} classes.")
    if calibrates and (calibration_images is None or not len(calibration_images)):
        raise InputError("The int8 formats need calibration images, of the data that the model was trained on.")
    for given in (images, calibration_images) if calibrates else (images,):
        if len(given) == 0 or tuple(given.shape[1:]) != (size, size, 3):
            raise InputError(f"The model takes {size}x{size} RGB images; received {tuple(given.shape)}.")


def _wanted(options):
    """The (format, accelerator) of each file; a SavedModel is for none of them, and written once."""
    pairs = [(format_name, each) for each in options.accelerator for format_name in options.formats]
    return list(dict.fromkeys((name, CPU if name == "saved_model" else each) for name, each in pairs))


def _convert(task, graphs, format_name, accelerator, stem, label_names, progress) -> _File:
    """The model in a format: a TFLite file's bytes, or a SavedModel, written aside."""
    options = task.options
    if format_name == "saved_model":
        path = f"{stem}_saved_model"
        with progress("saved_model: writing"):
            write_serving_model(task.model, publish.prepared_folder(path), options.output, task.resizing)
        return _File(format_name, path)
    words = (format_name, _FORM_WORDS[task.form_for(accelerator)], "" if accelerator == CPU else accelerator)
    path = f"{stem}_{'_'.join(filter(None, words))}.tflite"
    try:
        content = graphs.convert(format_name, accelerator)
    except ConversionError as error:
        return _File(format_name, path, accelerator, failure=str(error))
    outputs, custom = task.described_outputs(content)
    content = with_metadata(
        content,
        name=task.model.name,
        description=description(task.model, task.kind, format_name),
        license=options.license,
        author=options.author,
        input_name=INPUT_NAME,
        outputs=outputs,
        labels=label_names,
        custom=custom,
    )
    return _File(format_name, path, accelerator, content)


def _verify(task, file, progress) -> dict[str, Any]:
    """A row of the report: what the file is, how far it is from Keras, and whether it is written."""
    row: dict[str, Any] = {"format": file.format_name, "accelerator": file.accelerator}
    row |= {"file": os.path.basename(file.path), "for": report.made_for(file.format_name, file.accelerator)}
    if file.failure is not None:
        row |= {"failures": [file.failure], "written": False}
    else:
        row |= report.structure(file.content) if file.content is not None else {}
        measured, failures, warnings = task.verify(
            file.format_name, file.path, file.content, row.get("flex_ops", 0), progress
        )
        if file.content is None:
            row["bytes"] = publish.size_of(publish.aside(file.path))
        row |= {**measured, "failures": failures, "warnings": warnings}
        in_half_precision = computes_in_half_precision(file.format_name, file.accelerator)
        if file.content is not None and in_half_precision and task.options.half_precision_images:
            _verify_in_half_precision(task, file.content, row, progress)
        row["written"] = not row["failures"] or task.options.allow_accuracy_drop
    if not row["written"]:
        row["older_file"] = publish.name_aside(file.path)
    return row


def _verify_in_half_precision(task, content, row, progress):
    """Adds to a row how a file answers where a phone computes it in half precision."""
    try:
        simulated = HalfPrecision(content)
    except InputError as error:
        row["half_precision"] = None
        row["warnings"].append(str(error).rstrip("."))
        return
    measured, failures, warnings = task.verify_in_half_precision(content, simulated, progress)
    row["half_precision"] = {**measured, **simulated.closest_to_overflow()}
    row["failures"] += [f"in half precision: {sentence}" for sentence in failures]
    row["warnings"] += [f"in half precision: {sentence}" for sentence in [*warnings, *simulated.warnings()]]


def _compile(task, file, row, progress):
    """The entries of the files compiled for chips, which the row gets as well, and the files."""
    soc_models = task.options.soc_models
    if soc_models is None or file.accelerator != NPU:
        return []
    content = file.content if row["written"] else None
    found = []
    for entry, path, compiled in ahead_of_time.compile_file(file.path, content, soc_models, progress):
        if compiled is None:
            entry["older_file"] = publish.name_aside(path)
        found.append((entry, _File(file.format_name, path, file.accelerator, compiled)))
    row["compiled"] = [entry for entry, _ in found]
    return found


def _write(rows_and_files, result, output_dir, label_names):
    """Gives the files that passed their names, and sets the older ones of those that failed aside."""
    paths, outdated = [], {}
    for row, file in rows_and_files:
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
