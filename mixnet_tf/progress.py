"""The callback by which long work reports its progress."""

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Phase(Protocol):
    """How far a phase of work is."""

    def update(self, done: int, words: str = "") -> None:
        """Notes that `done` of the phase's units are done, and `words` to show beside the count."""

    def advance(self) -> None:
        """Notes that one more unit is done."""

    def describe(self, words: str) -> None:
        """Notes what is done just now, beside the count."""


class Progress(Protocol):
    """A callback that shows a phase of work while a `with` block runs."""

    def __call__(
        self, name: str, total: int | None = None, unit: str = "", first: int = 0, draws_itself: bool = False
    ) -> contextlib.AbstractContextManager[Phase]:
        """Begins a phase.

        Args:
            name: What is done, such as "Training".
            total: Units of work; None where they are not counted.
            unit: What is counted, such as "steps".
            first: Units done before.
            draws_itself: Whether the work has bars of its own on a terminal.
        """


class _Unseen:
    def update(self, done: int, words: str = "") -> None:
        pass

    def advance(self) -> None:
        pass

    def describe(self, words: str) -> None:
        pass


@contextlib.contextmanager
def silent(
    name: str, total: int | None = None, unit: str = "", first: int = 0, draws_itself: bool = False
) -> Iterator[Phase]:
    """The `Progress` that shows nothing."""
    yield _Unseen()
