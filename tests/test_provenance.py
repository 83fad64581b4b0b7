"""The provenance of figures."""

import sys

import pytest

from mixnet_tf.provenance import provenance


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["eval.py", "--model_dir=a b"], "python eval.py '--model_dir=a b'"),
        ([""], "python"),  # a Python prompt
        ([], "python"),  # embedded in another program
        (["-c", "x"], "python -c x"),
    ],
)
def test_the_command_is_that_of_the_process_also_of_a_prompt(argv, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert provenance()["command"] == command
