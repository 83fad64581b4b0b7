"""Feature maps in channel groups that are kept apart for as long as that is free."""

import itertools

import numpy as np
import tensorflow as tf

_MOST_TO_CONCAT = 5  # XNNPACK takes a CONCATENATION of up to 5 tensors


class Maps:
    """A (batch, ..., channels) tensor of the graph, held as the pieces that computed it.

    Args:
        channels: How many there are.
        emit: A function from the edges wanted (a set of channel indices) to a list of tensors that stand side by side
            and have an edge at each of them. It is called once, when someone first needs the values, so that a
            convolution can be emitted in the groups that its consumer takes.
        units: (channels,), what a 1 in each channel's tensor stands for; None: 1.

    Attributes:
        scope: Name of the ops that emit it, by which the quantizer chooses them.
    """

    def __init__(self, channels, emit, units=None):
        self.channels = channels
        self.scope = "maps"
        self.units = np.ones(channels) if units is None else units
        self._emit = emit
        self._tensors = None  # (first channel, end) -> tensor, the pieces and whatever was made of them
        self._edges = None

    @classmethod
    def of(cls, tensor):
        """A tensor in one piece."""
        return cls(tensor.shape[-1], lambda edges: [tensor]).emitted()

    def emitted(self, edges=()):
        """Itself, emitted with these edges and cut at those it lacks."""
        if self._tensors is None:
            with tf.name_scope(f"{self.scope}/"):  # the slash: not inside another's
                tensors = self._emit(set(edges))
            self._edges = edges_of([tensor.shape[-1] for tensor in tensors])
            self._tensors = dict(zip(itertools.pairwise(self._edges), tensors, strict=True))
        lacking = set(edges) - set(self._edges)
        if lacking:
            before, self._edges = self._edges, sorted(lacking.union(self._edges))
            for start, end in itertools.pairwise(self._edges):
                if (start, end) not in self._tensors:
                    outer = next(pair for pair in itertools.pairwise(before) if pair[0] <= start and end <= pair[1])
                    self._tensors[start, end] = self._tensors[outer][..., start - outer[0] : end - outer[0]]
        return self

    @property
    def is_emitted(self):
        """Whether someone has read the values."""
        return self._tensors is not None

    @property
    def edges(self):
        """First channel of each piece, and the end; emits it whole where it is not emitted yet."""
        return list(self.emitted()._edges)

    def pieces(self, edges=()):
        """The tensors side by side, with at least these edges."""
        self.emitted(edges)
        return [self._tensors[pair] for pair in itertools.pairwise(self._edges)]

    def groups(self, edges):
        """The tensors between exactly these edges; pieces that lie between two of them are concatenated."""
        self.emitted(edges)
        for start, end in itertools.pairwise(edges):
            if (start, end) not in self._tensors:
                inside = [pair for pair in itertools.pairwise(self._edges) if start <= pair[0] and pair[1] <= end]
                self._tensors[start, end] = concat([self._tensors[pair] for pair in inside])
        return [self._tensors[pair] for pair in itertools.pairwise(edges)]

    def whole(self):
        """One tensor."""
        return self.groups([0, self.channels])[0]

    @property
    def is_plain(self):
        """Whether every unit is 1."""
        return bool(np.all(self.units == 1))

    def plain(self):
        """In units of 1."""
        if self.is_plain:
            return self

        def emit(edges):
            tensors = self.pieces(edges)
            bounds = itertools.pairwise(self.edges)
            return [x * self.units[a:b].astype(np.float32) for x, (a, b) in zip(tensors, bounds, strict=True)]

        return Maps(self.channels, emit)


def edges_of(sizes):
    """First channel of each group, and the end."""
    return list(itertools.accumulate(sizes, initial=0))


def concat(tensors):
    """Side by side along the channels, by concatenations that XNNPACK takes."""
    while len(tensors) > 1:
        chunks = [tensors[i : i + _MOST_TO_CONCAT] for i in range(0, len(tensors), _MOST_TO_CONCAT)]
        tensors = [tf.concat(chunk, -1) if len(chunk) > 1 else chunk[0] for chunk in chunks]
    return tensors[0]
