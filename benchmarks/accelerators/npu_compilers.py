"""The compilers of two kinds of NPU: Qualcomm's, of Snapdragons, through LiteRT, and Arm's Vela, of Ethos-U.

`make npu-check` installs them. Neither runs a model: Qualcomm's tells which ops the NPU takes, and Vela estimates
cycles.
"""

import csv
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple
from unittest import mock

from mixnet_tf.errors import InputError
from mixnet_tf.export import ahead_of_time

FOLDER = pathlib.Path(__file__).parents[2] / ".npu"  # created by install_npu.sh

SNAPDRAGONS = {
    "SM8450": "Snapdragon 8 Gen 1",
    "SM8550": "Snapdragon 8 Gen 2",
    "SM8650": "Snapdragon 8 Gen 3",
    "SM8750": "Snapdragon 8 Elite",
    "SM8850": "Snapdragon 8 Elite Gen 5",
}
# Vela's own choice of a system for each; with a clock of 1 GHz and 384 KB of SRAM beside DRAM.
ETHOS_U = {"ethos-u65-512": "Ethos_U65_Client_Server", "ethos-u85-1024": "Ethos_U85_SYS_DRAM_Mid"}
_MEMORY_MODE = "Dedicated_Sram_384KB"
_PARTITION = "ethos-u"  # Vela's custom op for a part that the NPU runs


class Estimate(NamedTuple):
    """What Vela says of a model on an Ethos-U.

    Attributes:
        milliseconds: Estimated time of an inference.
        cycles: Estimated cycles of the NPU's clock.
        dram_bytes: Bytes that are read from and written to DRAM in an inference.
        partitions: Number of parts that the NPU runs.
        cpu_ops: Dict from the name of a TFLite op to how many of them the CPU runs.
    """

    milliseconds: float
    cycles: int
    dram_bytes: int
    partitions: int
    cpu_ops: dict[str, int]


def check() -> None:
    """Checks that the compilers are installed.

    Raises:
        ValueError: If install_npu.sh has not run.
    """
    if not FOLDER.exists():
        raise InputError(f"There are no compilers for NPUs in {FOLDER}: `make npu-check` installs them.")


def for_snapdragon(content: bytes, soc_model: str) -> ahead_of_time.Compiled:
    """Compiles a TFLite model for a Snapdragon's NPU; arguments and errors are those of `ahead_of_time.compile_for`."""
    with mock.patch.dict(os.environ, LD_LIBRARY_PATH=str(FOLDER / "qualcomm" / "onnxruntime_qnn")):
        ahead_of_time.check([soc_model])
        return ahead_of_time.compile_for(content, soc_model)


def for_ethos_u(content: bytes, accelerator: str) -> Estimate:
    """Compiles a TFLite model for an Ethos-U by Vela.

    Args:
        content: A TFLite model's bytes; the NPU runs its int8 ops.
        accelerator: One of `ETHOS_U`.

    Raises:
        RuntimeError: If Vela fails; the message has its output.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch) / "model.tflite"
        source.write_bytes(content)
        command = [sys.executable, "-m", "ethosu.vela", source, "--output-dir", scratch]
        command += ["--accelerator-config", accelerator, "--config", "Arm/vela.ini"]
        command += ["--system-config", ETHOS_U[accelerator], "--memory-mode", _MEMORY_MODE]
        environment = {**os.environ, "PYTHONPATH": str(FOLDER / "vela")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Vela failed with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
        [summary] = pathlib.Path(scratch).glob("*_summary_*.csv")
        [row] = csv.DictReader(summary.read_text().splitlines())
        compiled = (pathlib.Path(scratch) / "model_vela.tflite").read_bytes()
    return Estimate(
        1e3 * float(row["inference_time"]),
        int(float(row["cycles_total"])),
        int(float(row["dram_total_bytes"])),
        *ahead_of_time.partitions(compiled, _PARTITION),
    )


def versions() -> dict[str, str]:
    """The versions of the compilers, by package."""
    found = {}
    for folder in (FOLDER / "vela", FOLDER / "qualcomm"):
        for information in sorted(folder.glob("*.dist-info")):
            name, _, version = information.name.removesuffix(".dist-info").rpartition("-")
            if name in ("ethos_u_vela", "onnxruntime_qnn"):
                found[name.replace("_", "-")] = version
    return found
