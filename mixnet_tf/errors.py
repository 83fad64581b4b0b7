"""Errors in a user's input. The scripts print only their message; any other error shows a traceback."""

import importlib
import numbers
from typing import TypeGuard


class InputError(ValueError):
    """Bad input; the message says what was received, what is allowed and what to do."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder does not exist."""


class MissingPackageError(InputError, ImportError):
    """An optional package is needed but not installed; the message has the command that installs it."""


def require_package(package: str, title: str, what: str, extra: str) -> None:
    """Raises a `MissingPackageError` if an optional package cannot be imported.

    Args:
        package: Name of the module to import.
        title: Name of the package in the message.
        what: What needs the package; the beginning of the message.
        extra: Our extra that installs the package.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(f"{what} needs {title}: pip install 'mixnet_tf[{extra}]'.") from error


def first_line(error: object) -> str:
    """The first line of an error's message, or of a string; the error's class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_count(value: object) -> TypeGuard[int]:
    """Whether `value` is a Python or numpy integer from 1; True is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1
