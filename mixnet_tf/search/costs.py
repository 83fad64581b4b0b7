"""The cost of a network: its multiply-adds, or the time of its blocks in LiteRT."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.export import litert_latencies
from mixnet_tf.files import StrPath, read_json, write_json
from mixnet_tf.networks import (
    Activation,
    BatchNormalization,
    GroupedConv2D,
    MixnetDecoder,
    backbone,
    classifier,
    count_parts,
    mixnet_block,
    unroll,
)
from mixnet_tf.search.space import SearchSpace

MULTIPLY_ADDS, LATENCY = COSTS = ("multiply-adds", "latency")
LATENCIES = "latencies.json"
_STEM, _HEAD = "stem", "head"


def in_words(cost: float, kind: str) -> str:
    """A cost with its unit; `kind` is one of `COSTS`."""
    return f"{cost:.3g} ms" if kind == LATENCY else f"{cost / 1e6:.2f}M multiply-adds"


def multiply_adds_of(space: SearchSpace, image_size: int) -> Callable[[Sequence[int]], float]:
    """Returns a function from a choice to its multiply-adds for one image of `image_size` pixels."""
    return lambda choice: float(
        sum(row.multiply_adds for row in count_parts(space.stages_of(choice), space.global_params, image_size))
    )


def smallest_and_largest(space: SearchSpace) -> list[tuple[int, ...]]:
    """The choices with the fewest and the most multiply-adds; each alternative contributes independently."""
    size_of = multiply_adds_of(space, 224)
    first = (0,) * len(space.alternatives)

    def extreme(best):
        return tuple(
            best(
                range(len(each.values)),
                key=lambda value, place=place: size_of((*first[:place], value, *first[place + 1 :])),
            )
            for place, each in enumerate(space.alternatives)
        )

    return [extreme(min), extreme(max)]


class LatencyTable:
    """The latency of a network, as the sum over its blocks; each block is exported and measured once.

    The table is a JSON object of milliseconds by "block string @ pixels of its input", "stem @ ..." and "head @ ...".
    It is measured on this machine as needed, or it is given complete, for example from a phone.

    Args:
        space: The space.
        image_size: Height and width of an image, pixels.
        path: The table of this machine, which is read and extended.
        given: Path of a complete table to use instead; None: measure here.

    Raises:
        FileNotFoundError: If there is no given table.
        ValueError: If the table is not a JSON object of numbers; when called, if it lacks a block.
    """

    def __init__(self, space: SearchSpace, image_size: int, path: StrPath, given: StrPath | None = None) -> None:
        self._space, self._image_size, self._path, self._given = space, image_size, path, given
        if given is not None:
            self._times = _read(given)
        else:
            try:
                self._times = _read(path)
            except MissingFileError:
                self._times = {}

    def __call__(self, choice: Sequence[int]) -> float:
        """The latency of the network of a choice, milliseconds."""
        return sum(self._time(key, choice) for key in self._keys(choice))

    def _keys(self, choice):
        """The keys of a network's parts."""
        stages, params = self._space.stages_of(choice), self._space.global_params
        rows = count_parts(
            stages, params, self._image_size
        )  # stem, blocks, head: each takes the output of the one before
        blocks = [MixnetDecoder.encode([block])[0] for block in unroll(stages, params)]
        taken = [self._image_size, *(row.resolution[0] for row in rows)]
        return [f"{part} @ {size}" for part, size in zip((_STEM, *blocks, _HEAD), taken, strict=False)]

    def _time(self, key, choice):
        if key not in self._times:
            if self._given is not None:
                raise InputError(f"{self._given} has no time of {key!r}; measure it, or let this machine do it.")
            model = self._part(key, choice)
            # Other processes of the search may have added to it.
            there = _read(self._path) if tf.io.gfile.exists(self._path) else {}
            self._times |= litert_latencies({key: model}) | there
            write_json(self._path, dict(sorted(self._times.items())))
        return self._times[key]

    def _part(self, key, choice):
        """The part of a network that a key names, as a Keras model."""
        text, _, size = key.rpartition(" @ ")
        params = self._space.global_params
        if text == _STEM:
            image = keras.Input((int(size), int(size), 3))
            return keras.Model(image, backbone(image, [], params._replace(head=False)))
        if text == _HEAD:
            x = features = keras.Input((int(size), int(size), self._space.stages_of(choice)[-1].output_filters))
            if params.head:
                x = GroupedConv2D(params.feature_size, (1,), name="head_conv")(x)
                x = BatchNormalization(name="head_bn")(x)
                x = Activation(params.default_activation, name="head_activation")(x)
            return keras.Model(features, classifier(x, params))
        [block] = MixnetDecoder.decode([text])
        x = keras.Input((int(size), int(size), block.input_filters))
        return keras.Model(x, mixnet_block(x, block, params, "block_0"))


def _read(path):
    table = read_json(path)
    if not isinstance(table, dict) or not all(isinstance(value, int | float) for value in table.values()):
        raise InputError(f"{path}: expected a JSON object of milliseconds by block, received {table!r:.60}.")
    return dict(table)
