"""Which functions of an engine the counted instructions belong to, and which kind of op each function computes."""

import bisect
import collections
import functools
import pathlib
import re
import subprocess

from arm64.emulation import Ran

OTHERS = "between the kernels"
# The beginnings of XNNPACK's kernels' names, without xnn_ and the number format, and what they compute.
_KINDS = (
    (r"gemm_", "1x1 convolutions"),
    (r"igemm_|conv_hwc2chw_", "other convolutions"),
    (r"dwconv_.*_(?:3|4)p\d", "depthwise, up to 4 taps"),
    (r"dwconv_.*_9p\d", "depthwise, 9 taps"),
    (r"dwconv_.*_25p\d", "depthwise, 25 taps"),
    (r"vtanh_|vsigmoid_|lut_|vhswish_", "activations"),
    (r"vmul", "products"),
    (r"vadd|vsub|vrsub", "sums"),
    (r"rdsum|rsum|avgpool|gavgpool", "means"),
    (r"copy_|pad_|fill_|libc", "copies and padding"),
)
KINDS = (*(kind for _, kind in _KINDS), OTHERS)


def by_function(ran: Ran) -> collections.Counter[str]:
    """The instructions of each function.

    Args:
        ran: An invocation with its `blocks`.

    Returns:
        Counter of the functions of libraries that have symbols, and of whole libraries that have none.
    """
    libraries = {}
    for line in (line for line in ran.maps.splitlines() if "/" in line):
        addresses, *_, path = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        first, _ = libraries.get(path, (start, end))
        libraries[path] = (first, end)
    found: collections.Counter[str] = collections.Counter()
    for address, instructions in ran.blocks.items():
        inside = [(path, first) for path, (first, end) in libraries.items() if first <= address < end]
        path, first = inside[0] if inside else ("elsewhere", 0)
        found[_function(path, address - first)] += instructions
    return found


def by_kind(functions: collections.Counter[str]) -> collections.Counter[str]:
    """The instructions of each kind of op, and of `OTHERS`."""
    found: collections.Counter[str] = collections.Counter()
    for name, instructions in functions.items():
        found[kind_of(name)] += instructions
    return found


def kind_of(function: str) -> str:
    """What a function computes."""
    name = re.sub(r"^xnn_|(?:qs8|qu8|qc8w|f16|f32|f32acc|x8|x16|x32|xx)_", "", function)
    return next((kind for pattern, kind in _KINDS if re.match(pattern, name)), OTHERS)


def _function(path, offset):
    addresses, names = _symbols(path)
    place = bisect.bisect_right(addresses, offset) - 1
    return names[place] if place >= 0 else pathlib.Path(path).name


@functools.cache
def _symbols(path):
    """The sorted addresses and the names of a library's functions; none if it is stripped."""
    listed = subprocess.run(["nm", "--defined-only", path], capture_output=True, text=True, check=False).stdout
    lines = [line.split() for line in listed.splitlines()]
    symbols = sorted((int(address, 16), name) for address, kind, name in lines if kind in "tTwW")
    return [address for address, _ in symbols], [name for _, name in symbols]
