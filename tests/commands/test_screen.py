"""What a command shows while it works, on a terminal and elsewhere, and what it keeps off the screen."""

import io
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from absl import logging
from scripts import ROOT

import mixnet_launch
from mixnet_tf.commands import screen
from mixnet_tf.commands.screen import Screen
from mixnet_tf.progress import silent
from mixnet_tf.training.interruption import Interruption


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def soon(monkeypatch):
    """Lines come a hundred times as often."""
    for name in ("_REDRAW", "_OFTEN", "_SELDOM", "_AT_FIRST"):
        monkeypatch.setattr(screen, name, getattr(screen, name) / 100)


def test_a_phase_is_a_line_at_its_start_some_between_and_one_at_its_end(soon):
    file = io.StringIO()
    shown = Screen(file)
    with shown.phase("Training", 8, "steps") as phase:
        phase.describe("compiling the first step")
        time.sleep(0.15)
        phase.update(6, "loss 1.5")
        time.sleep(0.15)
        phase.update(8, "loss 1.0")
    lines = file.getvalue().splitlines()
    assert lines[0] == "Training ..."
    assert lines[1].startswith("Training: 0/8 steps, compiling the first step, ")
    assert any(line.startswith("Training: 6/8 steps, loss 1.5, ") and "ETA" in line for line in lines[2:-1])
    assert lines[-1].startswith("Training: 8/8 steps, loss 1.0, ")


def test_lines_come_seldom_after_a_while():
    file, ticks = io.StringIO(), []
    assert (screen._OFTEN, screen._SELDOM, screen._AT_FIRST) == (10, 60, 120)

    def interval(elapsed):
        ticks.append(elapsed)
        return 0.01

    with screen._every(interval, lambda: file.write("x")):
        time.sleep(0.2)
    assert len(file.getvalue()) >= 3 and ticks == sorted(ticks) and ticks[0] < 0.1


def test_work_that_is_not_counted_says_how_long_it_takes(soon):
    file = io.StringIO()
    with Screen(file).phase("fp32: converting"):
        time.sleep(0.15)
    first, *others = file.getvalue().splitlines()
    assert first == "fp32: converting ..."
    assert others and all(re.fullmatch(r"fp32: converting, \d\d:\d\d elapsed", line) for line in others)


def test_a_phase_that_fails_shows_no_end(soon):
    file = io.StringIO()
    with pytest.raises(RuntimeError), Screen(file).phase("Training", 8, "steps"):
        raise RuntimeError
    assert file.getvalue() == "Training ...\n"


def test_a_terminal_has_one_live_line_which_goes_away(soon):
    file = _Terminal()
    shown = Screen(file)
    with shown.phase("Training", 8, "steps") as phase:
        phase.update(4, "loss 1.5")
        time.sleep(0.1)
        shown.say("A line.")
    written = file.getvalue()
    assert "\rTraining:" in written and "4/8" in written and "loss 1.5" in written
    assert "A line.\n" in written and written.count("\n") == 1
    assert written.endswith("\r") and not written.split("\r")[-2].strip()


def test_silent_progress_shows_nothing(capfd):
    with silent("Training", 8, "steps") as phase:
        phase.describe("compiling")
        phase.update(4, "loss 1.5")
        phase.advance()
    assert capfd.readouterr() == ("", "")


def test_the_librarys_log_is_on_the_screen_and_other_libraries_lines_are_not(capfd):
    file, verbosity = io.StringIO(), logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # as a command does
    try:
        with screen.shown_log(Screen(file)):
            Interruption()._handle(signal.SIGTERM, None)
            logging.info("a line of somebody else's")
        assert file.getvalue() == "SIGTERM: saving; a second signal leaves at once.\n"
        logging.info("after the block")
    finally:
        logging.set_verbosity(verbosity)
    assert capfd.readouterr() == ("", "")


_PROGRAM = """
    import mixnet_launch
    mixnet_launch.keep_quiet()
    import os
    for line in {lines!r}:
        os.write(2, line.encode() + b"\\n")
    {end}
"""
_LINES = [
    "I0000 00:00:1795564312.173786    9444 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1795564398.415815   11196 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error",
    "INFO: [gpu_registry.cc:12] Dynamically loaded GPU accelerator",
    "E0000 00:00:1795564398.415815   11196 real_trouble.cc:52] the disk is on fire",
    "I am a line of the user's",
]


def _launched(end="", arguments=()):
    program = textwrap.dedent(_PROGRAM.format(lines=_LINES, end=end))
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("end, code", [("", 0), ("raise SystemExit(2)", 2), ("raise SystemExit(75)", 75)])
def test_harmless_lines_are_held_back_and_others_are_not(end, code):
    done = _launched(end)
    assert done.returncode == code
    assert done.stderr.splitlines() == _LINES[3:]


@pytest.mark.parametrize("end", ["raise RuntimeError('boom')", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_failure_shows_what_was_held_back(end):
    done = _launched(end)
    assert done.returncode not in (0, 2)
    assert all(line in done.stderr for line in _LINES)
    assert ("boom" in done.stderr) == ("boom" in end)


def test_verbosity_leaves_every_line(monkeypatch):
    done = _launched(arguments=["--verbosity=0"])
    assert done.stderr.splitlines() == _LINES


def test_a_line_without_its_end_is_shown_all_the_same():
    done = _launched("os.write(2, b'Password: ')")
    assert done.stderr.splitlines() == [*_LINES[3:], "Password: "]


def _can_be_process_1():
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("function", ["getpid", "getppid"])
def test_as_process_1_or_its_child_nothing_is_filtered(function):
    program = f"import os; os.{function} = lambda: 1; os.fork = None\n" + textwrap.dedent(
        _PROGRAM.format(lines=_LINES, end="")
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr.splitlines() == _LINES


@pytest.mark.skipif(not _can_be_process_1(), reason="needs unshare and root")
@pytest.mark.parametrize("init", [[], ["sh", "-c", '"$@"; exit $?', "init"]], ids=["process 1", "its child"])
def test_the_last_line_before_a_container_aborts_is_shown(init):
    program = textwrap.dedent(_PROGRAM.format(lines=_LINES[3:], end="os.abort()\n    os._exit(134)"))
    for _ in range(5):
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", *init, sys.executable, "-c", program],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode != 0 and _LINES[3] in done.stderr


@pytest.mark.parametrize("end", ["", "raise SystemExit(2)", "raise RuntimeError('boom')"])
def test_every_line_is_shown_when_the_command_has_ended(end, tmp_path):
    slow = """
        import mixnet_launch, time
        filter = mixnet_launch._filter
        mixnet_launch._filter = lambda *ends: (time.sleep(0.5), filter(*ends))
    """
    program = textwrap.dedent(slow) + textwrap.dedent(_PROGRAM.format(lines=_LINES, end=end))
    with open(tmp_path / "stderr", "wb") as stderr:  # of a pipe, `run` would wait for the filter's end, too
        subprocess.run(
            [sys.executable, "-c", program],
            stderr=stderr, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    shown = (tmp_path / "stderr").read_text()
    assert _LINES[3] in shown and ("boom" in shown) == ("boom" in end)


def test_a_process_that_outlives_the_command_is_not_waited_for():
    program = textwrap.dedent(_PROGRAM.format(lines=[], end="import subprocess; subprocess.Popen(['sleep', '20'])"))
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        stderr=subprocess.DEVNULL, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert time.monotonic() - start < 15


def test_every_pattern_is_named_once():
    assert len(set(mixnet_launch.HARMLESS)) == len(mixnet_launch.HARMLESS)


@pytest.mark.soak
def test_on_a_terminal_a_script_shows_a_live_line_and_the_traceback_of_a_fault_that_ends_it_with_1():
    """A terminal of its own: `pty` gives the script one."""
    main, child = pty.openpty()
    program = "import mixnet_launch\nmixnet_launch.keep_quiet()\nimport time\n"
    program += "from mixnet_tf.commands import process\n"
    program += "def main(screen):\n"
    program += "    with screen.phase('Working', 2, 'steps'):\n        time.sleep(1.2)\n"
    program += "    raise ValueError('a fault of ours')\n"
    program += "process.run(main)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.Popen([sys.executable, "-c", program], stdout=child, stderr=child, env=environment)
    os.close(child)
    shown = b""
    while True:
        try:
            data = os.read(main, 1024)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    assert done.wait() == 1
    text = shown.decode()
    assert "Loading TensorFlow ..." in text and "\rWorking:" in text
    assert text.count("Traceback") == 1 and "ValueError: a fault of ours" in text.partition("Traceback")[2]
    assert pathlib.Path(ROOT / "mixnet_launch.py").exists()


def test_a_screen_that_is_not_utf_8_shows_names_as_it_can(monkeypatch):
    for encoding, shown in (("ascii", rb"K\xe4se \u96e8 \udcff"), ("latin-1", b"K\xe4se \\u96e8 \\udcff")):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        opened = screen.command_screen()
        with opened.phase("K\xe4se \u96e8 \udcff", 1, "images") as phase:
            phase.update(1, "\u96e8")
        opened.say("K\xe4se \u96e8 \udcff")
        assert written.getvalue().splitlines()[-1] == shown
