"""Times networks in LiteRT: by a plain conversion, as exported, and others by a plain conversion.

python benchmarks/bench_tflite.py --models=mixnet-s,mixnet-m,mixnet-l --json=FILE
python benchmarks/bench_tflite.py --models=mixnet-s,mobilenet-v2 --detector_classes=80 --image_size=320
python benchmarks/bench_tflite.py --models=mixnet-s --cores=cortex-a76,cortex-a55 --kinds

The last command also counts ARM64 instructions, in all and of each kind of op, in the emulation that `make arm64`
creates.
"""

import os
import tempfile

import keras
import numpy as np
from absl import flags
from arm64 import attribution, emulation

from mixnet_tf import SSDLite, build_model
from mixnet_tf.commands import process
from mixnet_tf.export import POSTPROCESSES, Detector, ExportOptions, quantize, runtime
from mixnet_tf.export.arithmetics import arithmetic_of
from mixnet_tf.export.convert import convert, to_tflite, write_saved_model
from mixnet_tf.export.graphs import Graphs
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.files import write_json
from mixnet_tf.networks import parse_kernels

_MODELS = flags.DEFINE_list(
    "models",
    ["mixnet-s", "mixnet-m", "mixnet-l"],
    "Our networks; NAME:3.5.7 replaces the kernels, as in mobilenet-v1:3.5.7.",
)
_OTHERS = flags.DEFINE_list(
    "others", ["EfficientNetB0", "MobileNetV2", "MobileNetV3Large"], "Networks of keras.applications to compare with."
)
_FORMATS = flags.DEFINE_list("formats", list(quantize.TFLITE_FORMATS), "Formats of the exported network.")
_CLASSES = flags.DEFINE_integer(
    "detector_classes",
    None,
    "Export SSDLite detectors with this many classes; formats fp32, fp16, dynamic, int8.",
    lower_bound=1,
)
_RUNS = flags.DEFINE_integer("runs", 40, "Rounds; each model runs once per round.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Threads.", lower_bound=1)
_SIZE = flags.DEFINE_integer("image_size", 224, "Pixels.", lower_bound=32)
_CORES = flags.DEFINE_list(
    "cores", [], f"Count the instructions of these ARM64 cores: some of {list(emulation.CORES)}."
)
_KINDS = flags.DEFINE_bool("kinds", False, "Print the instructions of each kind of op, too.")
_JSON = flags.DEFINE_string("json", None, "JSON file for the figures.")


def _parsed(name):
    """A network's name, and the kernel sizes after its colon."""
    network, _, kernels = name.partition(":")
    return network, parse_kernels(kernels) if kernels else None


def _images(size):
    return np.random.default_rng(0).uniform(0, 255, (8, size, size, 3)).astype(np.float32)


def _network(name, scratch):
    size = _SIZE.value
    network, kernel_size = _parsed(name)
    model = build_model(network, kernel_size=kernel_size, input_shape=(size, size, 3))
    images = _images(size)
    contents = {
        f"{name} as written": to_tflite(AsWritten(model), size),
        f"{name} rewritten": to_tflite(InferenceFunction(model, "keep"), size),
    }
    for form in _FORMATS.value:
        arithmetic = arithmetic_of(form)
        folder = f"{scratch}/{name}_{arithmetic}"
        if not os.path.exists(folder):
            function = InferenceFunction(model, "split", arithmetic=arithmetic)
            write_saved_model(function, folder, size, 1, "probabilities")
        contents[f"{name} split {form}"] = convert(folder, quantize.configure(form, images))
    return contents


def _detector(name, scratch):
    size = _SIZE.value
    network, kernel_size = _parsed(name)
    model = SSDLite(network, _CLASSES.value, (size, size, 3), kernel_size=kernel_size)
    images = _images(size)
    contents = {}
    for form in POSTPROCESSES:
        graphs = Graphs(Detector(model, ExportOptions(postprocess=form)), images, f"{scratch}/{name}_{form}")
        contents[f"{name}/{form} as written"] = graphs.as_written()
        for format_name in _FORMATS.value:
            content = graphs.int8(form, images) if format_name == "int8" else graphs.convert(format_name)
            contents[f"{name}/{form} split {format_name}"] = content
    return contents


def _to_as_written(figures, name):
    base = figures.get(f"{name.split()[0]} as written")
    return None if base is None else figures[name] / base


def _ratio(figures):
    return "" if figures["to_as_written"] is None else f"{figures['to_as_written']:.2f}"


def _print_kinds(ran):
    """A table for each core: the kinds of op by the files' million instructions."""
    for core, by_file in ran.items():
        found = {name: attribution.by_kind(attribution.by_function(each)) for name, each in by_file.items()}
        print(f"{core}, million instructions: " + "; ".join(found))
        for kind in attribution.KINDS:
            print(f"{kind:<24}" + "".join(f"{kinds[kind] / 1e6:10.1f}" for kinds in found.values()))


def main(_screen):
    """Converts the networks, times them in turns, counts instructions, and prints a table."""
    emulation.check(_CORES.value)
    contents = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in _MODELS.value:
            contents |= _network(name, scratch) if _CLASSES.value is None else _detector(name, scratch)
    for name in _OTHERS.value:
        other = getattr(keras.applications, name)(weights=None, input_shape=(_SIZE.value, _SIZE.value, 3))
        contents[name] = to_tflite(AsWritten(other), _SIZE.value)
    medians = runtime.latencies(contents, _THREADS.value, _RUNS.value)
    image = _images(_SIZE.value)[:1]
    ran = {
        core: {name: emulation.run(content, image, core, _KINDS.value) for name, content in contents.items()}
        for core in _CORES.value
    }
    counts = {core: {name: each.instructions for name, each in of_core.items()} for core, of_core in ran.items()}
    rows = []
    for name, content in contents.items():
        row = {"model": name, "ms": medians[name], "bytes": len(content), "partitions": runtime.operations(content)[1]}
        row["to_as_written"] = _to_as_written(medians, name)
        row["arm64"] = {
            core: {"instructions": of_core[name], "to_as_written": _to_as_written(of_core, name)}
            for core, of_core in counts.items()
        }
        rows.append(row)
    print(f"{_SIZE.value} px, {_THREADS.value} thread(s), median of {_RUNS.value} rounds in turns, random weights")
    print(f"{runtime.RUNTIME}; {runtime.machine()}")
    for row in rows:
        print(
            f"{row['model']:<36} {row['ms']:7.2f} ms  {_ratio(row):>5}  {row['bytes'] / 1e6:6.2f} MB  "
            f"{row['partitions']:>3}"
            + "".join(
                f"  {core} {count['instructions'] / 1e6:6.1f} M {_ratio(count):>5}"
                for core, count in row["arm64"].items()
            )
        )
    if _KINDS.value:
        _print_kinds(ran)
    if _JSON.value is not None:
        write_json(_JSON.value, {"runtime": runtime.RUNTIME, "machine": runtime.machine(), "rows": rows})
    return 0


if __name__ == "__main__":
    process.run(main)
