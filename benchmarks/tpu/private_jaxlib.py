"""All private names of jax and jaxlib 0.10.2 that programs are compiled by, which other versions may not have.

Runs in `.tpu`, or in another environment with jax and an accelerator; not in the project's environment.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jaxlib
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax.experimental import topologies
from jax.extend.mlir import hlo_to_stablehlo
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

VERSION = "0.10.2"


class Compiled(NamedTuple):
    """A program as a TPU runs it.

    Attributes:
        text: The scheduled HLO, with the compiler's estimate of cycles beside each fusion.
        memory: What `get_compiled_memory_stats` returns: attributes that end in `_in_bytes`.
        costs: Dict that has "flops" and "bytes accessed", the traffic of the HBM.
    """

    text: str
    memory: Any
    costs: dict[str, float]


def compile_for(serialized: bytes, topology: str) -> Compiled:
    """Compiles a serialized HloModuleProto for one core of a topology, such as "v5e:2x2".

    Raises:
        RuntimeError: If jax or jaxlib is of another version, if the wheel does not know the topology, or if a TPU
            refuses the program.
    """
    if {jax.__version__, jaxlib.__version__} != {VERSION}:
        raise RuntimeError(f"Written for jax and jaxlib {VERSION}; here are {jax.__version__}, {jaxlib.__version__}.")
    device = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1, device_assignment=[device])
    with mlir.make_ir_context():
        module = _module(serialized)
        executable = device.client.compile(
            module, executable_devices=xla_client.DeviceList((device,)), compile_options=options
        )
    costs = executable.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    return Compiled(executable.hlo_modules()[0].to_string(), executable.get_compiled_memory_stats(), costs)


def portable(serialized: bytes) -> bytes:
    """A serialized HloModuleProto as StableHLO that other versions of jax read, too."""
    with mlir.make_ir_context():
        return stablehlo.serialize_portable_artifact(_module(serialized), stablehlo.get_minimum_version())


def load(artifact: bytes, device: jax.Device) -> tuple[Callable[[list[Any]], None], list[jax.ShapeDtypeStruct]]:
    """Compiles a program of `portable` for a device that is there.

    Returns:
        (function that runs the program on a list of arrays on the device, and puts its new values of variables in the
        place of the old ones, whose memory they take; shapes and dtypes of the inputs).
    """
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1, device_assignment=[device])
    with mlir.make_ir_context() as context:
        module = stablehlo.deserialize_portable_artifact(context, artifact)
        main = next(op for op in module.body.operations if op.name.value == "main")
        inputs = [jax.ShapeDtypeStruct(tuple(kind.shape), _DTYPES[str(kind.element_type)]) for kind in main.type.inputs]
        aliases = [
            (entry["alias"]["parameter_number"].value, list(entry["output_index"])[0])
            for entry in module.operation.attributes["mhlo.input_output_alias"]
        ]
        executable = device.client.compile_and_load(module, xla_client.DeviceList((device,)), options)

    def run(arrays):
        outputs = executable.execute_sharded(arrays).disassemble_into_single_device_arrays()
        for parameter, output in aliases:
            arrays[parameter] = outputs[output][0]

    return run, inputs


_DTYPES = {
    "f32": "float32",
    "bf16": "bfloat16",
    "f16": "float16",
    "i1": "bool",
    "i32": "int32",
    "ui32": "uint32",
    "i64": "int64",
    "ui64": "uint64",
}


def _module(serialized):
    """A HloModuleProto as StableHLO that the compilers take."""
    module = ir.Module.parse(hlo_to_stablehlo(serialized))
    _without_copies(module)
    return module


def _without_copies(module):
    """Replaces each mhlo.copy, which the compiler refuses, by its operand.

    They are variables' values that the program returns.
    """
    copies = []

    def note(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(note)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()
