"""Signals that ask a run to stop, and the exit codes that a supervisor acts on."""

import contextlib
import os
import signal

from absl import logging

RESTART_ME = 75  # EX_TEMPFAIL of sysexits.h: saved, start the same command again
INTERRUPTED = 128 + signal.SIGINT  # as shells have it: saved, but a person wants it to stop


class Interruption:
    """Within its `with` block SIGTERM and SIGINT set `requested`; a second one leaves at once.

    Attributes:
        requested: The number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.requested = None

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        del frame
        if self.requested is not None:
            os._exit(128 + number)
        self.requested = number
        with contextlib.suppress(RuntimeError):  # Python cannot print where the signal came amid a print
            logging.warning(f"{signal.Signals(number).name}: saving; a second signal leaves at once.")
