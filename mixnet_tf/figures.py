"""Figures by matplotlib, which needs no screen for them: their text, and their PNG file."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any


def new_figure(**options: Any) -> Any:
    """A `matplotlib.figure.Figure` of these options, apart from pyplot and its windows."""
    from matplotlib.figure import Figure

    return Figure(**options)


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """Within its `with` block, text is drawn literally; matplotlib would draw text between two $ as a formula."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def png(figure: Any) -> bytes:
    """The content of a figure's PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
