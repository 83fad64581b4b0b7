"""Settings: what a field's bounds accept, how they are said, and the docstring made of them."""

from typing import Annotated, NamedTuple

import numpy as np
import pytest

from mixnet_tf.settings import Setting, check, documented, fields


@documented
class _Example(NamedTuple):
    """An example."""

    count: Annotated[int, Setting("A count.", least=1)] = 1
    share: Annotated[float, Setting("A share.", least=0, below=1)] = 0.5
    factor: Annotated[float, Setting("A factor.", above=0, most=1)] = 0.5
    angle: Annotated[float | None, Setting("An angle.", least=0, most=180)] = None
    kind: Annotated[str, Setting("A kind.", choices=("a", "b"))] = "a"
    formats: Annotated[tuple[str, ...], Setting("Formats.", choices=("x", "y"))] = ("x",)
    flag: Annotated[bool, Setting("A flag.")] = False
    free: int = 0  # no Setting: not checked


@pytest.mark.parametrize(
    "name, expected, good, bad",
    [
        ("count", "a whole number from 1", [1, np.int64(3)], [0, 1.5, True, None, "1"]),
        ("share", "a number from 0 to below 1", [0, 0.999, np.float32(0.5)], [1.0, -0.1, float("nan"), None]),
        ("factor", "a number above 0, up to 1", [1, 1e-9], [0, 1.1]),
        ("angle", "a number from 0 to 180", [None, 0, 180], [181, float("inf"), [1]]),
        ("kind", "one of ('a', 'b')", ["b"], ["c", None, ["a"]]),
        ("formats", "some of ['x', 'y'], each once", [("y",), ["x", "y"]], [(), ("x", "x"), ("z",), "x", None]),
        ("flag", "true or false", [True], [1, None, "yes"]),
    ],
)
def test_a_field_accepts_its_type_within_its_bounds(name, expected, good, bad):
    assert fields(_Example)[name].expected == expected
    for value in good:
        check(_Example()._replace(**{name: value}))
    for value in bad:
        with pytest.raises(ValueError) as error:
            check(_Example()._replace(**{name: value}))
        assert str(error.value) == f"{name}: expected {expected}; received {value!r}."


def test_the_docstring_lists_the_fields_with_their_words():
    assert "An example.\n\n    Attributes:\n        count: A count.\n        share: A share.\n" in _Example.__doc__
    assert "free" not in _Example.__doc__
