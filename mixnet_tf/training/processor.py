"""Tells what makes training faster on this machine's processor."""

import os
import re

_CPU_INFO = "/proc/cpuinfo"
_SWITCH = "TF_ENABLE_ONEDNN_OPTS"
_GAINS_FROM = 224  # pixels: the size that was measured; at 32 px it loses


def hint(image_size: int) -> str | None:
    """A line on oneDNN where it is known to gain, and neither TensorFlow nor the user has switched it on; else None.

    TensorFlow switches oneDNN off on x86 processors without AVX-512. docs/TRAINING.md has the times.

    Args:
        image_size: Pixels of the images to train on.
    """
    if image_size < _GAINS_FROM or _SWITCH in os.environ:
        return None
    try:
        with open(_CPU_INFO) as file:
            flags = re.search(r"^flags\s*:(.*)$", file.read(), re.MULTILINE)
    except OSError:
        return None
    if flags is None or "avx2" not in flags[1].split() or "avx512f" in flags[1].split():
        return None
    return (
        f"This processor has no AVX-512, so TensorFlow leaves oneDNN off. With {_SWITCH}=1 in the environment of a new "
        "run, a step of MixNet-S at 224 px took 0.7 of the time on an AMD Zen 3 (docs/TRAINING.md)."
    )
