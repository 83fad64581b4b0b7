"""Flags made from the fields of a settings class, and flags for paths."""

import os
from collections.abc import Iterable
from typing import Any

from absl import flags

from mixnet_tf.settings import fields


def define(settings_class: type, names: Iterable[str] | None = None, **defaults: Any) -> None:
    """Defines a flag for each field of a settings class: its name, words, bounds and default.

    Args:
        settings_class: A class whose fields have a `mixnet_tf.settings.Setting`.
        names: The fields that get a flag; None: all that have a `Setting`.
        **defaults: Defaults that differ from the field's. A flag without either is required.
    """
    own = getattr(settings_class, "_field_defaults", {})
    found = fields(settings_class)
    for name in found if names is None else names:
        field = found[name]
        words, choices = field.setting.words, field.setting.choices
        default = defaults.get(name, own.get(name))
        required = name not in defaults and name not in own
        if field.kind is tuple:
            default = None if default is None else list(default)
            some_of = f" Some of: {', '.join(choices)}." if choices else ""
            flags.DEFINE_list(name, default, words + some_of, required=required)
        elif choices is not None:
            flags.DEFINE_enum(name, default, choices, words, required=required)
        elif field.setting.is_path:
            define_path(name, default, words, required)
        else:
            kinds: dict[type, Any] = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}
            kinds.get(field.kind, flags.DEFINE_string)(name, default, words, required=required)
        flags.register_validator(name, lambda v, ok=field.accepts: v is None or ok(v), f"expected {field.expected}")


def flag_values(names: Iterable[str]) -> dict[str, Any]:
    """The values of flags by their names, lists as tuples."""
    values = {name: flags.FLAGS[name].value for name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


class _PathParser(flags.ArgumentParser):
    """Parses a path and expands a leading ~, which a shell does only at the beginning of a word."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return "string"


class _PathsParser(flags.ListParser):
    """Parses comma-separated paths."""

    def parse(self, argument: Any) -> list[str]:
        return [os.path.expanduser(path) for path in super().parse(argument)]


def define_path(name: str, default: str | None, text: str, required: bool = False) -> None:
    """Defines a flag for a path; a leading ~ is expanded."""
    flags.DEFINE(_PathParser(), name, default, text, required=required)


def define_paths(name: str, text: str) -> None:
    """Defines a flag for comma-separated paths, without a default."""
    flags.DEFINE(_PathsParser(), name, None, text, serializer=flags.ListSerializer(","))
