"""The export from end to end: a Keras model to verified files and a report on them."""

import json
import os
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mixnet_tf.endpoints import parts
from mixnet_tf.errors import InputError
from mixnet_tf.export import quantize, report, runtime
from mixnet_tf.export.convert import INPUT_NAME, convert, to_tflite, write_saved_model
from mixnet_tf.export.equalize import channel_units
from mixnet_tf.export.metadata import LABELS_FILE, with_metadata
from mixnet_tf.export.rewrite import LARGE_KERNELS, AsWritten, InferenceFunction
from mixnet_tf.export.selective import quantize_selectively
from mixnet_tf.export.serving import predict_saved_model, write_serving_model
from mixnet_tf.export.target import OUTPUTS, target_model

FORMATS = (*quantize.TFLITE_FORMATS, "saved_model")
_KERAS_BATCH = 32  # images
_UNIT_IMAGES = 64  # calibration images that the channels' ranges are taken from


class Options(NamedTuple):
    """How a model is exported."""

    formats: tuple[str, ...] = ("fp32",)
    batch_size: int = 1  # images; 0 for any number
    large_kernels: str = "split"
    int8_float_parts: int = 0  # of the int8 file: parts of the network that stay float, those with the largest error
    output: str = "probabilities"
    crop: bool = True  # whether the SavedModel's image_bytes are cropped as in `preprocess_for_eval`
    author: str | None = None
    allow_accuracy_drop: bool = False
    latency_runs: int = 20  # invocations of each model; 0: no latency is measured

    def check(self):
        """Itself.

        Raises:
            ValueError: For a value out of its range.
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
        return self


def export_model(model, output_dir, images, labels=None, *, calibration_images=None, label_names=None, options=None):
    """Writes a model in each format, verified, with `labels.txt` and `report.json`, and prints the report.

    Args:
        model: A `keras.Model` with a MixNet's layers and a fixed input size, from RGB in [0, 255].
        output_dir: Where the files go; made if it is missing.
        images: (images, size, size, 3), float32 in [0, 255]: what the files are compared with Keras on.
        labels: (images,) ints: their classes, if they are known.
        calibration_images: More of the same for the int8 formats.
        label_names: A name for each class; None: the files carry none.
        options: `Options`; None for the defaults.

    Returns:
        The report, a dict, as written to `report.json`.

    Raises:
        ValueError: For arguments that do not fit, before anything is converted; and for formats that fail their gate,
            after the report is written. Their files are not.
    """
    options = (options or Options()).check()
    target = target_model(model, options.output)
    size, classes = target.input_shape[1], target.output_shape[-1]
    if label_names is not None and len(label_names) != classes:
        raise InputError(f"{len(label_names)} labels do not fit a model of {classes} classes.")
    if len(images) == 0 or tuple(images.shape[1:]) != (size, size, 3):
        raise InputError(f"The model takes {size}x{size} RGB images; received {tuple(images.shape)}.")
    if calibration_images is None and set(options.formats) & set(quantize.NEEDS_CALIBRATION):
        raise InputError("The int8 formats need calibration images; give a dataset or a folder of images.")
    function = InferenceFunction(target, options.large_kernels)
    if function.foreign:
        print(f"Not MixNet's, exported as they are: {', '.join(function.foreign)}.")

    tf.io.gfile.makedirs(output_dir)
    if label_names is not None:
        _publish(os.path.join(output_dir, LABELS_FILE), ("\n".join(label_names) + "\n").encode())
    expected = target.predict(images, batch_size=_KERAS_BATCH, verbose=0)
    largest = 1.0 if options.output == "probabilities" else float(np.abs(expected).max())
    stem = f"{model.name.replace('-', '_')}_{size}"
    rows, contents = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        graphs = _Graphs(target, options, calibration_images, scratch)
        for format_name in options.formats:
            print(f"{format_name}: converting ...", flush=True)
            if format_name == "saved_model":
                row, publish = _saved_model(target, os.path.join(output_dir, f"{stem}_saved_model"), images, options)
            else:
                content = graphs.convert(format_name)
                content = _described(content, size, format_name, label_names, model.name, options)
                contents[format_name] = content
                row, publish = _tflite_row(os.path.join(output_dir, f"{stem}_{format_name}.tflite"), content, images)
            actual = row.pop("outputs")
            row = {"format": format_name, **row, **report.compare(expected, actual, labels)}
            row["failures"], row["warnings"] = report.judge(format_name, row, largest)
            row["written"] = not row["failures"] or options.allow_accuracy_drop
            publish(row["written"])
            rows.append(row)
    _add_latencies(rows, contents, target, size, options)

    result = {
        "model": model.name,
        "image_size": size,
        "classes": classes,
        **options._asdict(),
        "foreign_layers": function.foreign,
        "runtime": runtime.RUNTIME,
        "tensorflow": tf.__version__,
        "machine": runtime.machine(),
        "files": rows,
    }
    _publish(os.path.join(output_dir, "report.json"), json.dumps(result, indent=2).encode())
    print(report.table(rows))
    print(f"{runtime.RUNTIME}, large kernels: {options.large_kernels}, {len(images)} images; {runtime.machine()}")
    for row in rows:
        for sentence in row["warnings"]:
            print(f"Warning: {row['format']}: {sentence}.")
    failures = [f"{row['format']}: {'; '.join(row['failures'])}" for row in rows if row["failures"]]
    if failures and not options.allow_accuracy_drop:
        raise InputError(f"Not written: {' | '.join(failures)}. --allow_accuracy_drop writes them all the same.")
    return result


class _Graphs:
    """The rewritten network as SavedModels to convert, each traced once."""

    def __init__(self, target, options, calibration_images, scratch):
        self._target, self._options, self._images = target, options, calibration_images
        self._scratch, self._folders, self._int8 = scratch, {}, None

    def convert(self, format_name):
        """The network as a TFLite model of a format."""
        if format_name not in quantize.NEEDS_CALIBRATION:
            return convert(self._folder(in_units=False), quantize.configure(format_name))
        folder, content = self._nearer_int8()
        if format_name == "int8":
            return self._selectively(folder) if self._options.int8_float_parts else content
        return convert(folder, quantize.configure(format_name, self._images))

    def _folder(self, in_units):
        if in_units not in self._folders:
            units = channel_units(self._target, self._images[:_UNIT_IMAGES]) if in_units else None
            function = InferenceFunction(self._target, self._options.large_kernels, units)
            folder = self._folders[in_units] = os.path.join(self._scratch, f"in_units_{in_units}")
            size, batch = self._target.input_shape[1], self._options.batch_size or None
            write_saved_model(function, folder, size, batch, self._options.output)
        return self._folders[in_units]

    def _nearer_int8(self):
        """The graph, in the channels' units or not, whose int8 form is nearer to Keras on calibration images; its form.

        The units save a net whose channels differ a hundredfold, and can ruin one whose channels do not.
        """
        if self._int8 is None:
            images = self._images[:_UNIT_IMAGES]
            expected = self._target.predict(images, verbose=0)
            found = {}
            for in_units in (True, False):
                folder = self._folder(in_units)
                content = convert(folder, quantize.configure("int8", self._images))
                error = float(np.mean(np.square(runtime.predict(content, images) - expected)))
                found[error] = (folder, content)
                print(
                    f"int8: channels {'in their own units' if in_units else 'as they are'}: squared error {error:.1e}"
                )
            self._int8 = found[min(found)]
        return self._int8

    def _selectively(self, folder):
        number = self._options.int8_float_parts
        content, errors = quantize_selectively(convert(folder), self._images, list(parts(self._target)), number)
        for place, (part, error) in enumerate(errors.items()):
            print(f"int8: {part:<10} alone: mean squared error {error:.1e}{', stays float' if place < number else ''}")
        return content


def _described(content, size, format_name, label_names, model_name, options):
    return with_metadata(
        content,
        name=model_name,
        description=f"MixNet image classifier, {size}x{size} pixels, {format_name}. It normalises its images itself.",
        licence="Apache-2.0",
        author=options.author,
        input_name=INPUT_NAME,
        output_name=options.output,
        labels=label_names,
    )


def _tflite_row(path, content, images):
    row = {"file": os.path.basename(path), **report.structure(content), "outputs": runtime.predict(content, images)}

    def publish(good):
        if good:
            _publish(path, content)
        elif tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)  # an older export must not pass for this one

    return row, publish


def _saved_model(target, path, images, options):
    aside = path + ".partial"
    _remove_folder(aside)
    write_serving_model(target, aside, options.output, options.crop)
    size = sum(
        tf.io.gfile.stat(os.path.join(at, name)).length for at, _, names in tf.io.gfile.walk(aside) for name in names
    )
    row = {"file": os.path.basename(path), "bytes": size, "outputs": predict_saved_model(aside, images, options.output)}

    def publish(good):
        _remove_folder(path)
        if good:
            tf.io.gfile.rename(aside, path)
        else:
            _remove_folder(aside)

    return row, publish


def _remove_folder(path):
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)


def _add_latencies(rows, contents, target, size, options):
    """Milliseconds of each TFLite model beside those of the Keras model converted as it is, in turns."""
    if not options.latency_runs or not contents:
        return
    print("as written, to compare the latency with: converting ...", flush=True)
    as_written = to_tflite(AsWritten(target), size, options.batch_size or None, options.output)
    for threads in (1, 2):
        medians = runtime.latencies({**contents, "as_written": as_written}, threads, options.latency_runs)
        for row in rows:
            if row["format"] in medians:
                row.setdefault("latency_ms", {})[str(threads)] = medians[row["format"]]
                row.setdefault("as_written_latency_ms", {})[str(threads)] = medians["as_written"]


def _publish(path, content):
    with tf.io.gfile.GFile(path + ".partial", "wb") as file:
        file.write(content)
    tf.io.gfile.rename(path + ".partial", path, overwrite=True)
