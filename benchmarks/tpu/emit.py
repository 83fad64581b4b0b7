"""Writes training steps of the table as portable StableHLO, for run_emitted.py on a machine with another accelerator.

python benchmarks/tpu/emit.py --output_dir=runs/steps --network=mixnet-s --images=128 --images=256

Each step is written in the forms of a new run on a TPU and in the split form. `make tpu` installs what converts them.
"""

import os
import pathlib
import tempfile

import estimates
import programs
from absl import flags

from mixnet_tf.commands import process
from mixnet_tf.files import check_can_be_made
from mixnet_tf.networks import TPU_FORMS, Forms
from mixnet_tf.recipe import PRECISIONS

_OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for the programs.", required=True)
_NETWORK = flags.DEFINE_string("network", "mixnet-s", "As measure.py's.")
_IMAGES = flags.DEFINE_multi_integer("images", [128, 256], "Images of a step; repeat the flag for several.")
_SIZE = flags.DEFINE_integer("image_size", 224, "Pixels.", lower_bound=1)
_PRECISION = flags.DEFINE_enum("precision", "bfloat16", PRECISIONS, "As train.py's.")


def main(screen):
    """Emits and converts each program."""
    estimates.check()
    check_can_be_made("output_dir", _OUTPUT.value)
    os.makedirs(_OUTPUT.value, exist_ok=True)
    for images in _IMAGES.value:
        for forms in (Forms(), TPU_FORMS):
            program = programs.Program(
                _NETWORK.value, programs.TRAINING, _PRECISION.value, _SIZE.value, images, None, *forms
            )
            programs.check(program)
            path = pathlib.Path(_OUTPUT.value) / f"{program}.stablehlo"
            with screen.phase(f"Writing {path}"):
                serialized, _ = programs.emit(program)
                _convert(serialized, path)
    return 0


def _convert(serialized, path):
    """Writes the program as StableHLO."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, target = pathlib.Path(folder) / "program.hlo", pathlib.Path(folder) / "program.stablehlo"
        source.write_bytes(serialized)
        done = estimates.run_there("portable_program.py", source, target)
        if done.returncode:
            raise RuntimeError(f"The conversion failed with {done.returncode}:\n{done.stderr[-2000:]}")
        target.rename(path)


if __name__ == "__main__":
    process.run(main)
