"""What the text of a program tells: its digest, its ops, and those that a TPU refuses."""

import collections
import hashlib
import re

_NAME = re.compile(r"%?\b[A-Za-z_][\w\-]*\.\d+(?:\.\w+)*\b")  # of an instruction or a computation
_OP = re.compile(r"^\s+(?:ROOT )?%?\S+ = .*?\s([a-z][a-z0-9\-]*)\(", re.MULTILINE)
# What a TPU does not run.
_REFUSED = {
    "a call to the host or to a library of the CPU": r"\b(?:custom-call|infeed|outfeed|send|recv)\(",
    "float64": r"\b(?:f64|c128)\[",
    "a shape that is known only when it runs": r"\[(?:\d+,)*<=",
}


def digest(text: str) -> str:
    """Twelve hex digits that are equal for equal programs, whatever their instructions are called."""
    names: dict[str, str] = {}
    body = text.partition("\n")[2]  # the first line has the name of the traced function
    renamed = _NAME.sub(lambda found: names.setdefault(found[0], f"%{len(names)}"), body)
    return hashlib.sha256(renamed.encode()).hexdigest()[:12]


def ops(text: str) -> dict[str, int]:
    """How many ops of each kind a program has, in all its computations."""
    return dict(collections.Counter(_OP.findall(text)).most_common())


def refused(text: str) -> list[str]:
    """What a TPU refuses in a program: a line for each kind, with the first op of it."""
    found = []
    for what, pattern in _REFUSED.items():
        line = re.search(f"^.*(?:{pattern}).*$", text, re.MULTILINE)
        if line is not None:
            found.append(f"{what}: {line[0].strip()[:200]}")
    return found
