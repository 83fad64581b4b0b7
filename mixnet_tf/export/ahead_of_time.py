"""Compiles TFLite models for the NPU of a named Snapdragon, by LiteRT's compiler and Qualcomm's libraries."""

import collections
import contextlib
import importlib.resources
import importlib.util
import io
import os
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from tensorflow.lite.tools import flatbuffer_utils

from mixnet_tf.errors import InputError, MissingPackageError, first_line, require_package
from mixnet_tf.progress import Progress, silent

_PACKAGE, _LIBRARY = "ai_edge_litert_sdk_qualcomm", "libQnnHtp.so"
_PARTITION = "DISPATCH_OP"  # LiteRT's custom op for a part that an NPU runs


class CompilationError(RuntimeError):
    """LiteRT could not compile a model for a chip."""


class Compiled(NamedTuple):
    """A TFLite model that was compiled for a chip.

    Attributes:
        content: The compiled model's bytes; LiteRT runs them on that chip alone.
        partitions: Number of parts that the NPU runs; each one more is a way to the CPU and back.
        cpu_ops: Dict from the name of a TFLite op to how many of them the CPU runs; empty if the NPU runs all.
    """

    content: bytes
    partitions: int
    cpu_ops: dict[str, int]


def check(soc_models: Sequence[str]) -> None:
    """Checks that LiteRT can compile for these chips on this machine.

    Raises:
        ValueError: If LiteRT does not know a chip, if it has no compiler for this machine, or if it or Qualcomm's
            libraries are not installed.
    """
    require_package("ai_edge_litert", "LiteRT's compiler", "soc_models", "npu")
    from ai_edge_litert.aot.vendors.qualcomm.target import SocModel

    known = [chip.value for chip in SocModel if chip is not SocModel.ALL]
    if unknown := [name for name in soc_models if name not in known]:
        raise InputError(f"soc_models: LiteRT compiles for {known}; received {unknown}.")
    if not importlib.resources.files("ai_edge_litert").joinpath("tools/apply_plugin_main").is_file():
        raise InputError("soc_models: LiteRT compiles for Snapdragons on Linux on x86-64 only; export there.")
    if not any(os.path.exists(os.path.join(folder, _LIBRARY)) for folder in _library_folders()):
        raise MissingPackageError(
            f"soc_models: Qualcomm's {_LIBRARY} is missing. The package ai-edge-litert-sdk-qualcomm downloads it from "
            "Qualcomm as it is installed: pip install 'mixnet_tf[npu]'. Or name its folder in LD_LIBRARY_PATH."
        )


def _library_folders():
    """The folders in which LiteRT looks for Qualcomm's libraries."""
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    if importlib.util.find_spec(_PACKAGE) is not None:
        package = importlib.import_module(_PACKAGE)
        with contextlib.redirect_stderr(io.StringIO()):  # it prints a warning if its download failed
            folders += filter(None, [package.path_to_sdk_libs()])
    return folders


def compile_for(content: bytes, soc_model: str) -> Compiled:
    """Compiles a TFLite model for a chip; takes seconds.

    Args:
        content: The TFLite model's bytes; its input has a fixed size.
        soc_model: Name of the chip, such as "SM8750", that `check` accepts.

    Raises:
        CompilationError: If LiteRT's compiler fails.
    """
    from ai_edge_litert.aot import aot_compile
    from ai_edge_litert.aot.core.aot_types import Model
    from ai_edge_litert.aot.vendors.qualcomm.target import SocModel, Target

    source, target = Model.create_from_bytes(content), Target(SocModel(soc_model))
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):  # of a progress bar
        try:
            [model] = aot_compile.aot_compile(source, scratch, target, keep_going=False).models
        except ValueError as error:
            raise CompilationError(f"LiteRT's compiler failed for {soc_model}: {first_line(error)}") from error
        model.load()
    return Compiled(model.model_bytes, *partitions(model.model_bytes, _PARTITION))


def partitions(content: bytes, custom_op: str) -> tuple[int, dict[str, int]]:
    """Counts the parts of a compiled model that an NPU runs, and the ops that are left to the CPU.

    Args:
        content: The bytes of a TFLite model in which each part for the NPU has become one custom op.
        custom_op: Name of that custom op.

    Returns:
        (parts, dict from the name of each other op to its count).
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    names = [
        (code.customCode or b"").decode() or flatbuffer_utils.opcode_to_name(model, place)
        for place, code in enumerate(model.operatorCodes)
    ]
    counts = collections.Counter(names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)
    return counts.pop(custom_op, 0), dict(counts.most_common())


def compile_file(
    path: str, content: bytes | None, soc_models: Sequence[str], progress: Progress = silent
) -> list[tuple[dict[str, Any], str, bytes | None]]:
    """Compiles an exported file for each chip.

    Args:
        path: The file's path; a compiled file has its name and the chip's, as LiteRT names it.
        content: The file's bytes; None if it failed its gate.
        soc_models: Names of the chips.
        progress: Shows the phases of the work.

    Returns:
        For each chip an entry of the report, the compiled file's path, and its bytes, None if there are none.
    """
    found = []
    for soc_model in soc_models:
        target = f"{path.removesuffix('.tflite')}_Qualcomm_{soc_model}.tflite"
        compiled, failure = None, f"{os.path.basename(path)} is not written"
        if content is not None:
            with progress(f"Compiling {os.path.basename(path)} for {soc_model}"):
                try:
                    compiled = compile_for(content, soc_model)
                except CompilationError as error:
                    failure = str(error)
        entry = {"soc_model": soc_model, "file": os.path.basename(target), "written": compiled is not None}
        if compiled is None:
            entry["failure"] = failure
        else:
            entry |= {"bytes": len(compiled.content), "partitions": compiled.partitions, "cpu_ops": compiled.cpu_ops}
        found.append((entry, target, None if compiled is None else compiled.content))
    return found
