"""Passwords in addresses, such as postgresql://user:password@host/database, which are neither written nor printed."""

import re

# As much as can belong to a password: up to the last @. In a text an address ends where a space is.
_IN_TEXT = re.compile(r"(://[^\s:/@?#]*:)\S*@")
_IN_ADDRESS = re.compile(r"(://[^\s:/@?#]*:).*@", re.DOTALL)
_IN_QUERY = re.compile(r"([?&]\w*(?:passw|pwd|secret|token)\w*=)[^&\s'\"]*", re.IGNORECASE)
_MASK = r"\1***"


def masked(text: str, is_address: bool = False) -> str:
    """A text with *** in place of the passwords of the addresses in it.

    Args:
        text: The text.
        is_address: Whether it is an address, or one argument of a command, as a whole: then a password may have spaces.
    """
    pattern = _IN_ADDRESS if is_address else _IN_TEXT
    return _IN_QUERY.sub(_MASK, pattern.sub(_MASK + "@", text))
