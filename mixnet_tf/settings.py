"""Settings whose words and bounds are written once, at the field; docstrings, flags and errors take them from there."""

import math
import numbers
import types
import typing
from typing import Any, NamedTuple, TypeVar

from mixnet_tf.errors import InputError

_Class = TypeVar("_Class", bound=type)


class Setting(NamedTuple):
    """The words and bounds of a field of a settings class, which `typing.Annotated` adds to the field's type.

    Attributes:
        words: What the field is: its line in the docstring and the help text of its flag.
        least: The smallest value allowed; None: no bound.
        most: The largest value allowed; None: no bound.
        above: The value has to be larger than this; None: no bound.
        below: The value has to be smaller than this; None: no bound.
        choices: The values allowed; None: all within the bounds.
        is_path: Whether the value is the path of a file or folder; its flag expands a leading `~`.

    Example:
        >>> import typing
        >>> from mixnet_tf.settings import Setting, check, documented
        >>> @documented
        ... class Run(typing.NamedTuple):
        ...     '''How long to train.'''
        ...     steps: typing.Annotated[int, Setting("Steps of the run.", least=1)] = 10
        >>> check(Run(steps=0))
        Traceback (most recent call last):
        mixnet_tf.errors.InputError: steps: expected a whole number from 1; received 0.
    """

    words: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    is_path: bool = False


class Field(NamedTuple):
    """A field of a settings class: its name, type and `Setting`.

    Attributes:
        name: The field's name.
        kind: Type of its values, without None: bool, int, float, str, tuple, or another class.
        is_optional: Whether None is allowed.
        setting: Its `Setting`.
    """

    name: str
    kind: type
    is_optional: bool
    setting: Setting

    @property
    def expected(self) -> str:
        """What is allowed, in words, such as "a number from 0 to below 1"."""
        setting = self.setting
        if setting.choices is not None:
            return f"some of {list(setting.choices)}, each once" if self.kind is tuple else f"one of {setting.choices}"
        if self.kind is bool:
            return "true or false"
        if self.kind is tuple:
            return "a list of names, each once"
        kind = {int: "a whole number", float: "a number", str: "a text"}.get(self.kind, f"a {self.kind.__name__}")
        low = f" from {setting.least:g}" if setting.least is not None else ""
        high = f" to below {setting.below:g}" if setting.below is not None else ""
        if setting.most is not None:
            high = f" to {setting.most:g}"
        if setting.above is not None:
            low = f" above {setting.above:g}"
            high = high.replace(" to below", " and below").replace(" to ", ", up to ")
        return kind + low + high

    def accepts(self, value: object) -> bool:
        """Whether a value has the field's type and lies within its bounds; numpy's numbers count as Python's."""
        if value is None:
            return self.is_optional
        setting = self.setting
        if self.kind is tuple:
            chosen = list(value) if isinstance(value, tuple | list) else []
            allowed = setting.choices or chosen
            return bool(chosen) and len(set(chosen)) == len(chosen) and all(item in allowed for item in chosen)
        if setting.choices is not None:
            return value in setting.choices
        if self.kind not in (int, float):
            return isinstance(value, self.kind)
        kind = numbers.Integral if self.kind is int else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        value = float(value)
        return (
            math.isfinite(value)
            and (setting.least is None or value >= setting.least)
            and (setting.most is None or value <= setting.most)
            and (setting.above is None or value > setting.above)
            and (setting.below is None or value < setting.below)
        )


def fields(settings_class: Any) -> dict[str, Field]:
    """The fields of a settings class that have a `Setting`, by name."""
    found = {}
    for name, hint in typing.get_type_hints(settings_class, include_extras=True).items():
        setting = next((note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Setting)), None)
        if setting is not None:
            found[name] = _field(name, typing.get_args(hint)[0], setting)
    return found


def _field(name, hint, setting):
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if is_union else (hint,)
    kind = next(member for member in members if member is not types.NoneType)
    return Field(name, typing.get_origin(kind) or kind, types.NoneType in members, setting)


def check(settings: Any) -> None:
    """Checks each field of a settings object that has a `Setting`.

    Raises:
        ValueError: For the first value that its field does not accept; the message names the field, what was received
            and what is allowed.
    """
    for name, field in fields(type(settings)).items():
        value = getattr(settings, name)
        if not field.accepts(value):
            raise InputError(f"{name}: expected {field.expected}; received {value!r}.")


def documented(settings_class: _Class) -> _Class:
    """A class decorator that writes the fields' words into the docstring, as its section "Attributes"."""
    lines = [f"        {name}: {field.setting.words}" for name, field in fields(settings_class).items()]
    settings_class.__doc__ = "\n".join([(settings_class.__doc__ or "").rstrip(), "", "    Attributes:", *lines, ""])
    return settings_class
