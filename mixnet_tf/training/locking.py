"""A lock that allows one run at a time in a folder; the system releases it however the process ends."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from absl import logging

from mixnet_tf.errors import InputError
from mixnet_tf.files import StrPath, is_remote

try:
    import fcntl
except ImportError:  # Windows does not have it
    fcntl: Any = None  # type: ignore[no-redef]

LOCK = ".lock"


@contextlib.contextmanager
def only_run_in(model_dir: StrPath) -> Iterator[None]:
    """Within its `with` block, another process or thread that enters one for the same folder is refused.

    If the file system has no locks, as on remote storage, a log line says that nothing was checked.

    Args:
        model_dir: The run's folder; it is created.

    Raises:
        ValueError: If another run uses the folder.
    """
    if fcntl is None or is_remote(model_dir):
        _say_not_checked(model_dir)
        yield
        return
    os.makedirs(model_dir, exist_ok=True)
    descriptor = os.open(os.path.join(model_dir, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor, model_dir)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor, model_dir):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip() or "another process"
        raise InputError(
            f"model_dir: {model_dir} is in use by {holder}, which trains there; wait until it ends, or name another "
            "model_dir."
        ) from error
    except OSError:
        _say_not_checked(model_dir)
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _say_not_checked(model_dir):
    logging.info(
        f"{model_dir}: whether another process trains there was not checked, because its file system has no locks."
    )
