"""The names of classes: which may be, how they are shown, and how a dataset's classes become a model's."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mixnet_tf.errors import InputError

NOT_COMPARED = "class names not compared"
_SHOWN = 20  # names in a message


def checked_names(names: Iterable[str], source: str, classes: int | None = None) -> tuple[str, ...]:
    """The names of classes, where each can be a line of a file: readers of labels.txt would lose count of others.

    Args:
        names: In the order of the classes.
        source: Where they are from, the beginning of the message.
        classes: The number of classes, one for each name; None: as many as there are names.

    Raises:
        ValueError: If a name is empty, or holds a line break, or there is another number of names than of classes.
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
    """The names as a person is shown them: with the number of the class where classes share a name."""
    names = tuple(map(str, names))
    count = collections.Counter(names)
    return tuple(f"{name} ({number})" if count[name] > 1 else name for number, name in enumerate(names))


class Matching(NamedTuple):
    """How a dataset's classes are found among a model's.

    Attributes:
        numbers: The model's class for each of the dataset's; None where they are the same.
        notes: What belongs beside a number that rests on it.
    """

    numbers: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


def match(
    names: Sequence[str] | None, classes: int, own_names: Sequence[str] | None, own_classes: int, dataset: str
) -> Matching:
    """Finds a dataset's classes among a model's, by name.

    Args:
        names: Of the model's classes; None: not known.
        classes: The model's number of classes.
        own_names: Of the dataset's classes; None: not known.
        own_classes: The dataset's number of classes.
        dataset: What messages call the dataset.

    Returns:
        A `Matching`. Where either side has no names their numbers have to agree, and a note says that nothing was
        compared. A dataset may lack some of the model's classes, which another note counts.

    Raises:
        ValueError: If the dataset has a class that the model does not know, or another number of classes where there
            are no names; or if a name that has to be found stands for several classes.
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
                f"The classes of {dataset} are to be found among the model's by name, but in {side} several classes "
                f"are named {listed(twice)}; give each class a name of its own."
            )
    is_whole = len(own_names) == len(names)
    notes = () if is_whole else (f"the dataset has {len(own_names)} of the model's {len(names)} classes",)
    places = {name: number for number, name in enumerate(names)}
    return Matching(tuple(places[name] for name in own_names), notes)


def lacking(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """The names, in their order, that others do not have."""
    known = set(others)
    return [name for name in names if name not in known]


def repeated(values: Iterable[Any]) -> list[Any]:
    """The values that occur more than once, in the order in which they come up."""
    return [value for value, count in collections.Counter(values).items() if count > 1]


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
