"""Tells what makes training faster on this machine's processor."""

import os
import re

_CPU_INFO = "/proc/cpuinfo"
_SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def hint() -> str | None:
    """A line on oneDNN, for runs in `CPU_FORMS`, where neither TensorFlow nor the user has switched it on; else None.

    TensorFlow switches oneDNN off on x86 processors without AVX-512. docs/TRAINING.md has the times.
    """
    if _SWITCH in os.environ:
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
        "run, a step of MixNet-S took 0.7 to 0.8 of the time on a processor limited to AVX2 (docs/TRAINING.md)."
    )
