"""Compiles a network's step for a TPU by Google's compiler, without a TPU, and prints what it estimates.

python benchmarks/tpu/measure.py --network=mixnet-s --step=training --precision=bfloat16 --topology=v5e

`make tpu` installs the compiler. Its estimate of cycles is that by which it schedules; no TPU runs anything. A training
step of MixNet-S takes 8 minutes to compile. Results are kept in benchmarks/tpu/results: what is there is not compiled
again.
"""

import estimates
import programs
from absl import flags

from mixnet_tf.commands import process, settings_flags
from mixnet_tf.export.report import table
from mixnet_tf.files import check_can_be_made
from mixnet_tf.networks import Forms
from mixnet_tf.recipe import PRECISIONS

_SMALL = 0.005  # share of the cycles
_WIDTH = 48  # characters of a result, which may be a long tuple
_DEFAULT = programs.Program()
_NETWORK = flags.DEFINE_string(
    "network",
    _DEFAULT.network,
    "A network's name or file, mobilenet-v2:3.5.7 with other kernels, or a function of keras.applications.",
)
_STEP = flags.DEFINE_enum("step", _DEFAULT.step, programs.STEPS, "What is computed for the images.")
_PRECISION = flags.DEFINE_enum("precision", _DEFAULT.precision, PRECISIONS, "As train.py's.")
_SIZE = flags.DEFINE_integer("image_size", _DEFAULT.image_size, "Pixels.", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", _DEFAULT.images, "Images of a step on one core.", lower_bound=1)
_CLASSES = flags.DEFINE_integer(
    "detector_classes", None, "Classes of an SSDLite detector on the network; by default a classifier.", lower_bound=1
)
_BLOCKS = flags.DEFINE_string("blocks", None, "Only the gradients of these blocks, such as 3 or 0-2; for training.")
settings_flags.define(Forms)
_TOPOLOGY = flags.DEFINE_enum("topology", "v5e", list(estimates.TOPOLOGIES), "The TPU.")
_KEEP = flags.DEFINE_string(
    "keep", None, "Folder for program.hlo and compiled.txt, the schedule; the program is compiled in any case."
)


def _summary(found):
    """Lines about the whole program."""
    program = found["program"]
    gigabytes = {name: found[f"{name}_bytes"] / 1e9 for name in ("argument", "output", "temporary", "traffic")}
    return "\n".join(
        [
            f"{programs.Program(**program)}, {found['topology']}, digest {found['digest']}: {found['ops']} ops",
            f"{found['cycles'] / program['images'] / 1e6:.3f} M cycles an image ({found['cycles'] / 1e6:.1f} M a step)",
            "HBM: {argument:.2f} GB arguments, {output:.2f} GB outputs, {temporary:.2f} GB temporaries; "
            "{traffic:.1f} GB traffic a step".format(**gigabytes),
            f"{found['flops'] / 1e9:.1f} GFLOP a step in {found['scheduled_ops']} ops with an estimate",
            f"Compiled by libtpu {found['libtpu']} in {found['compile_seconds'] / 60:.1f} minutes of processor time "
            f"and {found['compile_memory_mb']} MB",
        ]
    )


def _shares(found):
    """(share of the cycles, kind of op), the largest first; all small ones together at the end."""
    shares = [(cycles / found["cycles"], kind) for kind, cycles in found["kinds"].items()]
    shown = [row for row in shares if row[0] >= _SMALL]
    return [*shown, (1 - sum(share for share, _ in shown), "others")]


def main(screen):
    """Compiles one program and prints its estimate."""
    program = programs.Program(
        _NETWORK.value,
        _STEP.value,
        _PRECISION.value,
        _SIZE.value,
        _IMAGES.value,
        _CLASSES.value,
        blocks=_BLOCKS.value,
        **settings_flags.flag_values(Forms._fields),
    )
    if _KEEP.value is not None:
        check_can_be_made("keep", _KEEP.value)
    with screen.phase(f"Compiling {program} for a TPU {_TOPOLOGY.value}"):
        found = estimates.estimate(program, _TOPOLOGY.value, keep=_KEEP.value)
    screen.say(_summary(found))
    screen.say("")
    screen.say(table(_shares(found), {"share": lambda row: f"{row[0]:.1%}", "kind of op": lambda row: row[1]}))
    screen.say("")
    columns = {
        "share": lambda row: f"{row['cycles'] / found['cycles']:.1%}",
        "cycles": lambda row: f"{row['cycles']:,}",
        "layer": lambda row: row["layer"],
        "op": lambda row: row["op"],
        "result": lambda row: row["shape"][:_WIDTH],
    }
    screen.say(table(found["largest"], columns))
    return 0


if __name__ == "__main__":
    process.run(main)
