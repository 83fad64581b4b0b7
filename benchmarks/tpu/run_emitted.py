"""Times programs of emit.py on this machine's accelerator, in turns with the same steps of timm's mixnet_s in PyTorch.

python benchmarks/tpu/run_emitted.py FOLDER REPORT.json [ROUNDS]

Runs in an environment with jax for the accelerator, and torch and timm if they are to be beside it; neither
TensorFlow nor mixnet_tf is needed. Inputs are random. PyTorch trains in autocast bfloat16 and channels_last, as it
comes and by torch.compile, with timm's RMSProp and an average of the weights.
"""

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
    contenders = {path.stem: _program(path) for path in paths}
    shapes = {(int(found["images"]), int(found["size"])) for path in paths if (found := _NAME.fullmatch(path.name))}
    try:
        import timm
        import torch
    except ImportError as error:
        print(f"Without PyTorch: {error}")
        versions = {}
    else:
        versions = {"torch": torch.__version__, "timm": timm.__version__}
        for images, size in sorted(shapes):
            for compiled in (False, True):
                name = f"timm-mixnet_s-{'compiled' if compiled else 'eager'}-{images}x{size}"
                contenders[name] = _timm_step(torch, timm, images, size, compiled)
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


def _program(path):
    """A function that takes a number of steps of a program."""
    loaded = None

    def steps(number):
        nonlocal loaded
        if loaded is None:
            run, inputs = private_jaxlib.load(path.read_bytes(), jax.devices()[0])
            random = np.random.default_rng(0)
            loaded = run, [_values(spec, random) for spec in inputs]
        run, arrays = loaded
        for _ in range(number):
            run(arrays)
        jax.block_until_ready(arrays)

    return steps


def _values(spec, random):
    """Random values, positive as variances are; zeros where they are labels or counters."""
    if not jnp.issubdtype(spec.dtype, jnp.floating):
        return jnp.zeros(spec.shape, spec.dtype)
    return jnp.asarray(random.uniform(0.01, 0.1, spec.shape), spec.dtype)


def _timm_step(torch, timm, images, size, compiled):
    """A function that takes a number of steps of timm's network."""
    loaded = None

    def prepare():
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = timm.create_model("mixnet_s", pretrained=False).to(device, memory_format=torch.channels_last)
        average = timm.utils.ModelEmaV2(model, decay=0.9999)
        optimizer = timm.optim.RMSpropTF(
            model.parameters(), lr=0.01, alpha=0.9, momentum=0.9, eps=0.001, weight_decay=1e-5
        )
        inputs = torch.rand(images, 3, size, size, device=device).to(memory_format=torch.channels_last)
        labels = torch.zeros(images, dtype=torch.long, device=device)
        run = torch.compile(model) if compiled else model
        loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

        def step():
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss_of(run(inputs), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            average.update(model)

        return device, step

    def steps(number):
        nonlocal loaded
        loaded = loaded or prepare()
        device, step = loaded
        for _ in range(number):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return steps


if __name__ == "__main__":
    main(*sys.argv[1:])
