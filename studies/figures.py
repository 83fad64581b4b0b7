"""The networks of the paper's figures 1, 4, 5 and 6, made of any base network. Source: arXiv:1907.09595."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mixnet_tf.errors import InputError
from mixnet_tf.networks import BlockArgs, GlobalParams, stages_and_params

# The curves of each figure. "one size": all depthwise kernels have one size; "mixed": groups of 3, 5, ... pixels with
# equally many channels; "exponential": half of the channels to the first group, a quarter to the second ...;
# "dilated": 3x3 kernels that reach as far where the stride is 1. Figure 5 changes a single layer.
SERIES = {
    1: ("one size",),
    4: ("one size", "mixed"),
    5: ("9x9", "3.5.7.9"),
    6: ("mixed", "exponential", "dilated"),
}
FIGURES = tuple(SERIES)
_BASE = "k3"  # every kernel 3x3; all curves begin there


class Variation(NamedTuple):
    """A point of a figure: a network, which other points may share.

    Attributes:
        name: The network's name: "k3", "k3.5.7-dilated", "layer4-k9" ...
        series: The curve that the point is on; "base" for the network that figure 5 compares with.
        place: Its kernel size, number of groups or layer.
        stages: Its list of `BlockArgs`.
        params: Its `GlobalParams`.
    """

    name: str
    series: str
    place: int
    stages: list[BlockArgs]
    params: GlobalParams


def variations(figure: int, network: str, largest_kernel: int = 13) -> list[Variation]:
    """The points of a figure, each curve from its smallest kernels to its largest.

    Args:
        figure: One of `FIGURES`.
        network: The base network: a name, or the path of a network file.
        largest_kernel: The largest kernel size of figures 1, 4 and 6, pixels; odd.

    Raises:
        ValueError: If the network does not exist, or has too few channels or layers.
    """
    if figure == 5:
        return list(_in_one_layer(network))
    return [point for series in SERIES[figure] for point in _everywhere(series, network, largest_kernel)]


def _everywhere(series: str, network: str, largest_kernel: int) -> Iterator[Variation]:
    """The network with every depthwise kernel replaced, a point for each kernel size."""
    for size in range(3, largest_kernel + 1, 2):
        kernels: Sequence[int] = (size,) if series == "one size" else range(3, size + 1, 2)
        name = "k" + ".".join(map(str, kernels))
        own = {"exponential": {"partition": "exponential"}, "dilated": {"dilated": True}}.get(series, {})
        if own and name != _BASE:  # with one kernel of 3 pixels they are all the same
            name = f"{name}-{series}"
        else:
            own = {}
        place = size if series == "one size" else len(kernels)
        yield Variation(name, series, place, *stages_and_params(network, None, own, tuple(kernels)))


def _in_one_layer(network: str) -> Iterator[Variation]:
    """The network with 3x3 kernels in all layers, and then with other kernels in one layer, a point for each layer.

    The paper numbers 15 of MobileNetV2's 17 layers. Here these are all blocks except the first and the last: of the two
    readings, this one gives 15 layers, with a stage beginning wherever the paper marks a stride of 2.
    """
    stages, params = stages_and_params(network, kernel_size=3)
    blocks = [block for stage in stages for block in _single_blocks(stage)]
    if len(blocks) < 3:
        raise InputError(f"Figure 5 needs a network of at least 3 blocks; {network} has {len(blocks)}.")
    yield Variation(_BASE, "base", 0, stages, params)
    for series, kernels in (("9x9", (9,)), ("3.5.7.9", (3, 5, 7, 9))):
        for layer, block in enumerate(blocks[1:-1]):
            changed = [*blocks[: layer + 1], block._replace(dw_ksize=kernels), *blocks[layer + 2 :]]
            name = f"layer{layer}-k{'.'.join(map(str, kernels))}"
            yield Variation(name, series, layer, *stages_and_params(None, changed, params._asdict()))


def _single_blocks(stage: BlockArgs) -> list[BlockArgs]:
    """Splits a stage into stages of one block."""
    repeat = stage._replace(num_repeat=1, input_filters=stage.output_filters, strides=(1, 1))
    return [stage._replace(num_repeat=1)] + [repeat] * (stage.num_repeat - 1)
