"""TFLite models on an ARM64 core under QEMU's user-mode emulation: their outputs, and how many instructions they take.

Instructions are those of the code that a phone with that core runs. They are not milliseconds: caches, memory
and how many instructions a core starts at once are not in them.
"""

import os
import pathlib
import re
import subprocess
import tempfile
from typing import NamedTuple

import numpy as np

from mixnet_tf.errors import InputError
from mixnet_tf.export import runtime

_HERE = pathlib.Path(__file__).parent
FOLDER = _HERE.parents[1] / ".arm64"  # created by build.sh


class _Core(NamedTuple):
    emulated: str  # the core whose instructions QEMU runs
    part: int  # the part number in /proc/cpuinfo, by which XNNPACK chooses its kernels


# QEMU's cortex-a76 has the dot product and no i8mm; Cortex-A55 has the same instructions.
CORES = {
    "cortex-a76": _Core("cortex-a76", 0xD0B),
    "cortex-a55": _Core("cortex-a76", 0xD05),
    "cortex-a53": _Core("cortex-a53", 0xD03),
}


class Ran(NamedTuple):
    """One invocation of a model.

    Attributes:
        outputs: The model's output tensors, in their order.
        instructions: How many ARM64 instructions it took, on one thread.
    """

    outputs: list[np.ndarray]
    instructions: int


def check(cores: list[str]) -> None:
    """Checks that there is an emulation of these cores; an empty list needs none.

    Raises:
        ValueError: If a core is unknown, or if build.sh has not run.
    """
    if unknown := sorted(set(cores) - set(CORES)):
        raise InputError(f"cores: expected some of {list(CORES)}; received {unknown}.")
    if cores and not FOLDER.exists():
        raise InputError(f"There is no ARM64 system in {FOLDER}: `make arm64` creates it.")


def run(content: bytes, image: np.ndarray, core: str = "cortex-a76") -> Ran:
    """Runs a model on one image.

    Args:
        content: A TFLite model's bytes.
        image: (1, height, width, 3), float32 in [0, 255]; quantized as the model's input says.
        core: One of `CORES`.

    Raises:
        RuntimeError: If the emulated program fails; the message has its output.
    """
    emulated, part = CORES[core]
    with tempfile.TemporaryDirectory() as scratch:
        model, values, outputs, counts = (os.path.join(scratch, name) for name in ("model", "in.npy", "out.npz", "log"))
        root = _root(os.path.join(scratch, "root"), part)
        pathlib.Path(model).write_bytes(content)
        np.save(values, runtime.quantized(image, runtime.interpreter(content).get_input_details()[0]))
        command = ["qemu-aarch64", "-cpu", emulated, "-L", root, "-plugin", FOLDER / "count_instructions.so"]
        command += ["-d", "plugin", "-D", counts, f"{root}/usr/bin/python3", _HERE / "guest.py"]
        # A fixed environment: the count changes a little with the size of the stack.
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": FOLDER / "packages", "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [*command, model, values, outputs], env=environment, capture_output=True, text=True, check=False
        )
        found = re.search(r"instructions (\d+)", pathlib.Path(counts).read_text()) if os.path.exists(counts) else None
        if done.returncode or found is None:
            raise RuntimeError(f"{core} failed with {done.returncode}:\n{done.stderr[-2000:]}")
        with np.load(outputs) as tensors:
            return Ran([tensors[f"outputs_{number}"] for number in range(len(tensors.files))], int(found[1]))


def here(content: bytes, image: np.ndarray) -> list[np.ndarray]:
    """Runs a model on this machine, and returns its output tensors; the arguments are those of `run`."""
    loaded = runtime.interpreter(content)
    detail = loaded.get_input_details()[0]
    loaded.set_tensor(detail["index"], runtime.quantized(image, detail))
    loaded.invoke()
    return [loaded.get_tensor(detail["index"]) for detail in loaded.get_output_details()]


def _root(folder, part):
    """The ARM64 system with a /proc/cpuinfo of its own; the emulated program opens its files before the machine's."""
    os.makedirs(f"{folder}/proc")
    pathlib.Path(f"{folder}/proc/cpuinfo").write_text(
        f"processor : 0\nCPU implementer : 0x41\nCPU architecture: 8\nCPU part : {part:#x}\n"
    )
    for path in (FOLDER / "root").iterdir():
        if path.name != "proc":
            os.symlink(path, f"{folder}/{path.name}")
    return folder
