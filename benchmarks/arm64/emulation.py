"""Models on an ARM64 core under QEMU's user-mode emulation: their outputs, and how many instructions they take.

Instructions are those of the code that a phone with that core runs. They are not milliseconds: caches, memory
and how many instructions a core starts at once are not in them.
"""

import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mixnet_tf.errors import InputError
from mixnet_tf.export import runtime
from mixnet_tf.files import StrPath

_HERE = pathlib.Path(__file__).parent
FOLDER = _HERE.parents[1] / ".arm64"  # created by build.sh


class _Core(NamedTuple):
    emulated: str  # the core whose instructions QEMU runs
    part: int  # the part number in /proc/cpuinfo, by which engines choose their kernels
    features: str  # instructions that /proc/cpuinfo has


_ARMV8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = f"{_ARMV8_0} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
# QEMU's cortex-a76 has the dot product and no i8mm; Cortex-A55 has the same instructions.
CORES = {
    "cortex-a76": _Core("cortex-a76", 0xD0B, _ARMV8_2),
    "cortex-a55": _Core("cortex-a76", 0xD05, _ARMV8_2),
    "cortex-a53": _Core("cortex-a53", 0xD03, _ARMV8_0),
}


class Ran(NamedTuple):
    """One invocation of a model.

    Attributes:
        outputs: The model's output tensors, in their order.
        instructions: How many ARM64 instructions it took, on one thread.
        blocks: Dict from the address of a piece of code to how many of the instructions it took, if asked for.
        maps: The emulated program's /proc/self/maps, which has the addresses of its libraries.
    """

    outputs: list[np.ndarray]
    instructions: int
    blocks: dict[int, int]
    maps: str


def check(cores: list[str]) -> None:
    """Checks that there is an emulation of these cores; an empty list needs none.

    Raises:
        ValueError: If a core is unknown, or if build.sh has not run.
    """
    if unknown := sorted(set(cores) - set(CORES)):
        raise InputError(f"cores: expected some of {list(CORES)}; received {unknown}.")
    if cores and not FOLDER.exists():
        raise InputError(f"There is no ARM64 system in {FOLDER}: `make arm64` creates it.")


def run(content: bytes, image: np.ndarray, core: str = "cortex-a76", blocks: bool = False) -> Ran:
    """Runs a TFLite model on one image.

    Args:
        content: A TFLite model's bytes.
        image: (1, height, width, 3), float32 in [0, 255]; quantized as the model's input says.
        core: One of `CORES`.
        blocks: Whether to count each piece of code, too.

    Raises:
        RuntimeError: If the emulated program fails; the message has its output.
    """
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(content)
        file.flush()
        return emulate("litert", file.name, quantized(content, image), core, blocks=blocks)


def emulate(
    engine: str, model: str, image: np.ndarray, core: str, packages: Sequence[StrPath] = (), blocks: bool = False
) -> Ran:
    """Runs a model by an engine on an array that the model takes.

    Args:
        engine: An engine of guest.py.
        model: The path of the model's file.
        image: The model's input.
        core: One of `CORES`.
        packages: Folders of Python packages for ARM64, in addition to those of `FOLDER`.
        blocks: Whether to count each piece of code, too.

    Raises:
        RuntimeError: If the emulated program fails; the message has its output.
    """
    emulated = CORES[core]
    with tempfile.TemporaryDirectory() as scratch:
        values, outputs, maps, log = (os.path.join(scratch, name) for name in ("in.npy", "out.npz", "maps", "log"))
        root = _root(os.path.join(scratch, "root"), emulated)
        np.save(values, image)
        plugin = f"{FOLDER}/count_instructions.so{',blocks=on' if blocks else ''}"
        command = ["qemu-aarch64", "-cpu", emulated.emulated, "-L", root, "-plugin", plugin, "-d", "plugin", "-D", log]
        command += [f"{root}/usr/bin/python3", _HERE / "guest.py", engine, model, values, outputs, maps]
        # A fixed environment: the count changes a little with the size of the stack.
        folders = os.pathsep.join(map(str, [FOLDER / "packages", *packages]))
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": folders, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        counts = pathlib.Path(log).read_text() if os.path.exists(log) else ""
        found = re.search(r"instructions (\d+)", counts)
        if done.returncode or found is None:
            raise RuntimeError(f"{core} failed with {done.returncode}:\n{done.stderr[-2000:]}")
        executed = {int(address, 16): int(n) for address, n in re.findall(r"^block (\S+) (\d+)$", counts, re.M)}
        if blocks and not executed:
            raise InputError(f"{FOLDER} has a plugin that counts no pieces of code: `make arm64` builds it again.")
        with np.load(outputs) as tensors:
            answers = [tensors[f"outputs_{number}"] for number in range(len(tensors.files))]
        return Ran(answers, int(found[1]), executed, pathlib.Path(maps).read_text())


def quantized(content: bytes, image: np.ndarray) -> np.ndarray:
    """A float image as a TFLite model takes it."""
    return runtime.quantized(image, runtime.interpreter(content).get_input_details()[0])


def here(content: bytes, image: np.ndarray) -> list[np.ndarray]:
    """Runs a model on this machine, and returns its output tensors; the arguments are those of `run`."""
    loaded = runtime.interpreter(content)
    detail = loaded.get_input_details()[0]
    loaded.set_tensor(detail["index"], runtime.quantized(image, detail))
    loaded.invoke()
    return [loaded.get_tensor(detail["index"]) for detail in loaded.get_output_details()]


def _root(folder, core):
    """The ARM64 system with a /proc/cpuinfo of its own; the emulated program opens its files before the machine's."""
    os.makedirs(f"{folder}/proc")
    pathlib.Path(f"{folder}/proc/cpuinfo").write_text(
        f"processor : 0\nFeatures : {core.features}\n"
        f"CPU implementer : 0x41\nCPU architecture: 8\nCPU part : {core.part:#x}\n"
    )
    for path in (FOLDER / "root").iterdir():
        if path.name != "proc":
            os.symlink(path, f"{folder}/{path.name}")
    return folder
