"""Prints the parts of a network, or its network file: python -m mixnet_tf.networks mixnet-s --image_size=224 --json

The argument is a network's name or the path of a network file.
"""

import sys

from absl import app, flags

from mixnet_tf.errors import InputError
from mixnet_tf.files import json_text
from mixnet_tf.networks.block_strings import parse_kernels
from mixnet_tf.networks.counting import count_parts
from mixnet_tf.networks.mixnet import stages_and_params
from mixnet_tf.networks.network_files import network_content

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Height and width of an image, pixels.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print the network file, as a start for your own.")
_KERNELS = flags.DEFINE_string("kernels", None, "Kernel sizes for every depthwise convolution, such as 3.5.7.")


def main(argv: list[str]) -> int:
    """Prints the network; returns the exit code."""
    try:
        if len(argv) != 2:
            raise InputError(f"Expected one network, such as mixnet-s or my.json; received {argv[1:]}.")
        kernels = None if _KERNELS.value is None else parse_kernels(_KERNELS.value)
        stages, params = stages_and_params(argv[1], kernel_size=kernels)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if _JSON.value:
        print(json_text(network_content(stages, params)))
        return 0
    rows = count_parts(stages, params, _IMAGE_SIZE.value)
    print(f"{'part':<10}{'pixels':>10}  {'kernels':<14}{'channels':>8}{'parameters':>12}{'multiply-adds':>15}")
    for row in rows:
        pixels, sizes = "x".join(map(str, row.resolution)), ".".join(map(str, row.kernels)) or "-"
        print(f"{row.part:<10}{pixels:>10}  {sizes:<14}{row.channels:>8}{row.trainable:>12,}{row.multiply_adds:>15,}")
    trainable, multiply_adds = sum(row.trainable for row in rows), sum(row.multiply_adds for row in rows)
    print(f"{'sum':<44}{trainable:>12,}{multiply_adds:>15,}")
    return 0


if __name__ == "__main__":
    app.run(main)
