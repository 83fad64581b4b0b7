"""Optuna studies in a database that the processes of a search share."""

import contextlib
import re
import time
import urllib.parse
import warnings
from collections.abc import Iterator, Sequence

from mixnet_tf.errors import InputError, MissingPackageError, first_line
from mixnet_tf.passwords import masked

try:
    import optuna
    import sqlalchemy  # Optuna depends on it
except ImportError as error:
    raise MissingPackageError("A search needs Optuna: pip install 'mixnet_tf[search]'.") from error

_TRIES, _PAUSE = 3, 1.0  # attempts to open a storage, and seconds between them
_AT_IN_PASSWORD = re.compile("://[^/@]*@[^/?]*@")
_PASSWORD = re.compile("://[^/@]*?:(.*)@", re.DOTALL)
_HEARTBEAT, _GRACE = 10, 60  # seconds between a trial's heartbeats, and seconds without one until it is tried again

_PATIENCE = 120  # seconds for which a worker waits while another one writes to a file; SQLite's own are 5


def open_study(name: str, storage: str | None, directions: Sequence[str]) -> optuna.Study:
    """Opens or creates a study; the trial of a killed process is tried again a minute later.

    Args:
        name: Name of the study in its storage.
        storage: SQLAlchemy address, such as "sqlite:///search.db"; None: in this process' memory.
        directions: "minimize" for each objective.

    Raises:
        ValueError: If the storage cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with no_experimental_warnings():
        return optuna.create_study(
            study_name=name,
            storage=None if storage is None else _open(storage),
            directions=directions,
            load_if_exists=True,
        )


def sqlite_address(path: str) -> str:
    """The SQLAlchemy address of a study in a file.

    Raises:
        ValueError: If SQLAlchemy has no address for the path.
    """
    # If SQLAlchemy decodes %41, the path has to be quoted.
    for shown in (urllib.parse.quote(path), path):
        address = f"sqlite:///{shown}"
        if sqlalchemy.engine.make_url(address).database == path:
            return address
    raise InputError(f"search_dir: SQLAlchemy cannot open {path}; name another folder, without '?', '%' and '#'.")


@contextlib.contextmanager
def no_experimental_warnings() -> Iterator[None]:
    """Within its `with` block Optuna does not warn that heartbeats and queues are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _open(storage):
    if _AT_IN_PASSWORD.search(storage):
        raise InputError(
            f"storage: {masked(storage, is_address=True)!r} has an @ in its user's name or password; write @ in a "
            "password as %40, : as %3A and / as %2F."
        )
    for left in reversed(range(_TRIES)):
        try:
            return optuna.storages.RDBStorage(
                storage,
                engine_kwargs={"connect_args": {"timeout": _PATIENCE}} if storage.startswith("sqlite") else None,
                heartbeat_interval=_HEARTBEAT,
                grace_period=_GRACE,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
            )
        except Exception as error:  # errors of SQLAlchemy, the database driver, or Optuna
            if not left:
                reason = _without_password(first_line(error), storage)
                raise InputError(f"storage: {masked(storage, is_address=True)!r} cannot be opened: {reason}") from error
            time.sleep(_PAUSE)  # if two processes create its tables at once, one of them fails


def _without_password(reason, storage):
    """An error's message without the password, which a driver may have put in it."""
    if found := _PASSWORD.search(storage):
        for password in filter(None, (found[1], urllib.parse.unquote(found[1]))):
            reason = reason.replace(password, "***")
    return masked(reason)
