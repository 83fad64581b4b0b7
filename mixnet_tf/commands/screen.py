"""The screen of a command: lines, and the progress of each phase of long work."""

import contextlib
import errno
import io
import logging
import os
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from absl import logging as absl_logging
from absl.logging import converter
from tqdm import tqdm

from mixnet_tf.passwords import masked
from mixnet_tf.progress import Phase

_REDRAW = 0.5  # seconds between updates of a terminal's live line
# Elsewhere a line every 10 s for the first two minutes of a phase, then every minute.
_OFTEN, _SELDOM, _AT_FIRST = 10.0, 60.0, 120.0  # seconds
_COUNTED = "{desc}: {n_fmt}/{total_fmt} {unit}{postfix}, {elapsed} elapsed, ETA {remaining}"
_NOT_COUNTED = "{desc}{postfix}, {elapsed} elapsed"


class _Bar:
    """A `progress.Phase` that tqdm's bar shows."""

    def __init__(self, bar):
        self._bar = bar

    def update(self, done, words=""):
        self.describe(words)
        self._bar.update(done - self._bar.n)

    def advance(self):
        self._bar.update(1)

    def describe(self, words):
        if not self._bar.disable:
            self._bar.set_postfix_str(words, refresh=False)

    @property
    def line(self):
        """The phase as a line of text."""
        return str(self._bar)


class Screen:
    """Writes lines, and shows the phases of long work, one at a time.

    On a terminal a phase is one live line. Elsewhere it is a line at its start, from time to time, and at its end.

    Args:
        file: A text file to write to.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._is_terminal = file.isatty()

    def say(self, line: str) -> None:
        """Writes a line without passwords; does nothing if the terminal was closed, so that a run can be saved."""
        line = masked(line)
        if self._is_terminal:
            try:
                tqdm.write(line, file=self._file)  # above the live line, if there is one
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), self._file.fileno())
        else:
            print(line, file=self._file, flush=True)

    @contextlib.contextmanager
    def phase(
        self, name: str, total: int | None = None, unit: str = "", first: int = 0, draws_itself: bool = False
    ) -> Iterator[Phase]:
        """Shows a phase of work while the block runs; this is the `progress.Progress` of a command."""
        name = masked(name)
        common: dict[str, Any] = {"desc": name, "total": total, "initial": first, "unit": unit}
        if self._is_terminal and draws_itself:
            yield _Bar(tqdm(disable=True, **common))
        elif self._is_terminal:
            bar_format = None if total is not None else _NOT_COUNTED
            # Not tqdm's own size, because it draws nothing if a terminal reports no rows and columns.
            columns, rows = shutil.get_terminal_size()
            size: dict[str, Any] = {"ncols": columns, "nrows": rows}
            with tqdm(file=self._file, leave=False, bar_format=bar_format, **size, **common) as bar:
                with _every(lambda _: _REDRAW, bar.refresh):
                    yield _Bar(bar)
        else:
            bar_format = _COUNTED if total is not None else _NOT_COUNTED
            phase = _Bar(tqdm(file=io.StringIO(), bar_format=bar_format, **common))
            self.say(f"{name} ...")
            with _every(lambda elapsed: _OFTEN if elapsed < _AT_FIRST else _SELDOM, lambda: self.say(phase.line)):
                yield phase
            if total is not None:
                self.say(phase.line)


def command_screen() -> Screen:
    """The screen of a command: standard output, with escapes for characters that its encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Screen(sys.stdout)


@contextlib.contextmanager
def shown_log(screen: Screen) -> Iterator[None]:
    """Shows this library's log lines on the screen while the block runs; absl's verbosity decides about others.

    Args:
        screen: A `Screen`.
    """
    logger, verbosity = absl_logging.get_absl_logger(), absl_logging.get_verbosity()
    handlers = [_OurLines(screen), _PassedOn(converter.absl_to_standard(verbosity))]
    propagate, logger.propagate = logger.propagate, False
    # Not the logger's own level, because TensorFlow resets it to the verbosity whenever it saves a model.
    absl_logging.set_verbosity(max(verbosity, absl_logging.INFO))
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.propagate = propagate
        absl_logging.set_verbosity(verbosity)


class _OurLines(logging.Handler):
    """Shows log lines of this package below the level of errors on a screen."""

    _PACKAGE = str(pathlib.Path(__file__).parents[1]) + os.sep

    def __init__(self, screen):
        super().__init__()
        self._screen = screen

    def emit(self, record):
        if record.pathname.startswith(self._PACKAGE) and record.levelno < logging.ERROR:
            self._screen.say(record.getMessage())


class _PassedOn(logging.Handler):
    """Passes log lines of a level to the root logger's handlers: absl's in a script, others in a notebook."""

    def emit(self, record):
        logging.getLogger().callHandlers(record)


@contextlib.contextmanager
def _every(interval, act):
    """Calls `act` from a thread while the block runs, `interval(seconds since the start)` seconds apart."""
    ended, start = threading.Event(), time.monotonic()

    def run():
        while not ended.wait(interval(time.monotonic() - start)):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
