"""Signals that ask a run to stop, and the exit codes that a supervisor acts on."""

import contextlib
import os
import signal
import threading

from absl import logging

RESTART_ME = 75  # EX_TEMPFAIL of sysexits.h: saved, start the same command again
INTERRUPTED = 128 + signal.SIGINT  # as shells have it: saved, but a person wants it to stop


# SIGHUP says that the terminal is gone; Windows has none.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


class Interruption:
    """Within its `with` block SIGTERM, SIGINT and SIGHUP set `requested`; a second one leaves at once.

    A SIGHUP that is ignored already, as nohup has it, stays ignored. Python lets the main thread alone handle signals:
    in another one nothing is requested.

    Attributes:
        requested: The number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.requested: int | None = None

    def __enter__(self):
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number in (signal.SIGTERM, signal.SIGINT) or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        del frame
        if self.requested is not None:
            os._exit(128 + number)
        self.requested = number
        # Python cannot print where the signal came amid a print, nor to a terminal that is gone.
        with contextlib.suppress(RuntimeError, OSError):
            logging.warning(f"{signal.Signals(number).name}: saving; a second signal leaves at once.")
