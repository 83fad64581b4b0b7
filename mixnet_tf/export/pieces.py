"""A tensor of the inference graph as adjacent channel groups, cut and joined as its readers need."""

import itertools
from collections.abc import Iterable

import tensorflow as tf

_MAX_TO_CONCAT = 5  # largest number of tensors in a CONCATENATION of XNNPACK


def edges_of(sizes: Iterable[int]) -> list[int]:
    """The first channel of each group, and the end."""
    return list(itertools.accumulate(sizes, initial=0))


class Pieces:
    """Adjacent tensors along the channels.

    Each slice or concatenation is made once for all readers that need it.

    Args:
        tensors: (batch, ..., channels of the group) each.
    """

    def __init__(self, tensors: list[tf.Tensor]) -> None:
        self._edges = edges_of(tensor.shape[-1] for tensor in tensors)
        self._tensors = dict(zip(itertools.pairwise(self._edges), tensors, strict=True))  # (first channel, end): tensor

    @property
    def edges(self) -> list[int]:
        """The first channel of each piece, and the end."""
        return list(self._edges)

    def cut(self, edges: Iterable[int] = ()) -> list[tf.Tensor]:
        """The tensors, cut at least at these edges."""
        before, self._edges = self._edges, sorted({*edges, *self._edges})
        for start, end in itertools.pairwise(self._edges):
            if (start, end) not in self._tensors:
                outer = next(pair for pair in itertools.pairwise(before) if pair[0] <= start and end <= pair[1])
                self._tensors[start, end] = self._tensors[outer][..., start - outer[0] : end - outer[0]]
        return [self._tensors[pair] for pair in itertools.pairwise(self._edges)]

    def groups(self, edges: list[int]) -> list[tf.Tensor]:
        """The tensors between exactly these edges; pieces between two edges are concatenated."""
        self.cut(edges)
        for start, end in itertools.pairwise(edges):
            if (start, end) not in self._tensors:
                inside = [pair for pair in itertools.pairwise(self._edges) if start <= pair[0] and pair[1] <= end]
                self._tensors[start, end] = concat([self._tensors[pair] for pair in inside])
        return [self._tensors[pair] for pair in itertools.pairwise(edges)]

    def whole(self) -> tf.Tensor:
        """All pieces as one tensor."""
        return self.groups([0, self._edges[-1]])[0]


def concat(tensors: list[tf.Tensor], axis: int = -1) -> tf.Tensor:
    """Concatenates along the channels, or another axis, with ops that XNNPACK supports."""
    while len(tensors) > 1:
        chunks = [tensors[i : i + _MAX_TO_CONCAT] for i in range(0, len(tensors), _MAX_TO_CONCAT)]
        tensors = [tf.concat(chunk, axis) if len(chunk) > 1 else chunk[0] for chunk in chunks]
    return tensors[0]
