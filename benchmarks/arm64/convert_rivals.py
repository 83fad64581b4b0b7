"""Converts timm's mixnet_s with random weights for MNN and ncnn: python convert_rivals.py FOLDER.

Runs in an environment with torch, timm, onnx, safetensors, MNN, ncnn and pnnx. FOLDER gets mixnet_s.mnn,
mixnet_s.ncnn.param and .bin, the weights in mixnet_s.safetensors, an image, torch's logits for it, and versions.json.
"""

import importlib.metadata
import json
import pathlib
import subprocess
import sys

import numpy as np
import timm
import torch
from safetensors.torch import save_file

_SIZE = 224  # pixels
_PACKAGES = ("MNN", "ncnn", "pnnx", "torch", "timm")


def main():
    """Writes the network in each engine's format."""
    folder = pathlib.Path(sys.argv[1])
    torch.manual_seed(0)
    model = timm.create_model("mixnet_s", pretrained=False).eval()
    image = np.random.default_rng(0).uniform(0, 255, (1, _SIZE, _SIZE, 3)).astype(np.float32)
    mean, std = (torch.tensor(model.default_cfg[name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    normalized = (torch.from_numpy(image).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        logits = model(normalized).numpy()
    np.save(folder / "image.npy", image)
    np.save(folder / "normalized.npy", np.ascontiguousarray(normalized.numpy()))
    np.save(folder / "logits.npy", logits)
    save_file(model.state_dict(), folder / "mixnet_s.safetensors", {"architecture": "mixnet_s"})

    torch.onnx.export(model, (normalized,), folder / "mixnet_s.onnx", dynamo=False)
    torch.jit.trace(model, normalized).save(folder / "mixnet_s.pt")
    tools = pathlib.Path(sys.executable).parent
    mnn = ["-f", "ONNX", "--modelFile", "mixnet_s.onnx", "--MNNModel", "mixnet_s.mnn", "--bizCode", "mixnet"]
    for command in (
        [tools / "mnnconvert", *mnn],
        [tools / "pnnx", "mixnet_s.pt", f"inputshape=[1,3,{_SIZE},{_SIZE}]", "fp16=0"],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    (folder / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


main()
