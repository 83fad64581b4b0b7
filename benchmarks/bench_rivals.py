"""Compares MixNet-S on emulated ARM64 cores with other engines: instructions, and how far the answers are off.

python benchmarks/bench_rivals.py --cores=cortex-a76,cortex-a53

All engines run the same network, timm's mixnet_s with random weights, on one image of 224 px and one thread. MNN and
ncnn run where `make rivals` has converted it; else the counts of benchmarks/rivals.json are shown, with their date.
"""

import pathlib
import tempfile

import numpy as np
from absl import flags
from arm64 import emulation

from mixnet_tf import build_model
from mixnet_tf.commands import process
from mixnet_tf.errors import InputError
from mixnet_tf.export import quantize, runtime
from mixnet_tf.export.arithmetics import arithmetic_of
from mixnet_tf.export.convert import convert, to_tflite, write_saved_model
from mixnet_tf.export.rewrite import AsWritten, InferenceFunction
from mixnet_tf.export.target import target_model
from mixnet_tf.files import read_json, write_json
from mixnet_tf.provenance import provenance

_CORES = flags.DEFINE_list("cores", list(emulation.CORES), "The cores.")
_JSON = flags.DEFINE_string("json", None, "JSON file for the figures; benchmarks/rivals.json is one.")

_FOLDER = pathlib.Path(__file__).parents[1] / ".rivals"  # created by arm64/build_rivals.sh
_STORED = pathlib.Path(__file__).parent / "rivals.json"
_FORMATS = ("fp32", "fp16", "int8")
_RIVALS = {
    "mnn": ("MNN", "float32", "mixnet_s.mnn"),
    "mnn half": ("MNN", "half", "mixnet_s.mnn"),
    "ncnn": ("ncnn", "float32", "mixnet_s.ncnn.param"),
    "ncnn half": ("ncnn", "half", "mixnet_s.ncnn.param"),
}


def _ours():
    """Dict from a name to a TFLite file of the network with logits."""
    weights = _FOLDER / "mixnet_s.safetensors"
    params = {"padding": "symmetric", "batch_norm_epsilon": 1e-5}
    model = build_model("mixnet-s", params, weights=weights if weights.exists() else None, input_shape=(224, 224, 3))
    model = target_model(model, "logits")
    images = np.random.default_rng(0).uniform(0, 255, (8, 224, 224, 3)).astype(np.float32)
    files = {"LiteRT, plain conversion": to_tflite(AsWritten(model), 224)}
    with tempfile.TemporaryDirectory() as scratch:
        for form in _FORMATS:
            folder = f"{scratch}/{form}"
            write_saved_model(InferenceFunction(model, arithmetic=arithmetic_of(form)), folder, 224, 1, "logits")
            files[f"LiteRT, ours, {form}"] = convert(folder, quantize.configure(form, images))
    return files


def _row(name, runs, logits):
    """A row of the table; `runs` is a dict from a core to what it ran."""
    error = None
    if logits is not None:
        answers = np.array([ran.outputs[0].reshape(-1) for ran in runs.values()])
        error = float(np.abs(answers - logits.reshape(-1)).max() / np.abs(logits).max())
    return {"engine": name, "instructions": {core: ran.instructions for core, ran in runs.items()}, "error": error}


def _rivals(cores, logits):
    versions, image = read_json(_FOLDER / "versions.json"), np.load(_FOLDER / "normalized.npy")
    rows = []
    for engine, (package, precision, model) in _RIVALS.items():
        runs = {
            core: emulation.emulate(engine, str(_FOLDER / model), image, core, [_FOLDER / "packages"]) for core in cores
        }
        rows.append(_row(f"{package} {versions[package]}, {precision}", runs, logits))
    return rows


def main(_screen):
    """Counts and prints a table."""
    cores = _CORES.value
    emulation.check(cores)
    if not cores:
        raise InputError(f"cores: expected some of {list(emulation.CORES)}; received none.")
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    if _FOLDER.exists():
        image, logits = np.load(_FOLDER / "image.npy"), np.load(_FOLDER / "logits.npy")
        rows, counted = _rivals(cores, logits), "now"
    else:
        stored = read_json(_STORED)
        rows, counted, logits = stored["rivals"], f"on {stored['date']}, as stored", None
    rows += [
        _row(name, {core: emulation.run(content, image, core) for core in cores}, logits)
        for name, content in _ours().items()
    ]
    print(f"timm's mixnet_s, 224 px, one thread, million instructions; {runtime.RUNTIME}; rivals counted {counted}")
    print(f"{'':<32}{''.join(f'{core:>12}' for core in cores)}  of the largest logit off")
    for row in rows:
        counts = [row["instructions"].get(core) for core in cores]
        shown = "".join(f"{'-' if count is None else format(count / 1e6, '.1f'):>12}" for count in counts)
        print(f"{row['engine']:<32}{shown}  {'-' if row['error'] is None else format(row['error'], '.1e')}")
    if _JSON.value is not None:
        found = [row for row in rows if not row["engine"].startswith("LiteRT")]
        write_json(_JSON.value, {**provenance(), "rivals": found, "ours": rows[len(found) :]})
    return 0


if __name__ == "__main__":
    process.run(main)
