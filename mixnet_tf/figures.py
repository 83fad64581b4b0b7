"""Text in matplotlib figures."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def plain_words() -> Iterator[None]:
    """Within its `with` block, text is drawn literally; matplotlib would draw text between two $ as a formula."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield
