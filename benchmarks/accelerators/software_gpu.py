"""TFLite files on LiteRT's GPU code, on a Vulkan device of software: their outputs, and what they ask of the device.

The code is what Android's GPUs run (ML Drift), here above WebGPU and Vulkan. The device is SwiftShader, which comes
with Debian's chromium and computes in float32, whereas a phone's GPU computes in half precision. Dispatches and
pipelines are those of a phone; milliseconds are not.
"""

import ast
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np

from mixnet_tf.errors import InputError
from mixnet_tf.export import runtime

_HERE = pathlib.Path(__file__).parent
FOLDER = _HERE.parents[1] / ".gpu"  # created by build_gpu.sh


class Ran(NamedTuple):
    """A file's inferences.

    Attributes:
        outputs: Dict from an output's name to its values for the images, (images, ...), dequantized.
        accelerated: Whether the GPU runs all of the file; if not, the CPU ran the rest.
        refused: The ops that the GPU refuses, in LiteRT's words.
        dispatches: Compute dispatches per inference.
        pipelines: Compute pipelines that were made before the first inference.
        milliseconds: Median of the inferences.
    """

    outputs: dict[str, np.ndarray]
    accelerated: bool
    refused: list[str]
    dispatches: int
    pipelines: int
    milliseconds: float


def check(folder=FOLDER):
    """Checks that there is a device.

    Raises:
        ValueError: If build_gpu.sh has not run, or if LiteRT is not installed.
    """
    if not folder.exists():
        raise InputError(f"There is no GPU of software in {folder}: `make gpu-check` creates it.")
    if runtime.CompiledModel is None:
        raise InputError("LiteRT is not installed: pip install ai-edge-litert")


def run(content, images, folder=FOLDER):
    """Runs a file on images, in a process of its own, and returns what it gave and took: a `Ran`.

    Args:
        content: A TFLite model's bytes, with one input and a batch of 1.
        images: (images, height, width, 3), float32 in [0, 255]; quantized as the model's input says.
        folder: What build_gpu.sh created.

    Raises:
        RuntimeError: If the process fails; the message has the end of its output.
    """
    check(folder)
    runner = runtime.interpreter(content).get_signature_runner("serving_default")
    [source] = runner.get_input_details().values()
    with tempfile.TemporaryDirectory() as scratch:
        model, values, outputs = (os.path.join(scratch, name) for name in ("model.tflite", "in.npy", "out.npz"))
        pathlib.Path(model).write_bytes(content)
        np.save(values, runtime.quantized(images, source))
        done = subprocess.run(
            [sys.executable, _HERE / "software_gpu_guest.py", model, values, outputs, folder / "libcounting_icd.so"],
            env={
                "PATH": os.environ["PATH"],
                "LD_LIBRARY_PATH": str(folder),
                "VK_ICD_FILENAMES": str(folder / "counting_icd.json"),
                "COUNTED_VULKAN_DRIVER": str(folder / "libvk_swiftshader.so"),
                "XDG_RUNTIME_DIR": scratch,
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"LiteRT's GPU code failed with {done.returncode}:\n{done.stderr[-2000:]}")
        with np.load(outputs) as tensors:
            found = {name: tensors[name] for name in tensors.files}
    details = runner.get_output_details()
    return Ran(
        {name: runtime.dequantized(values, details[name]) for name, values in found.items()},
        refused=_refused(done.stderr),
        **ast.literal_eval(done.stdout.splitlines()[-1]),
    )


def _refused(log):
    found = re.search(
        r"operations are not supported by GPU delegate:\n(.*?)^\d+ operations will", log, re.DOTALL | re.M
    )
    return [] if found is None else found[1].splitlines()


def here(content, images):
    """Runs a file on this machine's CPU; arguments and outputs as those of `run`."""
    runner = runtime.interpreter(content).get_signature_runner("serving_default")
    [(name, source)] = runner.get_input_details().items()
    details = runner.get_output_details()
    found = [runner(**{name: runtime.quantized(image[np.newaxis], source)}) for image in images]
    return {
        name: runtime.dequantized(np.concatenate([each[name] for each in found]), detail)
        for name, detail in details.items()
    }
