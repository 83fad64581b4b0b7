"""Errors of what a person gave: the scripts show their text alone, where any other error shows a traceback."""

import importlib
import numbers
from typing import TypeGuard


class InputError(ValueError):
    """What was given cannot be used; the text says what was received, what is allowed and what to do."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that was named is not there."""


class MissingPackageError(InputError, ImportError):
    """An optional package is needed and not installed; the text has the command."""


def require_package(package: str, title: str, what: str, extra: str) -> None:
    """Raises a `MissingPackageError` where an optional package cannot be imported.

    Args:
        package: As it is imported.
        title: As it is called.
        what: What needs it, the beginning of the message.
        extra: Of ours, which installs it.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(f"{what} needs {title}: pip install 'mixnet_tf[{extra}]'.") from error


def first_line(error: object) -> str:
    """The first line of an error's text, or the name of its class if it has no text; a text stands for itself."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_count(value: object) -> TypeGuard[int]:
    """Whether `value` is a whole number from 1, Python's or numpy's; True is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1
