"""Compiles a program for a TPU: python compile_program.py PROGRAM TOPOLOGY FOLDER

PROGRAM is a serialized HloModuleProto, TOPOLOGY such as "v5e:2x2". FOLDER gets compiled.txt, the HLO as a TPU runs it,
and costs.txt, a Python literal. Runs in `.tpu`.
"""

import importlib.metadata
import pathlib
import resource
import sys

import private_jaxlib


def main(program, topology, folder):
    compiled = private_jaxlib.compile_for(pathlib.Path(program).read_bytes(), topology)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "flops": compiled.costs["flops"],
        "traffic_bytes": compiled.costs["bytes accessed"],
        "argument_bytes": compiled.memory.argument_size_in_bytes,
        "output_bytes": compiled.memory.output_size_in_bytes,
        "alias_bytes": compiled.memory.alias_size_in_bytes,
        "temporary_bytes": compiled.memory.temp_size_in_bytes,
        "code_bytes": compiled.memory.generated_code_size_in_bytes,
        "compile_seconds": round(used.ru_utime + used.ru_stime),
        "compile_memory_mb": round(used.ru_maxrss / 1024),
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")},
    }
    (pathlib.Path(folder) / "compiled.txt").write_text(compiled.text)
    (pathlib.Path(folder) / "costs.txt").write_text(repr(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
