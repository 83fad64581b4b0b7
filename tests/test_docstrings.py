import doctest
import importlib
import pathlib
import pkgutil
import re

import pytest

import mixnet_tf

MODULES = [m.name for m in pkgutil.walk_packages(mixnet_tf.__path__, "mixnet_tf.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_docstrings_run(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(module) for module in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 5


def test_every_test_that_the_fidelity_table_names_exists():
    root = pathlib.Path(__file__).parent
    table = (root.parent / "docs" / "FIDELITY.md").read_text()
    pinned, file = [], None
    for file_name, name in re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", table):
        file = file_name or file  # a name alone stands in the same file as the one before it
        pinned.append((file, name))
    assert len(pinned) > 40
    text = {path.name: path.read_text() for path in root.rglob("test_*.py")}
    assert [pin for pin in pinned if f"def {pin[1]}(" not in text[pin[0]]] == []
