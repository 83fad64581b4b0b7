#!/bin/sh
# Builds the folder that ARM64 programs run from on another processor, by QEMU's user-mode emulation:
#
#   build.sh FOLDER PIP
#
# Installs Debian's qemu-user and debootstrap on this machine. FOLDER gets Debian's arm64 base system with Python, some
# 250 MB, under root/; and LiteRT and NumPy for ARM64, of the LiteRT version that PIP has, under packages/. It is there
# whole or not at all.
set -eu
folder=$1
pip=$2

if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "make arm64 installs packages and makes a Debian system: it needs root and Debian." >&2
  exit 1
fi
if ! command -v qemu-aarch64 > /dev/null || ! command -v debootstrap > /dev/null; then
  echo "Installing Debian's qemu-user and debootstrap"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends qemu-user debootstrap > /dev/null
fi

making=$folder.making
rm -rf "$making"
mkdir -p "$making/wheels"
echo "Making an ARM64 system of Debian's packages in $folder"
# Only unpacked: its programs run one by one, so nothing has to be set up inside it.
debootstrap --arch=arm64 --foreign --variant=minbase --include=python3 bookworm "$making/root" > "$making/log" ||
  { tail -n 20 "$making/log" >&2; exit 1; }
for package in "$making"/root/var/cache/apt/archives/*.deb; do
  dpkg --extract "$package" "$making/root"
done
rm -rf "$making/root/var/cache/apt/archives"

echo "Downloading LiteRT and NumPy for ARM64"
litert=$("$pip" show ai-edge-litert | sed -n 's/^Version: //p')
"$pip" download --quiet --dest "$making/wheels" --no-deps --only-binary=:all: --python-version=3.11 \
  --platform=manylinux_2_28_aarch64 --platform=manylinux_2_27_aarch64 --platform=manylinux2014_aarch64 \
  "ai-edge-litert==$litert" numpy ml_dtypes
for wheel in "$making"/wheels/*.whl; do
  python3 -m zipfile -e "$wheel" "$making/packages"
done
rm -rf "$making/wheels"

rm -rf "$folder"
mv "$making" "$folder"
