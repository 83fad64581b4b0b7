"""Signals that stop a run, and the exit codes for a supervisor."""

import contextlib
import os
import signal
import threading

from absl import logging

RESTART_ME = 75  # EX_TEMPFAIL of sysexits.h: saved, run the same command again
INTERRUPTED = 128 + signal.SIGINT  # as in shells: saved, but stopped by a person


# SIGHUP means that the terminal was closed; Windows does not have it.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


class Interruption:
    """Within its `with` block, SIGTERM, SIGINT and SIGHUP set `requested`; a second signal exits at once.

    If SIGHUP is ignored already, as by nohup, it stays ignored. Python handles signals in the main thread only; in
    other threads nothing is requested.

    Attributes:
        requested: The number of the signal that was received, or None.
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
        # Python cannot print if the signal interrupted a print, or if the terminal was closed.
        with contextlib.suppress(RuntimeError, OSError):
            logging.warning(f"{signal.Signals(number).name}: saving; a second signal leaves at once.")
