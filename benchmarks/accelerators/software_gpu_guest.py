"""Runs a TFLite file by LiteRT's GPU code: python software_gpu_guest.py MODEL IMAGES OUTPUTS COUNTING_ICD.

IMAGES is an .npy file of the input's type, one image per row; OUTPUTS an .npz file to write, an array per output. The
last line of the standard output is JSON: what of `Ran` is no output. COUNTING_ICD is the driver that counts.
"""

import ctypes
import statistics
import sys
import time

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator


def main():
    """Compiles the file and runs it on each image."""
    path, images, outputs, driver = sys.argv[1:]
    counters = ctypes.CDLL(driver)  # the same library that Vulkan's loader opens
    dispatches, pipelines = (ctypes.c_uint64.in_dll(counters, name) for name in ("dispatches", "pipelines"))
    model, accelerated = compiled(path)
    [[key, signature]] = model.get_signature_list().items()
    details = model.get_output_tensor_details(key)
    [source], targets = model.create_input_buffers(0), model.create_output_buffers(0)
    found = {name: [] for name in signature["outputs"]}
    counts, milliseconds, at_start = [], [], pipelines.value
    for image in np.load(images):
        start, before = time.perf_counter(), dispatches.value
        source.write(np.ascontiguousarray(image[np.newaxis]))
        model.run_by_index(0, [source], targets)
        for target, (name, values) in zip(targets, found.items(), strict=True):
            shape, kind = details[name]["shape"], details[name]["dtype"]
            values.append(target.read(int(np.prod(shape)), np.dtype(kind).type).reshape(shape))
        counts.append(dispatches.value - before)
        milliseconds.append(1e3 * (time.perf_counter() - start))
    np.savez(outputs, **{name: np.concatenate(values) for name, values in found.items()})
    told = {
        "accelerated": accelerated,
        "dispatches": counts[-1],
        "pipelines": at_start,
        "milliseconds": statistics.median(milliseconds),
    }
    print(repr(told), flush=True)


def compiled(path):
    """(the model, whether the GPU runs all of it); the CPU runs what the GPU refuses."""
    try:
        model = CompiledModel.from_file(path, hardware_accel=HardwareAccelerator.GPU)
        return model, model.is_fully_accelerated()
    except RuntimeError as error:
        if "not accelerated" not in str(error):
            raise
    return CompiledModel.from_file(path, hardware_accel=HardwareAccelerator.GPU | HardwareAccelerator.CPU), False


main()
