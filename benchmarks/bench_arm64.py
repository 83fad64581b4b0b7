"""Runs exported files on emulated ARM64 cores: compares their answers with this machine's, and counts instructions.

python benchmarks/bench_arm64.py --export_dir=runs/demo/export
python benchmarks/bench_arm64.py --files=runs/demo/export/mixnet_s_32_fp32.tflite --as_written=runs/demo/final.keras

The first command counts an export's files for a CPU, adds the counts to its report.json, and prints its table again.
`make arm64` creates the emulation. The milliseconds of a phone do not follow from instruction counts.
"""

import json
import pathlib

import numpy as np
from absl import flags
from arm64 import emulation

from mixnet_tf import build_model
from mixnet_tf.commands import process
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.export import runtime, text
from mixnet_tf.export.arithmetics import CPU
from mixnet_tf.export.convert import to_tflite
from mixnet_tf.export.export import REPORT_FILE
from mixnet_tf.export.rewrite import AsWritten
from mixnet_tf.files import write_json
from mixnet_tf.saved_models import load_keras_file

_FILES = flags.DEFINE_list("files", None, "The .tflite files.")
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "Folder of an export, in place of files.")
_CORES = flags.DEFINE_list("cores", ["cortex-a76"], f"Some of {list(emulation.CORES)}.")
_AS_WRITTEN = flags.DEFINE_string(
    "as_written",
    None,
    "A network or a .keras file; its plain conversion, with the first file's image size and classes, is the first row.",
)
_JSON = flags.DEFINE_string("json", None, "JSON file for the figures.")


def _image(content):
    shape = runtime.interpreter(content).get_input_details()[0]["shape"]
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def _plain(network, content):
    """The plain conversion of a network, as bytes, with the image size and classes of another file."""
    loaded = runtime.interpreter(content)
    size = int(loaded.get_input_details()[0]["shape"][1])
    classes = int(loaded.get_output_details()[0]["shape"][-1])
    if network.endswith(".keras"):
        model = load_keras_file(network)
    else:
        model = build_model(network, input_shape=(size, size, 3), classes=classes)
    return to_tflite(AsWritten(model), size)


def _read_report(folder):
    """The report of an export, and the rows of its TFLite files for a CPU."""
    path = folder / REPORT_FILE
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; export_tflite.py --output_dir={folder} writes it.")
    report = json.loads(path.read_text())
    rows = [row for row in report["files"] if row["written"] and row["file"].endswith(".tflite")]
    return report, [row for row in rows if row.get("accelerator", CPU) == CPU]


def main(screen):
    """Runs each file on each core and prints a table."""
    if (_FILES.value is None) == (_EXPORT_DIR.value is None):
        raise InputError("Give either --files or --export_dir.")
    report, counted, folder = None, [], pathlib.Path(_EXPORT_DIR.value or ".")
    if _EXPORT_DIR.value is not None:
        report, counted = _read_report(folder)
    paths = [pathlib.Path(path) for path in _FILES.value or [folder / row["file"] for row in counted]]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise MissingFileError(f"There is no file {missing[0]}.")
    if not paths:
        raise InputError(f"{folder} has no TFLite file for a CPU.")
    emulation.check(_CORES.value)
    contents = {path.name: path.read_bytes() for path in paths}
    if _AS_WRITTEN.value is not None:
        contents = {"as written": _plain(_AS_WRITTEN.value, next(iter(contents.values())))} | contents
    images = {name: _image(content) for name, content in contents.items()}
    answers = {name: emulation.here(content, images[name]) for name, content in contents.items()}
    rows = []
    for core in _CORES.value:
        first = None
        for name, content in contents.items():
            ran = emulation.run(content, images[name], core)
            pairs = zip(ran.outputs, answers[name], strict=True)
            difference = max(np.abs(found - expected.astype(float)).max() for found, expected in pairs)
            first = first or ran.instructions
            rows.append({"core": core, "file": name, "instructions": ran.instructions, "difference": float(difference)})
            ratio = ran.instructions / first
            screen.say(f"{core}  {name:<44} {ran.instructions / 1e6:8.2f} M  {ratio:.2f}  {difference:.1e} from here")
    if report is not None:
        for row in counted:
            row["instructions"] = {
                found["core"]: found["instructions"] for found in rows if found["file"] == row["file"]
            }
        write_json(folder / REPORT_FILE, report)
        screen.say(text(report))
    if _JSON.value is not None:
        figures = {"runtime": runtime.RUNTIME, "machine": runtime.machine(), "rows": rows}
        write_json(_JSON.value, figures)
    return 0


if __name__ == "__main__":
    process.run(main)
