"""Errors of what a person gave: the scripts show their text alone, where any other error shows a traceback."""


class InputError(ValueError):
    """What was given cannot be used; the text says what was received, what is allowed and what to do."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that was named is not there."""


class MissingPackageError(InputError, ImportError):
    """An optional package is needed and not installed; the text has the command."""


def is_count(value: object) -> bool:
    """Whether `value` is a whole number from 1; True is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
