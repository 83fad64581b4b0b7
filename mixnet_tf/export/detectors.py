"""The export of a detector: verified files that MediaPipe's ObjectDetector opens, and a report on them."""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mixnet_tf.errors import InputError
from mixnet_tf.export import postprocess, publish, report, runtime
from mixnet_tf.export.convert import INPUT_NAME
from mixnet_tf.export.detector_graphs import DetectorGraphs, as_written, keras_outputs, outputs, tflite_outputs
from mixnet_tf.export.detector_options import DetectorOptions
from mixnet_tf.export.metadata import LABELS_FILE, description, with_metadata
from mixnet_tf.export.postprocess import Decoding
from mixnet_tf.files import StrPath, json_text
from mixnet_tf.networks import taking_pixels
from mixnet_tf.progress import Progress, silent

_REPORT_FILE = "report.json"
# How far a float32 file's values may be from Keras', as parts of the largest: 95% of them, and each.
_MOST_DIFFERENCE, _MOST_OF_ONE_VALUE, _MOST_VALUES = 1e-5, 1e-4, 0.95
_MOST_AP_LOST = {"fp32": 0.001, "fp16": 0.005, "dynamic": 0.01, "int8": 0.01}
# A function of images (batch, size, size, 3) to "boxes", "scores", "classes" and "count", as `detect` gives them.
Predict = Callable[[np.ndarray], dict[str, np.ndarray]]


def export_detector(
    model: keras.Model,
    output_dir: StrPath,
    images: np.ndarray,
    decoding: Decoding,
    suppress: Callable[[Any, Any], dict[str, Any]],
    measure: Callable[[Predict | None], dict[str, Any]],
    *,
    calibration_images: np.ndarray | None = None,
    label_names: Sequence[str] | None = None,
    options: DetectorOptions | None = None,
    notes: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes a detector in each format, verified, with `labels.txt` and `report.json`.

    A format that fails its gate is not written, and an older file of its name is renamed `.old`; the others are. The
    gates: values of float32 within 1e-5 of the largest (5% of them within 1e-4; without the postprocessing, which hides
    them), and at most 0.1 points of AP lost in fp32, 0.5 in fp16, 1 in dynamic and int8.

    Args:
        model: A float32 `keras.Model` from square RGB images in [0, 255] to a dict of "boxes", coded, and "logits".
        output_dir: Where the files go; made if it is missing.
        images: (images, size, size, 3), float32 in [0, 255]: what the outputs are compared with Keras on.
        decoding: The model's `Decoding`.
        suppress: A function of codes and scores, the background left out, to what a `Predict` gives.
        measure: A function of a `Predict`, or of None for the model itself, to a dict with "AP" and "num_images".
        calibration_images: Others of the same data, for int8.
        label_names: A name for each class; None: the files have none.
        options: `DetectorOptions`; None for the defaults.
        notes: A dict of further entries of the report.
        progress: Shows the phases of the work.

    Returns:
        The report, a dict, as written to `report.json`; `written` of each entry of `files` says whether its gate let it
        through.

    Raises:
        ValueError: For arguments that do not fit, before anything is converted.
    """
    options = (options or DetectorOptions()).check()
    if any(layer.compute_dtype != "float32" for layer in model.layers):
        raise InputError(f"Model {model.name!r} computes in half precision; export what a run leaves, final.keras.")
    if label_names is not None and len(label_names) != decoding.classes:
        raise InputError(f"{len(label_names)} labels do not fit a detector of {decoding.classes} classes.")
    if "int8" in options.formats and (calibration_images is None or not len(calibration_images)):
        raise InputError("int8 needs calibration images; give some of the data that the detector was trained on.")
    model = taking_pixels(model)
    if calibration_images is not None:
        calibration_images = np.asarray(calibration_images, np.float32)
    output_dir = os.fspath(output_dir)
    publish.check_folder(output_dir, options.formats)
    publish.check_writable(output_dir)
    with progress(f"Keras: {len(images)} images"):
        expected = keras_outputs(model, images)
    before = measure(None)
    size = model.input_shape[1]
    stem = os.path.join(output_dir, f"{model.name.replace('-', '_')}_{size}")
    rows, contents = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        graphs = DetectorGraphs(model, decoding, options, calibration_images, scratch, progress)
        for format_name in options.formats:
            content = graphs.convert(format_name)
            path = f"{stem}_{format_name}{'' if options.postprocess == 'nms' else '_raw'}.tflite"
            contents[path] = _with_metadata(content, model, format_name, decoding, label_names, options)
            rows.append(
                _verify(path, contents[path], format_name, images, expected, before, suppress, measure, options)
            )
    _add_latencies(rows, contents, model, decoding, options, progress)
    result = {
        "model": model.name,
        "image_size": size,
        "classes": decoding.classes,
        **options._asdict(),
        **(notes or {}),
        "num_images": before["num_images"],
        "calibration": None if graphs.calibration is None else graphs.calibration.summary(),
        "runtime": runtime.RUNTIME,
        "tensorflow": tf.__version__,
        "machine": runtime.machine(),
        "files": rows,
    }
    _write(result, contents, output_dir, label_names)
    return result


def _with_metadata(content, model, format_name, decoding, label_names, options):
    custom = (
        {} if options.postprocess == "nms" else {postprocess.DETECTOR_METADATA: postprocess.anchors_metadata(decoding)}
    )
    return with_metadata(
        content,
        name=model.name,
        description=description(model, "an object detector", format_name),
        license=options.license,
        author=options.author,
        input_name=INPUT_NAME,
        outputs=postprocess.described(runtime.output_names(content)),
        labels=label_names,
        custom=custom,
    )


def _verify(path, content, format_name, images, expected, before, suppress, measure, options):
    """A row of the report: what the file is, how well it does beside Keras, and whether it is written."""
    row: dict[str, Any] = {"format": format_name, "file": os.path.basename(path), **report.structure(content)}
    failures = []
    if options.postprocess == "none":
        actual = tflite_outputs(content, images)
        row |= _differences(expected, actual)
        if format_name == "fp32":
            for name, limit in (("typical_difference", _MOST_DIFFERENCE), ("max_difference", _MOST_OF_ONE_VALUE)):
                if not row[name] <= limit:
                    failures.append(
                        f"outputs differ from Keras' by {row[name]:.2g} of the largest, more than {limit:g}"
                    )
    predict = _suppressed(content, suppress) if options.postprocess == "none" else _postprocessed(content)
    after = measure(predict)
    precision, lost = judge_precision(before["AP"], after["AP"], format_name)
    row |= precision
    failures += lost
    row |= {"failures": failures, "written": not failures or options.allow_accuracy_drop}
    if not row["written"]:
        row["older_file"] = publish.name_aside(path)
    return row


def judge_precision(before: float, after: float, format_name: str) -> tuple[dict[str, Any], list[str]]:
    """What a file's average precision is beside Keras', and what is wrong with it.

    Args:
        before: Keras' AP; negative or not a number where nothing was to be found.
        after: The file's.
        format_name: One of `DETECTOR_FORMATS`.

    Returns:
        (a part of the report's row: `AP_keras`, `AP` and `AP_lost`, None where there is none; failures, sentences).
    """
    known_before, known_after = (value if value >= 0 else None for value in (before, after))
    row = {"AP_keras": known_before, "AP": known_after, "AP_lost": None}
    if known_before is None or known_after is None:
        return row, ["AP was not measured: the images that the file is verified on show no objects; verify on others"]
    lost = row["AP_lost"] = before - after
    if lost > _MOST_AP_LOST[format_name]:
        return row, [f"AP falls by {100 * lost:.2f} points, more than {100 * _MOST_AP_LOST[format_name]:g}"]
    return row, []


def _differences(expected, actual):
    """How far values are from Keras', as parts of the largest of their output: 95% of them, and all."""
    values = np.concatenate(
        [np.abs(actual[name] - expected[name]).ravel() / np.abs(expected[name]).max() for name in expected]
    )
    return {
        "compared_images": len(next(iter(expected.values()))),
        "typical_difference": float(np.quantile(values, _MOST_VALUES)),
        "max_difference": float(values.max()),
    }


def _suppressed(content, suppress):
    run = runtime.signature(content)

    def predict(images):
        found = outputs(run, images)
        return suppress(found[postprocess.CODES], found[postprocess.SCORES])

    return predict


def _postprocessed(content):
    run = runtime.signature(content)

    def predict(images):
        whole = outputs(run, images)
        return {
            "boxes": np.clip(whole[postprocess.LOCATION], 0, 1),
            "scores": whole[postprocess.SCORE],
            "classes": whole[postprocess.CATEGORY].astype(np.int32),
            "count": whole[postprocess.COUNT].astype(np.int32).reshape(-1),
        }

    return predict


def _add_latencies(rows, contents, model, decoding, options, progress):
    """Milliseconds of each file beside those of the plain conversion of the Keras model, in turns, on one thread."""
    if not options.latency_runs:
        return
    with tempfile.TemporaryDirectory() as scratch, progress("Latency, beside a plain conversion: converting it"):
        plain = as_written(model, decoding, options, scratch)
    with progress(f"Latency: {options.latency_runs} rounds"):
        medians = runtime.latencies({**contents, "as_written": plain}, 1, options.latency_runs)
    for row, path in zip(rows, contents, strict=True):
        row["latency_ms"], row["as_written_latency_ms"] = medians[path], medians["as_written"]


def _write(result, contents, output_dir, label_names):
    """Gives the files that passed their names, and sets the older ones of those that failed aside."""
    paths, outdated = [], {}
    for row, (path, content) in zip(result["files"], contents.items(), strict=True):
        if row["written"]:
            paths.append(path)
            publish.prepared(path, content)
        elif row["older_file"] is not None:
            outdated[path] = row["older_file"]
            row["older_file"] = os.path.basename(row["older_file"])
    if label_names is not None:
        paths.append(os.path.join(output_dir, LABELS_FILE))
        publish.prepared(paths[-1], ("\n".join(label_names) + "\n").encode())
    report_path = os.path.join(output_dir, _REPORT_FILE)
    publish.prepared(report_path, json_text(result).encode())
    publish.publish(paths, outdated, report_path)


def detector_text(result: dict[str, Any]) -> str:
    """A report in words: the table, what it was measured with, and what was not written."""
    header = ("file", "MB", "partitions", "largest diff", "AP before", "after", "ms 1 thread", "plain")
    lines = [header]
    for row in result["files"]:
        difference = row.get("max_difference")
        latency = [row.get(name) for name in ("latency_ms", "as_written_latency_ms")]
        lines.append(
            (
                row["file"],
                f"{row['bytes'] / 1e6:.2f}",
                str(row["delegate_partitions"]),
                "-" if difference is None else f"{difference:.1e}",
                *("-" if value is None else f"{value:.2%}" for value in (row["AP_keras"], row["AP"])),
                *("-" if value is None else f"{value:.2f}" for value in latency),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    shown.append(f"{result['runtime']}, {result['num_images']} images; {result['machine']}")
    for row in result["files"]:
        if row["failures"]:
            older = f" The older file is now {row['older_file']}." if row.get("older_file") else ""
            shown.append(
                f"{'Written anyway' if row['written'] else 'Not written'}: {row['format']}: "
                f"{'; '.join(row['failures'])}.{older}"
            )
    return "\n".join(shown)
