"""How matplotlib draws the words of figures."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def plain_words() -> Iterator[None]:
    """Within its `with` block words are drawn as they stand: matplotlib takes what is between two $ for a formula."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield
