"""Compiles TFLite files for the NPUs of phones: the partitions, the ops left to the CPU, and Ethos-U's estimated times.

python benchmarks/accelerators/npu.py --files=runs/demo/export/mixnet_s_32_int8.tflite
python benchmarks/accelerators/npu.py --models=mixnet-s,EfficientNetB0 --forms=plain,split,keep --json=FILE
python benchmarks/accelerators/npu.py --models=mixnet-s --detector_classes=80 --image_size=320

`make npu-check` installs the compilers. Networks have random weights. No NPU runs anything: Qualcomm's compiler gives
no time, and Vela's is an estimate, of files with integer input.
"""

import glob
import pathlib

import npu_compilers
import numpy as np
import random_networks
from absl import flags

from mixnet_tf.commands import process
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.export import quantize, runtime
from mixnet_tf.export.ahead_of_time import CompilationError
from mixnet_tf.export.report import table
from mixnet_tf.files import write_json
from mixnet_tf.provenance import provenance

_DEMOS = ("runs/demo/export", "runs/detection-demo/export")

_FILES = flags.DEFINE_list(
    "files", None, f"The .tflite files; by default those in {' and '.join(_DEMOS)}, if they are there."
)
_MODELS = flags.DEFINE_list("models", [], "Networks, ours or of keras.applications, which have the form plain alone.")
_FORMS = flags.DEFINE_list("forms", ["plain", "split"], f"Some of {list(random_networks.FORMS)}.")
_FORMATS = flags.DEFINE_list("formats", ["fp32", "int8_full"], f"Some of {list(quantize.TFLITE_FORMATS)}.")
_CLASSES = flags.DEFINE_integer(
    "detector_classes", None, "Convert SSDLite detectors with this many classes on the networks.", lower_bound=1
)
_POSTPROCESS = flags.DEFINE_string("postprocess", "none", "Detectors: postprocessing of the files.")
_SIZE = flags.DEFINE_integer("image_size", 224, "Pixels of the networks.", lower_bound=32)
_CHIPS = flags.DEFINE_list("soc_models", list(npu_compilers.SNAPDRAGONS), "Snapdragons.")
_JSON = flags.DEFINE_string("json", None, "JSON file for the figures.")


def measure(name, content, chips):
    """A row of the table: a file, compiled for each chip."""
    row = {"file": name, "bytes": len(content), "ops": runtime.operations(content)[0], "snapdragon": {}, "ethos_u": {}}
    for chip in chips:
        try:
            compiled = npu_compilers.for_snapdragon(content, chip)
            told = {"bytes": len(compiled.content), "partitions": compiled.partitions, "cpu_ops": compiled.cpu_ops}
        except CompilationError as error:
            told = {"failure": str(error)}
        row["snapdragon"][chip] = told
    if runtime.interpreter(content).get_input_details()[0]["dtype"] != np.float32:
        row["ethos_u"] = {core: npu_compilers.for_ethos_u(content, core)._asdict() for core in npu_compilers.ETHOS_U}
    return row


def _partitions(chip):
    """The cell of a chip's partitions, with the ops left to the CPU."""

    def cell(row):
        found = row["snapdragon"][chip]
        if "failure" in found:
            return "failed"
        left = sum(found["cpu_ops"].values())
        return str(found["partitions"]) + (f" ({left} on CPU)" if left else "")

    return cell


def _milliseconds(core):
    """The cell of Vela's estimate, with the ops left to the CPU."""

    def cell(row):
        found = row["ethos_u"].get(core)
        if found is None:
            return "-"
        left = sum(found["cpu_ops"].values())
        return f"{found['milliseconds']:.2f}" + (f" ({left} on CPU)" if left else "")

    return cell


def _megabytes(chip):
    def cell(row):
        found = row["snapdragon"][chip]
        return f"{found['bytes'] / 1e6:.1f}" if "bytes" in found else "-"

    return cell


def _contents():
    """Yields (name, bytes) of each file to compile."""
    paths = _FILES.value
    if paths is None:
        paths = [
            path for folder in _DEMOS for path in sorted(glob.glob(f"{folder}/*.tflite")) if "_Qualcomm_" not in path
        ]
    for path in map(pathlib.Path, paths):
        yield path.name, path.read_bytes()
    for network in _MODELS.value:
        of_keras = not network.startswith(("mixnet", "mobilenet"))
        model = random_networks.model(network, _SIZE.value, None if of_keras else _CLASSES.value)
        forms = [random_networks.PLAIN] if of_keras else _FORMS.value
        for form, content in random_networks.files(model, forms, _FORMATS.value, _POSTPROCESS.value).items():
            yield f"{network} {form}", content


def main(screen):
    """Compiles each file for each NPU and prints a table."""
    chips = _CHIPS.value
    if unknown := sorted(set(_FORMS.value) - set(random_networks.FORMS)):
        raise InputError(f"forms: expected some of {list(random_networks.FORMS)}; received {unknown}.")
    if unknown := sorted(set(chips) - set(npu_compilers.SNAPDRAGONS)):
        raise InputError(f"soc_models: expected some of {list(npu_compilers.SNAPDRAGONS)}; received {unknown}.")
    if missing := [path for path in _FILES.value or () if not pathlib.Path(path).is_file()]:
        raise MissingFileError(f"There is no file {missing[0]}.")
    npu_compilers.check()
    rows = []
    for name, content in _contents():
        rows.append(measure(name, content, chips))
        for chip, found in rows[-1]["snapdragon"].items():
            if "failure" in found:
                screen.say(f"{name}: {chip}: {found['failure']}")
    columns = {"file": lambda row: row["file"], "ops": lambda row: str(sum(row["ops"].values()))}
    columns |= {chip: _partitions(chip) for chip in chips}
    columns |= {f"{chip} MB": _megabytes(chip) for chip in chips[-1:]}
    columns |= {f"{core} ms": _milliseconds(core) for core in npu_compilers.ETHOS_U}
    screen.say(table(rows, columns))
    used = ", ".join(f"{name} {version}" for name, version in npu_compilers.versions().items())
    screen.say(f"{runtime.RUNTIME}, {used}; {runtime.machine()}")
    screen.say(
        "Snapdragons: partitions; Ethos-U: estimated milliseconds. No NPU ran anything; half precision not checked"
    )
    if _JSON.value is not None:
        versions = {"runtime": runtime.RUNTIME, **npu_compilers.versions()}
        write_json(_JSON.value, {**provenance(), **versions, "rows": rows})
    return 0


if __name__ == "__main__":
    process.run(main)
