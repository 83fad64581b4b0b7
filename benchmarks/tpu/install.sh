#!/bin/sh
# Installs Google's TPU compiler and jax, through which it is reached, in an environment of their own:
#
#   install.sh FOLDER PYTHON
#
# FOLDER takes 1.1 GB. It is there whole or not at all.
set -eu
folder=$1
python=$2
packages="jax==0.10.2 jaxlib==0.10.2 libtpu==0.0.52 numpy==2.4.6"

fail() {
  echo "make tpu: $1" >&2
  exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "the TPU compiler runs on Linux on x86-64 only; this is $(uname -sm)."
making=$folder.making
rm -rf "$making"
mkdir "$making"
echo "Installing the TPU compiler in $folder (1.1 GB)"
"$python" -m venv "$making" > "$making/log" 2>&1 ||
  fail "no environment can be created: $(tail -n 1 "$making/log")"
# shellcheck disable=SC2086 # four packages
"$making/bin/python" -m pip install --quiet --only-binary=:all: $packages > "$making/log" 2>&1 ||
  fail "$packages could not be installed from PyPI: $(tail -n 1 "$making/log")"
rm -rf "$folder"
mv "$making" "$folder"
