"""The table of docs/PERFORMANCE.md: what the TPU's compiler estimates of training and inference, network by network.

python benchmarks/tpu/table.py            # what is in results/
python benchmarks/tpu/table.py --compile  # compiles what is missing: hours of processor time
"""

import estimates
import keras
from absl import flags
from programs import INFERENCE, TRAINING, Program

from mixnet_tf.commands import process
from mixnet_tf.export.report import table
from mixnet_tf.networks import TPU_FORMS

_COMPILE = flags.DEFINE_bool("compile", False, "Whether to compile the rows that are not measured.")
_TOPOLOGY = flags.DEFINE_enum("topology", "v5e", list(estimates.TOPOLOGIES), "The TPU.")

_TPU = TPU_FORMS._asdict()  # the forms of a new run on a TPU
_ROWS = (
    Program("mixnet-s", TRAINING, "bfloat16"),
    Program("mixnet-s", TRAINING, "bfloat16", **{**_TPU, "depthwise_form": "split"}),
    Program("mixnet-s", TRAINING, "bfloat16", **_TPU),
    Program("EfficientNetB0", TRAINING, "bfloat16"),
    Program("mixnet-s", TRAINING, "bfloat16", images=256, **_TPU),
    Program("mixnet-s", TRAINING, "float32", **_TPU),
    *(
        Program(network, TRAINING, "bfloat16", **_TPU)
        for network in ("mixnet-m", "mixnet-l", "mixnet-xl", "mobilenet-v2", "mobilenet-v2:3.5.7")
    ),
    Program("mixnet-s", INFERENCE, "float32"),
    Program("mixnet-s", INFERENCE, "bfloat16"),
    *(
        Program(network, INFERENCE, "bfloat16")
        for network in ("mixnet-m", "mixnet-xl", "mobilenet-v2", "EfficientNetB0")
    ),
)


def _gigabytes(name):
    return lambda row: "-" if row[1] is None else f"{row[1][f'{name}_bytes'] / 1e9:.2f}"


def _megacycles(row):
    program, found = row
    return "not measured" if found is None else f"{found['cycles'] / program.images / 1e6:.3f}"


_COLUMNS = {
    "program": lambda row: str(row[0]),
    "M cycles/image": _megacycles,
    "GFLOP": lambda row: "-" if row[1] is None else f"{row[1]['flops'] / 1e9:.0f}",
    "traffic, GB": _gigabytes("traffic"),
    "arguments": _gigabytes("argument"),
    "temporaries, GB": _gigabytes("temporary"),
    "ops": lambda row: "-" if row[1] is None else str(row[1]["scheduled_ops"]),
    "compiled in, min": lambda row: "-" if row[1] is None else f"{row[1]['compile_seconds'] / 60:.0f}",
}


def main(screen):
    """Prints the table; without --compile, rows that were not compiled say so."""
    if _COMPILE.value:
        estimates.check()
    rows = []
    with screen.phase("Looking up the programs", len(_ROWS), "programs") as phase:
        for program in _ROWS:
            rows.append((program, estimates.estimate(program, _TOPOLOGY.value, _COMPILE.value)))
            if rows[-1][1] is not None:
                keras.utils.clear_session()  # of the network that was traced
            phase.update(len(rows))
    screen.say(table(rows, _COLUMNS))
    return 0


if __name__ == "__main__":
    process.run(main)
