#!/bin/sh
# Installs the compilers of two kinds of NPU into a folder:
#
#   install_npu.sh FOLDER PYTHON
#
# FOLDER gets Arm's Vela, for Ethos-U, under vela/; and the libraries that LiteRT's compiler for Snapdragons needs, under
# qualcomm/, unpacked from Qualcomm's own package for another runtime. Their license is Qualcomm's, and lies beside them.
# FOLDER takes 400 MB. It is there whole or not at all.
set -eu
folder=$1
python=$2
vela=ethos-u-vela==5.2.0
qualcomm=onnxruntime-qnn==2.7.0

fail() {
  echo "make npu-check: $1" >&2
  exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "the compilers run on Linux on x86-64 only; this is $(uname -sm)."
command -v gcc > /dev/null || fail "gcc is missing; Debian's package gcc brings it."

making=$folder.making
rm -rf "$making"
mkdir -p "$making/wheels"
echo "Installing Arm's Vela and Qualcomm's libraries in $folder"
"$python" -m pip install --quiet --target "$making/vela" --only-binary=:all: "$vela" > "$making/log" 2>&1 ||
  fail "$vela could not be installed from PyPI: $(tail -n 1 "$making/log")"
"$python" -m pip download --quiet --dest "$making/wheels" --no-deps --only-binary=:all: --python-version=3.11 \
  --platform=manylinux_2_35_x86_64 "$qualcomm" > "$making/log" 2>&1 ||
  fail "$qualcomm could not be downloaded from PyPI: $(tail -n 1 "$making/log")"
"$python" -m zipfile -e "$making"/wheels/*.whl "$making/qualcomm"
rm -rf "$making/wheels"

libraries=$making/qualcomm/onnxruntime_qnn
# LiteRT's plugin is linked with the library of another processor, too, and never calls it.
echo | gcc -shared -x c -o "$libraries/libQnnLpai.so" -
for library in libQnnHtp libHtpPrepare libQnnSystem libQnnIr libQnnSaver libQnnLpai; do
  "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$libraries/$library.so" > "$making/log" 2>&1 ||
    fail "Qualcomm's $library.so cannot be loaded: $(tail -n 1 "$making/log")"
done
rm -rf "$folder"
mv "$making" "$folder"
