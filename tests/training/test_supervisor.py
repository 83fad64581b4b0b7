"""The documented loop that restarts a run, around a command that ends as told."""

import os
import re
import signal
import subprocess
import time

import pytest
from scripts import ROOT

_FAKE = """#!/usr/bin/env bash
# Each call takes the next line of `plan`: an exit code, or kill; then "saves" if something is to be saved.
read -r code saves < plan
sed -i 1d plan
echo "$@" >> calls
mkdir -p run/checkpoints
[ -z "$saves" ] || echo "$RANDOM $(wc -l < calls)" > run/checkpoints/checkpoint
[ "$code" != kill ] || kill -9 $$
exit "$code"
"""


def _heed_ctrl_c():
    """What a shell starts in the background ignores the signal, and bash then cannot trap it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def supervise(tmp_path):
    """Starts the documented loop around the fake command; arguments: its ends, one after the other."""
    document = (ROOT / "docs" / "TRAINING.md").read_text()
    [loop] = re.findall(r"^```bash\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert "run=/data/run\n" in loop
    (tmp_path / "loop.sh").write_text(loop.replace("run=/data/run\n", "run=run\n"))

    def start(*plan, command=_FAKE):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").write_text(command)
        (tmp_path / "bin" / "python").chmod(0o755)
        (tmp_path / "plan").write_text("".join(f"{end}\n" for end in plan))
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.Popen(
            ["bash", "loop.sh"], cwd=tmp_path, env=environment, start_new_session=True, preexec_fn=_heed_ctrl_c
        )

    return start


@pytest.mark.parametrize(
    "plan, code, runs",
    [
        (["0 saves"], 0, 1),
        (["75 saves", "75 saves", "kill saves", "kill", "75", "75 saves", "143", "134", "0"], 0, 9),
        (["130 saves", "0"], 130, 1),
        (["2", "0"], 2, 1),
        (["1 saves", "0"], 1, 1),
        (["75", "75", "75", "0"], 75, 3),
        (["75 saves", "kill", "kill", "kill", "0"], 137, 4),
    ],
)
def test_the_documented_loop_restarts_what_was_saved_or_killed_and_stops_without_progress(
    plan, code, runs, supervise, tmp_path
):
    assert supervise(*plan).wait(timeout=60) == code
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == runs and set(calls) == {
        "train.py --dataset=imagenet2012 --data_dir=/data/tfds --model_dir=run"
    }


def test_ctrl_c_ends_the_documented_loop(supervise, tmp_path):
    waits = "#!/usr/bin/env bash\ntrap 'exit 130' INT\necho >> calls\nwhile :; do sleep 0.05; done\n"
    loop = supervise(command=waits)
    while not (tmp_path / "calls").exists():
        time.sleep(0.01)
    os.killpg(loop.pid, signal.SIGINT)  # as a terminal does: to the shell and to the run
    assert loop.wait(timeout=60) == 130
    assert (tmp_path / "calls").read_text() == "\n"
