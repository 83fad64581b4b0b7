"""The meaning of a choice for each channel of a block: tables of all alternatives, and the masks of one."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mixnet_tf.networks import BlockArgs, GlobalParams, split_channels


class BlockOptions(NamedTuple):
    """The alternatives of one block of a supernet.

    Attributes:
        block: The largest block, from `unroll`.
        repeat: Number of the block in its stage, from 0.
        values: Dict from a field of `BlockArgs` to its values; a single value if there are no alternatives.
        places: Dict from a field with alternatives to its index in a choice.
    """

    block: BlockArgs
    repeat: int
    values: dict[str, tuple]
    places: dict[str, int]


class Tables:
    """The meaning of each index of a choice for each channel of a block, as numpy arrays.

    Args:
        options: The block's `BlockOptions`.
        params: The `GlobalParams` of the space.

    Attributes:
        kept: bool (expansions, channels).
        kernel_sizes: int32 (expansions, kernels, channels); 0 where a channel is not kept.
        expanded_groups: int32 (expansions, groups of a, channels); -1 where a channel is not kept.
        input_groups: int32 (groups of a, input filters).
        project_groups: int32 (expansions, groups of p, channels); -1 where a channel is not kept.
        output_groups: int32 (groups of p, output filters).
        hidden: int32 (ratios,), channels of squeeze-and-excitation; 0 without it.
        repeats: int32 (repeats,), alternatives of the number of repeats.
        runs: (first channel, end, largest kernel size) of neighboring channels with the same largest kernel size.
    """

    def __init__(self, options: BlockOptions, params: GlobalParams) -> None:
        block, values = options.block, options.values
        channels = block.expanded_filters
        counts = [block.input_filters * ratio for ratio in values["expand_ratio"]]
        place = np.arange(channels)
        self.kept = np.stack([(place + 1) * count // channels > place * count // channels for count in counts])
        sizes = [
            [
                np.repeat(kernels, split_channels(count, len(kernels), params.partition))
                for kernels in values["dw_ksize"]
            ]
            for count in counts
        ]
        self.kernel_sizes = self._spread(sizes, 0)
        self.expanded_groups = self._spread([[_ids(n, len(a)) for a in values["expand_ksize"]] for n in counts], -1)
        self.project_groups = self._spread([[_ids(n, len(p)) for p in values["project_ksize"]] for n in counts], -1)
        self.input_groups = np.stack([_ids(block.input_filters, len(a)) for a in values["expand_ksize"]])
        self.output_groups = np.stack([_ids(block.output_filters, len(p)) for p in values["project_ksize"]])
        self.hidden = np.array(
            [block._replace(se_ratio=ratio).se_filters or 0 for ratio in values["se_ratio"]], np.int32
        )
        self.repeats = np.array(values["num_repeat"], np.int32)
        largest = self.kernel_sizes.max((0, 1))
        edges = [0, *(np.flatnonzero(np.diff(largest)) + 1), channels]
        self.runs = [(int(a), int(b), int(largest[a])) for a, b in zip(edges, edges[1:], strict=False)]

    def _spread(self, of_kept, otherwise):
        """Puts values of the kept channels, by expansion and alternative, at the positions of these channels."""
        spread = np.full((len(of_kept), len(of_kept[0]), self.kept.shape[1]), otherwise, np.int32)
        for expansion, by_alternative in enumerate(of_kept):
            for alternative, values in enumerate(by_alternative):
                spread[expansion, alternative, self.kept[expansion]] = values
        return spread


def _ids(channels, groups):
    return np.repeat(np.arange(groups, dtype=np.int32), split_channels(channels, groups))


class Masks:
    """The masks of a choice, as tensors of 0 and 1.

    Args:
        options: The block's `BlockOptions`.
        tables: Its `Tables`.
        choice: int32 (alternatives,).
        dtype: Dtype of the masks.
    """

    def __init__(self, options: BlockOptions, tables: Tables, choice: tf.Tensor, dtype: str) -> None:
        self._options, self._tables, self._choice, self._dtype = options, tables, choice, dtype

    def _place(self, field):
        place = self._options.places.get(field)
        return tf.constant(0) if place is None else self._choice[place]

    def _row(self, table, *fields):
        return tf.gather_nd(tf.constant(table), [self._place(field) for field in fields])

    def kept(self) -> tf.Tensor:
        """(channels,): 1 for each channel that is kept."""
        return tf.cast(self._row(self._tables.kept, "expand_ratio"), self._dtype)

    def expand_mask(self) -> tf.Tensor:
        """(input filters, channels)."""
        rows = self._row(self._tables.input_groups, "expand_ksize")
        columns = self._row(self._tables.expanded_groups, "expand_ratio", "expand_ksize")
        return tf.cast(rows[:, tf.newaxis] == columns, self._dtype)

    def depthwise_mask(self, first: int, end: int, taps: int) -> tf.Tensor:
        """(taps, taps, channels of the run, 1)."""
        sizes = self._row(self._tables.kernel_sizes, "expand_ratio", "dw_ksize")[first:end, tf.newaxis]
        offsets = np.abs(np.arange(taps) - taps // 2)
        needed = 2 * np.maximum(offsets[:, np.newaxis], offsets) + 1  # the kernel size that reaches each tap
        return tf.cast(tf.constant(needed[..., np.newaxis, np.newaxis], tf.int32) <= sizes, self._dtype)

    def hidden_mask(self) -> tf.Tensor:
        """(channels of squeeze-and-excitation,)."""
        most = int(self._tables.hidden.max())
        return tf.cast(tf.range(most) < self._row(self._tables.hidden, "se_ratio"), self._dtype)

    def has_gate(self) -> tf.Tensor:
        """Whether there is squeeze-and-excitation."""
        return self._row(self._tables.hidden, "se_ratio") > 0

    def project_mask(self) -> tf.Tensor:
        """(channels, output filters)."""
        rows = self._row(self._tables.project_groups, "expand_ratio", "project_ksize")
        columns = self._row(self._tables.output_groups, "project_ksize")
        return tf.cast(rows[:, tf.newaxis] == columns, self._dtype)

    def is_in(self) -> tf.Tensor:
        """Whether the network has the block."""
        return self._options.repeat < self._row(self._tables.repeats, "num_repeat")
