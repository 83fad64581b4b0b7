"""Runs TFLite files by LiteRT's GPU code on a Vulkan device of software, and counts what each asks of a GPU.

python benchmarks/accelerators/gpu.py --files=runs/demo/export/mixnet_s_32_fp32.tflite
python benchmarks/accelerators/gpu.py --models=mixnet-s,EfficientNetB0 --forms=plain,split,keep --json=FILE
python benchmarks/accelerators/gpu.py --models=mixnet-s --detector_classes=80 --image_size=320

`make gpu-check` creates the device. Networks have random weights, and images are random.
"""

import glob
import pathlib

import numpy as np
import random_networks
import software_gpu
from absl import flags

from mixnet_tf.commands import process
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.export import quantize, runtime
from mixnet_tf.export.costs import costs_of
from mixnet_tf.export.report import table
from mixnet_tf.files import write_json
from mixnet_tf.provenance import provenance

_DEMOS = ("runs/demo/export", "runs/detection-demo/export")

_FILES = flags.DEFINE_list(
    "files", None, f"The .tflite files; by default those in {' and '.join(_DEMOS)}, if they are there."
)
_MODELS = flags.DEFINE_list("models", [], "Networks, ours or of keras.applications, which have the form plain alone.")
_FORMS = flags.DEFINE_list("forms", ["plain", "split"], f"Some of {list(random_networks.FORMS)}.")
_FORMATS = flags.DEFINE_list("formats", ["fp32"], f"Some of {list(quantize.TFLITE_FORMATS)}.")
_CLASSES = flags.DEFINE_integer(
    "detector_classes", None, "Convert SSDLite detectors with this many classes on the networks.", lower_bound=1
)
_POSTPROCESS = flags.DEFINE_string("postprocess", "none", "Detectors: postprocessing of the files.")
_SIZE = flags.DEFINE_integer("image_size", 224, "Pixels of the networks.", lower_bound=32)
_IMAGES = flags.DEFINE_integer("images", 2, "Images that each file is run on.", lower_bound=1)
_GPU = flags.DEFINE_string("gpu", str(software_gpu.FOLDER), "Folder that build_gpu.sh created.")
_JSON = flags.DEFINE_string("json", None, "JSON file for the figures.")

_COLUMNS = {
    "file": lambda row: row["file"],
    "ops": lambda row: str(row["ops"]),
    "all on the GPU": lambda row: "yes" if row["accelerated"] else "no",
    "dispatches": lambda row: str(row["dispatches"]),
    "pipelines": lambda row: str(row["pipelines"]),
    "MB moved": lambda row: f"{row['activation_bytes'] / 1e6:.0f}",
    "M multiply-adds": lambda row: f"{row['multiply_adds'] / 1e6:.0f}",
    "from the CPU": lambda row: f"{row['difference']:.0e}",
}


def _measured(name, content):
    """A row of the table: a file on the device, and its difference from this machine's CPU."""
    shape = runtime.interpreter(content).get_input_details()[0]["shape"]
    images = random_networks.images(int(shape[1]), _IMAGES.value)
    ran, expected = software_gpu.run(content, images, pathlib.Path(_GPU.value)), software_gpu.here(content, images)
    differences = [
        np.abs(ran.outputs[key] - values).max() / (np.abs(values).max() or 1.0) for key, values in expected.items()
    ]
    told = ran._asdict()
    del told["outputs"]
    return {"file": name, **costs_of(content)._asdict(), **told, "difference": float(max(differences))}


def _contents():
    """Yields (name, bytes) of each file to measure."""
    paths = _FILES.value
    if paths is None:
        paths = [path for folder in _DEMOS for path in sorted(glob.glob(f"{folder}/*.tflite"))]
    for path in map(pathlib.Path, paths):
        yield path.name, path.read_bytes()
    for network in _MODELS.value:
        of_keras = not network.startswith(("mixnet", "mobilenet"))
        model = random_networks.model(network, _SIZE.value, None if of_keras else _CLASSES.value)
        forms = [random_networks.PLAIN] if of_keras else _FORMS.value
        found = random_networks.files(model, forms, _FORMATS.value, _POSTPROCESS.value)
        for form, content in found.items():
            yield f"{network} {form}", content


def main(screen):
    """Measures each file and prints a table."""
    if unknown := sorted(set(_FORMS.value) - set(random_networks.FORMS)):
        raise InputError(f"forms: expected some of {list(random_networks.FORMS)}; received {unknown}.")
    if missing := [path for path in _FILES.value or () if not pathlib.Path(path).is_file()]:
        raise MissingFileError(f"There is no file {missing[0]}.")
    software_gpu.check(pathlib.Path(_GPU.value))
    rows = []
    for name, content in _contents():
        rows.append(_measured(name, content))
        if rows[-1]["refused"]:
            screen.say(f"{name}: the GPU refuses {'; '.join(rows[-1]['refused'])}")
    screen.say(table(rows, _COLUMNS))
    screen.say(f"{runtime.RUNTIME}, SwiftShader; {runtime.machine()}")
    screen.say("from the CPU: largest difference, as a part of the output's largest value; half precision not checked")
    if _JSON.value is not None:
        write_json(_JSON.value, {**provenance(), "runtime": runtime.RUNTIME, "rows": rows})
    return 0


if __name__ == "__main__":
    process.run(main)
