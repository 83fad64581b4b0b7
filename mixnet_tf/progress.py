"""The callback to which long work reports its progress."""

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Phase(Protocol):
    """The progress of one phase of work."""

    def update(self, done: int, words: str = "") -> None:
        """Reports that `done` units are done; `words` are shown beside the count."""

    def advance(self) -> None:
        """Reports that one more unit is done."""

    def describe(self, words: str) -> None:
        """Reports the current work, in words beside the count."""


class Progress(Protocol):
    """A callback that shows a phase of work while a `with` block runs."""

    def __call__(
        self, name: str, total: int | None = None, unit: str = "", first: int = 0, draws_itself: bool = False
    ) -> contextlib.AbstractContextManager[Phase]:
        """Begins a phase.

        Args:
            name: Name of the phase, such as "Training".
            total: Units of work; None if they are not counted.
            unit: Name of the units, such as "steps".
            first: Units that were done before.
            draws_itself: Whether the work draws its own progress bars on a terminal.
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
    """A `Progress` that shows nothing."""
    yield _Unseen()
