"""Masks passwords in addresses such as postgresql://user:password@host/database."""

import re

# As much as may belong to a password: up to the last @. In a text, an address ends at a space.
_IN_TEXT = re.compile(r"(://[^\s:/@?#]*:)\S*@")
_IN_ADDRESS = re.compile(r"(://[^\s:/@?#]*:).*@", re.DOTALL)
_IN_QUERY = re.compile(r"([?&]\w*(?:passw|pwd|secret|token)\w*=)[^&\s'\"]*", re.IGNORECASE)
_MASK = r"\1***"


def masked(text: str, is_address: bool = False) -> str:
    """Replaces the passwords of the addresses in a text by ***.

    Args:
        text: The text.
        is_address: Whether the whole text is one address or one argument of a command, so that a password may have
            spaces.
    """
    pattern = _IN_ADDRESS if is_address else _IN_TEXT
    return _IN_QUERY.sub(_MASK, pattern.sub(_MASK + "@", text))
