"""Writes a program as portable StableHLO: python portable_program.py PROGRAM FILE

PROGRAM is a serialized HloModuleProto; any jax of the last years reads FILE. Runs in `.tpu`.
"""

import pathlib
import sys

import private_jaxlib


def main(program, file):
    pathlib.Path(file).write_bytes(private_jaxlib.portable(pathlib.Path(program).read_bytes()))


if __name__ == "__main__":
    main(*sys.argv[1:])
