"""Times programs of emit.py on this machine's accelerator, in turns with the same steps of timm's mixnet_s in PyTorch.

python benchmarks/tpu/run_emitted.py FOLDER REPORT.json [ROUNDS]

Runs in an environment with jax for the accelerator, and torch and timm if they are to be beside it; neither
TensorFlow nor mixnet_tf is needed. Inputs are random. PyTorch trains in autocast bfloat16 and channels_last, as it
comes and by torch.compile, with timm's RMSProp and an average of the weights.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import sys
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory, too

import jax
import jax.numpy as jnp
import numpy as np
import private_jaxlib

jax.config.update("jax_enable_x64", True)  # TensorFlow's seeds and counters are int64
_STEPS = 5  # of a turn
_NAME = re.compile(r"mixnet-s-training-\w+-(?P<images>\d+)x(?P<size>\d+).*\.stablehlo")


def main(folder, report, rounds="7"):
    """Prints milliseconds a step, medians over the rounds, and writes all of them."""
    paths = sorted(pathlib.Path(folder).glob("*.stablehlo"))
    if not paths:
        raise SystemExit(f"{folder} has no programs: emit.py writes them.")
    contenders = {path.stem: _made_at_first(_program, path) for path in paths}
    shapes = {(int(found["images"]), int(found["size"])) for path in paths if (found := _NAME.fullmatch(path.name))}
    try:
        import timm_training
    except ImportError as error:
        print(f"Without PyTorch: {error}")
        versions = {}
    else:
        versions = {name: importlib.metadata.version(name) for name in ("torch", "timm")}
        for images, size in sorted(shapes):
            for compiled in (False, True):
                name = f"timm-mixnet_s-{'compiled' if compiled else 'eager'}-{images}x{size}"
                contenders[name] = _made_at_first(timm_training.timm_step, images, size, compiled, "bfloat16")
    milliseconds = {name: [] for name in contenders}
    for name, step in list(contenders.items()):  # compiles, and warms up
        started = time.perf_counter()
        try:
            step(2)
        except Exception as error:  # what one of them lacks does not stop the others
            print(f"{name}: {type(error).__name__}: {str(error)[:300]}")
            del contenders[name]
        else:
            print(f"{name}: first steps after {time.perf_counter() - started:.0f} s", flush=True)
    for _ in range(int(rounds)):
        for name, step in contenders.items():
            started = time.perf_counter()
            step(_STEPS)
            milliseconds[name].append(1000 * (time.perf_counter() - started) / _STEPS)
    for name, measured in milliseconds.items():
        print(f"{name}: {statistics.median(measured):.2f} ms a step" if measured else f"{name}: failed")
    device = jax.devices()[0]
    found = {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "device": device.device_kind,
        "machine": platform.processor() or platform.machine(),
        "versions": {"jax": jax.__version__, "python": platform.python_version(), **versions},
        "steps_per_turn": _STEPS,
        "milliseconds": milliseconds,
    }
    making = pathlib.Path(f"{report}.making")
    making.write_text(json.dumps(found, indent=1) + "\n")
    making.rename(report)


def _made_at_first(make, *arguments):
    """A function that takes a number of steps, which its first call makes."""
    made = functools.cache(make)
    return lambda number: made(*arguments)(number)


def _program(path):
    """A function that takes a number of steps of a program."""
    run, inputs = private_jaxlib.load(path.read_bytes(), jax.devices()[0])
    random = np.random.default_rng(0)
    arrays = [_values(spec, random) for spec in inputs]

    def steps(number):
        for _ in range(number):
            run(arrays)
        jax.block_until_ready(arrays)

    return steps


def _values(spec, random):
    """Random values, positive as variances are; zeros where they are labels or counters."""
    if not jnp.issubdtype(spec.dtype, jnp.floating):
        return jnp.zeros(spec.shape, spec.dtype)
    return jnp.asarray(random.uniform(0.01, 0.1, spec.shape), spec.dtype)


if __name__ == "__main__":
    main(*sys.argv[1:])
