"""Estimates of programs by the TPU's compiler, each compiled once: results/ keeps them by the program's digest."""

import ast
import os
import pathlib
import re
import subprocess
import tempfile
from typing import Any

import hlo
import programs
import scheduled

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, read_json, write_json
from mixnet_tf.provenance import provenance

RESULTS = pathlib.Path(__file__).parent / "results"
ENVIRONMENT = pathlib.Path(__file__).parents[2] / ".tpu"  # created by install.sh
# What the compiler calls a small slice of each kind; the program is that of one core.
TOPOLOGIES = {
    "v3": "v3:2x2",
    "v4": "v4:2x2x1",
    "v5e": "v5e:2x2",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:2x2",
    "v7x": "tpu7x:2x2x1",
}
_QUIET = {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"}  # there is no TPU to ask
_SHARED = {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # else two processes want one lock
_LARGEST = 12


def check() -> None:
    """Checks that the compiler is installed.

    Raises:
        ValueError: If install.sh has not run.
    """
    if not ENVIRONMENT.exists():
        raise InputError(f"There is no TPU compiler in {ENVIRONMENT}: `make tpu` installs it.")


def estimate(
    program: programs.Program, topology: str, compile_missing: bool = True, keep: str | None = None
) -> dict[str, Any] | None:
    """What the compiler estimates of a program: its results file, which is written if there is none.

    Args:
        program: A `Program`.
        topology: One of `TOPOLOGIES`.
        compile_missing: Whether a program without a result is compiled, which takes minutes.
        keep: Folder for the program and its compiled text, which are then compiled in any case; None: not kept.

    Returns:
        The content of the file; None if there is none and the program is not to be compiled.

    Raises:
        ValueError: If the compiler is not installed, if a TPU refuses the program, or if its memory is too small.
    """
    programs.check(program)
    if keep is not None or not list(RESULTS.glob(f"{program}-{topology}-*.json")):  # before a large network is traced
        if not compile_missing:
            return None
        check()
    serialized, text = programs.emit(program)
    if found := hlo.refused(text):
        raise InputError(f"{program}: a TPU refuses {'; '.join(found)}")
    digest = hlo.digest(text)
    path = RESULTS / f"{program}-{topology}-{digest}.json"
    if path.exists() and keep is None:
        return read_json(path)
    if not compile_missing:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        costs, compiled = compile_for(serialized, topology, keep or scratch)
    ops = scheduled.schedule(compiled)
    cycles = sum(op.cycles for op in ops)
    found = {
        **provenance(),
        "program": program._asdict(),
        "topology": topology,
        "digest": digest,
        "ops": sum(hlo.ops(text).values()),
        "cycles": cycles,
        "cycles_per_image": round(cycles / program.images),
        "scheduled_ops": len(ops),
        **costs,
        "kinds": scheduled.by_kind(ops),
        "largest": [op._asdict() for op in sorted(ops, key=lambda op: -op.cycles)[:_LARGEST]],
    }
    write_json(path, found)
    return found


def run_there(script: str, *arguments: StrPath) -> subprocess.CompletedProcess[str]:
    """Runs a script of this folder in the compiler's own environment."""
    command = [ENVIRONMENT / "bin" / "python", pathlib.Path(__file__).parent / script, *arguments]
    return subprocess.run(command, env={**os.environ, **_QUIET, **_SHARED}, capture_output=True, text=True, check=False)


def compile_for(serialized: bytes, topology: str, folder: str) -> tuple[dict[str, Any], str]:
    """Compiles a program in the compiler's own environment.

    Args:
        serialized: A HloModuleProto.
        topology: One of `TOPOLOGIES`.
        folder: Gets program.hlo, compiled.txt and costs.txt.

    Returns:
        (dict of the costs, the compiled text).

    Raises:
        ValueError: If the compiler is not installed, or if the program needs more memory than the TPU has.
        RuntimeError: If the compiler fails; the message has its output.
    """
    check()
    os.makedirs(folder, exist_ok=True)
    program = pathlib.Path(folder) / "program.hlo"
    program.write_bytes(serialized)
    done = run_there("compile_program.py", program, TOPOLOGIES[topology], folder)
    said = done.stdout + done.stderr
    if done.returncode:
        if no_memory := re.search(".*RESOURCE_EXHAUSTED.*", said):
            raise InputError(f"The program does not fit into the memory of a {topology} core: {no_memory[0].strip()}")
        raise RuntimeError(f"The TPU compiler failed with {done.returncode}:\n{said[-2000:]}")
    costs = ast.literal_eval((pathlib.Path(folder) / "costs.txt").read_text())
    return costs, (pathlib.Path(folder) / "compiled.txt").read_text()
