"""Runs the scripts as a person would, in this process, or in one of their own."""

import contextlib
import io
import os
import pathlib
import runpy
import subprocess
import sys
import types

from absl import flags

ROOT = pathlib.Path(__file__).parent.parent
_BEFORE = set(flags.FLAGS)


def run(capfd, script, *arguments):
    """Runs a script, or as "-m name" a module, in this process; (exit code, standard output, standard error)."""
    for name in set(flags.FLAGS) - _BEFORE - {"pdb_post_mortem"}:
        if flags.FLAGS.find_module_defining_flag(name, "").startswith(("absl", "tensorflow")):
            continue
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    argv, path = sys.argv, list(sys.path)
    is_module = script.startswith("-m ") if isinstance(script, str) else False
    sys.argv = [str(ROOT / script), *map(str, arguments)]
    capfd.readouterr()
    try:
        if is_module:
            runpy.run_module(script.removeprefix("-m "), run_name="__main__")
        else:
            sys.path.insert(0, str((ROOT / script).parent))  # as Python does
            runpy.run_path(str(ROOT / script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    finally:
        sys.argv, sys.path[:] = argv, path
    return (code, *capfd.readouterr())


@contextlib.contextmanager
def printed():
    """For `run` in a fixture of a module, which has no capfd: what Python prints in the `with` block."""

    def readouterr():
        found = [stream.getvalue() for stream in (out, err)]
        for stream in (out, err):
            stream.seek(0)
            stream.truncate()
        return found

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        yield types.SimpleNamespace(readouterr=readouterr)


def process(script, *arguments, cwd=None, timeout=600, **environment):
    """Runs a script as a process of its own; a `subprocess.CompletedProcess`."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
