"""The export from end to end: a Keras model to verified files and a report on them."""

import json
import os
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mixnet_tf.errors import InputError
from mixnet_tf.export import publish, quantize, report, runtime
from mixnet_tf.export.convert import INPUT_NAME, ConversionError, to_tflite
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.metadata import LABELS_FILE, with_metadata
from mixnet_tf.export.rewrite import LARGE_KERNELS, AsWritten, InferenceFunction
from mixnet_tf.export.selective import check_float_parts
from mixnet_tf.export.serving import predict_saved_model, write_serving_model
from mixnet_tf.export.target import OUTPUTS, target_model
from mixnet_tf.progress import silent

FORMATS = (*quantize.TFLITE_FORMATS, "saved_model")
REPORT_FILE = "report.json"
_KERAS_BATCH = 32  # images


class Options(NamedTuple):
    """How a model is exported."""

    formats: tuple[str, ...] = ("fp32",)
    batch_size: int = 1  # images; 0 for any number
    large_kernels: str = "split"
    int8_float_parts: int = 0  # of the int8 file: parts of the network that stay float, those with the largest error
    output: str = "probabilities"
    crop: bool = True  # whether the SavedModel's image_bytes are cropped as in `preprocess_for_eval`
    author: str | None = None
    license: str | None = None
    allow_accuracy_drop: bool = False
    latency_runs: int = 20  # invocations of each model; 0: no latency is measured

    def check(self):
        """Checks every field, and returns the options.

        Raises:
            ValueError: For a value out of its range, or float parts of no int8 file.
        """
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown or not self.formats or len(set(self.formats)) < len(self.formats):
            raise InputError(f"formats: expected some of {list(FORMATS)}, each once; received {list(self.formats)}.")
        for name, allowed in (("large_kernels", LARGE_KERNELS), ("output", OUTPUTS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}: expected one of {allowed}; received {getattr(self, name)!r}.")
        for name in ("batch_size", "latency_runs", "int8_float_parts"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected a whole number from 0; received {getattr(self, name)!r}.")
        if self.int8_float_parts and "int8" not in self.formats:
            raise InputError(f"int8_float_parts goes with the format int8; received formats {list(self.formats)}.")
        return self


def export_model(
    model,
    output_dir,
    images,
    labels=None,
    *,
    calibration_images=None,
    label_names=None,
    options=None,
    notes=None,
    progress=silent,
):
    """Writes a model in each format, verified, with `labels.txt` and `report.json`.

    A format that fails its gate is not written, and an older file of its name is renamed `.old`; the others are.

    Args:
        model: A `keras.Model` with a MixNet's layers and a fixed input size, from RGB in [0, 255].
        output_dir: Where the files go; made if it is missing.
        images: (images, size, size, 3), float32 in [0, 255]: what the files are compared with Keras on.
        labels: (images,) ints: their classes, if they are known.
        calibration_images: Others of the same data, for the int8 formats.
        label_names: A name for each class; None: the files carry none.
        options: `Options`; None for the defaults.
        notes: A dict of further entries of the report, such as where the images are from.
        progress: Shows the phases of the work.

    Returns:
        The report, a dict, as written to `report.json`; `written` of each entry of `files` says whether its gate let it
        through.

    Raises:
        ValueError: For arguments that do not fit, before anything is converted.
    """
    options = (options or Options()).check()
    target = target_model(model, options.output)
    foreign = _checked(target, images, calibration_images, label_names, options)
    publish.check_writable(output_dir)
    if foreign:
        logging.info(f"Not MixNet's, exported as they are: {', '.join(foreign)}.")

    with progress(f"Keras: classifying {len(images)} images"):
        expected = target.predict(images, batch_size=_KERAS_BATCH, verbose=0)
    largest = 1.0 if options.output == "probabilities" else float(np.abs(expected).max())
    stem = os.path.join(output_dir, f"{model.name.replace('-', '_')}_{target.input_shape[1]}")
    rows, contents = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        graphs = Graphs(target, options, calibration_images, scratch, progress)
        for format_name in options.formats:
            if format_name == "saved_model":
                path = f"{stem}_saved_model"
                with progress("saved_model: writing and verifying"):
                    row = _saved_model(target, path, images, options)
            else:
                path = f"{stem}_{format_name}.tflite"
                row = _tflite(graphs, format_name, images, label_names, model.name, options, contents, progress)
            row = {"format": format_name, "file": os.path.basename(path), **row}
            rows.append(_judged(row, path, expected, labels, largest, options))
    _add_latencies(rows, contents, target, options, progress)

    result = {
        "model": model.name,
        "image_size": target.input_shape[1],
        "classes": target.output_shape[-1],
        "num_images": len(images),
        **options._asdict(),
        **(notes or {}),
        "calibration": None if graphs.calibration is None else graphs.calibration.summary(),
        "foreign_layers": foreign,
        "runtime": runtime.RUNTIME,
        "tensorflow": tf.__version__,
        "machine": runtime.machine(),
        "files": rows,
    }
    _publish(result, output_dir, contents, label_names)
    return result


def _checked(target, images, calibration_images, label_names, options):
    """The names of the layers that are not MixNet's, after all that can be refused without work was."""
    size, classes = target.input_shape[1], target.output_shape[-1]
    if label_names is not None and len(label_names) != classes:
        raise InputError(f"{len(label_names)} labels do not fit a model of {classes} classes.")
    needs_calibration = set(options.formats) & set(quantize.NEEDS_CALIBRATION)
    if needs_calibration and (calibration_images is None or not len(calibration_images)):
        raise InputError("The int8 formats need calibration images; give a dataset or a folder of images.")
    for given in (images, calibration_images) if needs_calibration else (images,):
        if len(given) == 0 or tuple(given.shape[1:]) != (size, size, 3):
            raise InputError(f"The model takes {size}x{size} RGB images; received {tuple(given.shape)}.")
    if options.int8_float_parts:
        check_float_parts(target, options.int8_float_parts)
    return InferenceFunction(target, options.large_kernels).foreign


def _tflite(graphs, format_name, images, label_names, model_name, options, contents, progress):
    """What a TFLite model is and gives; its bytes go into `contents`."""
    try:
        content = graphs.convert(format_name)
    except ConversionError as error:
        return {"failures": [str(error)]}
    size = images.shape[1]
    contents[format_name] = content = with_metadata(
        content,
        name=model_name,
        description=f"{model_name}, an image classifier: {size}x{size} pixels, {format_name}. It normalises its images "
        "itself.",
        licence=options.license,
        author=options.author,
        input_name=INPUT_NAME,
        output_name=options.output,
        labels=label_names,
    )
    with progress(f"{format_name}: verifying", len(images), "images") as phase:
        outputs = runtime.predict(content, images, seen=phase.advance)
    return {**report.structure(content), "outputs": outputs}


def _saved_model(target, path, images, options):
    """What a SavedModel, written aside, is and gives."""
    aside = publish.prepared_folder(path)
    write_serving_model(target, aside, options.output, options.crop)
    size = sum(
        tf.io.gfile.stat(os.path.join(at, name)).length for at, _, names in tf.io.gfile.walk(aside) for name in names
    )
    return {"bytes": size, "outputs": predict_saved_model(aside, images, options.output)}


def _judged(row, path, expected, labels, largest, options):
    """A row of the report, with what was measured and whether the file is written."""
    actual = row.pop("outputs", None)
    if actual is not None:
        row |= report.compare(expected, actual, labels)
        row["failures"], row["warnings"] = report.judge(row["format"], row, largest)
    row["written"] = actual is not None and (not row["failures"] or options.allow_accuracy_drop)
    if not row["written"]:
        row["older_file"] = publish.name_aside(path)
    return row


def _add_latencies(rows, contents, target, options, progress):
    """Milliseconds of each TFLite model beside those of the Keras model converted as it is, in turns."""
    if not options.latency_runs or not contents:
        return
    with progress("Latency, beside the Keras model converted as it is: converting it"):
        as_written = to_tflite(AsWritten(target), target.input_shape[1], options.batch_size or None, options.output)
    for threads in (1, 2):
        with progress(f"Latency on {threads} threads: {options.latency_runs} rounds"):
            medians = runtime.latencies({**contents, "as_written": as_written}, threads, options.latency_runs)
        for row in rows:
            if row["format"] in medians:
                row.setdefault("latency_ms", {})[str(threads)] = medians[row["format"]]
                row.setdefault("as_written_latency_ms", {})[str(threads)] = medians["as_written"]


def _publish(result, output_dir, contents, label_names):
    """Gives the files that passed their names, and sets the older ones of those that failed aside."""
    paths, outdated = [], {}
    for row in result["files"]:
        path = os.path.join(output_dir, row["file"])
        if row["written"]:
            paths.append(path)
            if row["format"] in contents:
                publish.prepared(path, contents[row["format"]])
        else:
            publish.discard(path)
            if row["older_file"] is not None:
                outdated[path] = row["older_file"]
                row["older_file"] = os.path.basename(row["older_file"])
    if label_names is not None:
        paths.append(os.path.join(output_dir, LABELS_FILE))
        publish.prepared(paths[-1], ("\n".join(label_names) + "\n").encode())
    report_path = os.path.join(output_dir, REPORT_FILE)
    publish.prepared(report_path, json.dumps(result, indent=2).encode())
    publish.publish(paths, outdated, report_path)
