"""Class names: checks them, shows them, and matches a dataset's classes with a model's."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mixnet_tf.errors import InputError

NOT_COMPARED = "class names not compared"
_SHOWN = 20  # names listed in a message


def checked_names(names: Iterable[str], source: str, classes: int | None = None) -> tuple[str, ...]:
    """Checks that each class name can be a line of labels.txt, so that later lines keep their class.

    Args:
        names: The names in the order of the classes.
        source: Origin of the names, the beginning of an error message.
        classes: Number of classes that have to be named; None: any.

    Raises:
        ValueError: If a name is empty or has a line break, or if the number of names is not the number of classes.
    """
    names = tuple(map(str, names))
    if classes is not None and len(names) != classes:
        raise InputError(f"{source}: expected {classes} names, one for each class; received {len(names)}.")
    for number, name in enumerate(names):
        if name.splitlines() != [name] or not name.strip():
            raise InputError(
                f"{source}: class {number} is named {name!r}; expected a name of one line that is not empty, as every "
                "later line of a labels file would stand for another class."
            )
    return names


def shown_names(names: Sequence[Any]) -> tuple[str, ...]:
    """The names as shown to a person: classes that share a name get their number added."""
    names = tuple(map(str, names))
    count = collections.Counter(names)
    return tuple(f"{name} ({number})" if count[name] > 1 else name for number, name in enumerate(names))


class Matching(NamedTuple):
    """How a dataset's classes correspond to a model's.

    Attributes:
        numbers: The model's class for each class of the dataset; None if all are the same.
        notes: Notes to show beside every measurement that uses it.
    """

    numbers: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


def match(
    names: Sequence[str] | None, classes: int, own_names: Sequence[str] | None, own_classes: int, dataset: str
) -> Matching:
    """Finds a dataset's classes among a model's, by name.

    Args:
        names: Names of the model's classes; None: not known.
        classes: The model's number of classes.
        own_names: Names of the dataset's classes; None: not known.
        own_classes: The dataset's number of classes.
        dataset: Name of the dataset in messages.

    Returns:
        A `Matching`. If either side has no names, the numbers of classes have to agree, and a note says that the names
        were not compared. The dataset may lack some of the model's classes; then another note counts them.

    Raises:
        ValueError: If the dataset has a class that the model does not know; if there are no names and the numbers of
            classes differ; or if a name to be found belongs to several classes.
    """
    if names is None or own_names is None:
        if classes != own_classes:
            raise InputError(f"The model has {classes} classes, but {dataset} has {own_classes}.")
        return Matching(None, (NOT_COMPARED,))
    names, own_names = tuple(names), tuple(own_names)
    if names == own_names:
        return Matching(None)
    unknown = lacking(own_names, names)
    if unknown:
        absent = lacking(names, own_names)
        raise InputError(
            f"The model does not know {len(unknown)} of the {own_classes} classes of {dataset}: {listed(unknown)}. "
            f"Of the model's {classes} classes the dataset lacks {len(absent)}: {listed(absent) or 'none'}. Rename "
            "the dataset's classes as the model's, or leave out those that it does not know."
        )
    for side, each in (("the model", names), (dataset, own_names)):
        twice = repeated(each)
        if twice:
            raise InputError(
                f"The classes of {dataset} are matched with the model's by name, but in {side} several classes "
                f"are named {listed(twice)}; give each class a name of its own."
            )
    is_whole = len(own_names) == len(names)
    notes = () if is_whole else (f"the dataset has {len(own_names)} of the model's {len(names)} classes",)
    places = {name: number for number, name in enumerate(names)}
    return Matching(tuple(places[name] for name in own_names), notes)


def lacking(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """The names that `others` lacks, in order."""
    known = set(others)
    return [name for name in names if name not in known]


def repeated(values: Iterable[Any]) -> list[Any]:
    """The values that occur more than once, in the order of their first occurrence."""
    return [value for value, count in collections.Counter(values).items() if count > 1]


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more
