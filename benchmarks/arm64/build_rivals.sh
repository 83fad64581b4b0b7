#!/bin/sh
# Makes what the rivals need to run in the emulation of build.sh:
#
#   build_rivals.sh FOLDER PYTHON
#
# PYTHON is that of an environment of its own with torch, timm, onnx, safetensors, MNN, ncnn and pnnx. FOLDER gets timm's
# mixnet_s, converted by each engine's own tool, and under packages/ the engines for ARM64, of the versions that convert.
# It is there whole or not at all.
set -eu
folder=$1
python=$2
here=$(dirname "$0")

making=$folder.making
rm -rf "$making"
mkdir -p "$making/wheels"
"$python" "$here/convert_rivals.py" "$making"
for engine in MNN ncnn; do
  version=$("$python" -c "import importlib.metadata as m; print(m.version('$engine'))")
  "$python" -m pip download --quiet --dest "$making/wheels" --no-deps --only-binary=:all: --python-version=3.11 \
    --platform=manylinux_2_28_aarch64 --platform=manylinux_2_17_aarch64 --platform=manylinux2014_aarch64 \
    "$engine==$version"
done
for wheel in "$making"/wheels/*.whl; do
  python3 -m zipfile -e "$wheel" "$making/packages"
done
rm -rf "$making/wheels" "$folder"
mv "$making" "$folder"
