#!/bin/sh
# Makes the folder of a GPU of software that counts its dispatches:
#
#   build_gpu.sh FOLDER
#
# Installs Debian's chromium if it is missing, for its SwiftShader, a Vulkan driver of software, and Vulkan's loader.
# FOLDER gets links to both and our driver in front, compiled by gcc. It is there whole or not at all.
set -eu
folder=$1
here=$(dirname "$0")
chromium=/usr/lib/chromium

missing=
[ -e "$chromium/libvk_swiftshader.so" ] && [ -e "$chromium/libvulkan.so.1" ] || missing=chromium
command -v gcc > /dev/null || missing="$missing gcc libc6-dev"
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "make gpu-check needs Debian's $missing, and root to install what is missing: apt-get install $missing" >&2
    exit 1
  fi
  echo "Installing Debian's $missing"
  # Not quoted: one word per package.
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing > /dev/null; } ||
    { echo "make gpu-check: Debian's $missing could not be installed; it needs the network." >&2; exit 1; }
fi

making=$folder.making
rm -rf "$making"
mkdir -p "$making"
gcc -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -o "$making/libcounting_icd.so" \
  "$here/counting_icd.c" -ldl
cat > "$making/counting_icd.json" << END
{"file_format_version": "1.0.0", "ICD": {"library_path": "./libcounting_icd.so", "api_version": "1.3.0"}}
END
ln -s "$chromium/libvk_swiftshader.so" "$chromium/libvulkan.so.1" "$making"
rm -rf "$folder"
mv "$making" "$folder"
