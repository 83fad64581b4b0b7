"""Which errors a script shows as one line, with which exit code, and which ones keep their traceback."""

import ast
import http.server
import sys

import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags
from scripts import ROOT, run
from tensorflow_datasets.core.download import downloader
from weights_server import serving

from mixnet_tf.commands import following, process
from mixnet_tf.data import load_split, tfds_splits
from mixnet_tf.errors import InputError, MissingFileError, MissingPackageError

_SCRIPT = """import errno
import os

import tensorflow as tf

from mixnet_tf.commands import process
from mixnet_tf.errors import InputError, MissingFileError, MissingPackageError


def main(screen):
    {body}


if __name__ == "__main__":
    process.run(main)
"""
_OURS = (
    "Collective ops is aborted by: Socket closed\nAdditional GRPC error information\n [[{{node CollectiveReduceV2}}]]"
)


@pytest.fixture
def script(tmp_path):
    """Writes a script whose `main` has the given body."""

    def write(body):
        path = tmp_path / "script.py"
        path.write_text(_SCRIPT.format(body=body))
        return path

    return write


@pytest.mark.parametrize(
    "body, line",
    [
        ("raise InputError('size: expected 1')", "size: expected 1"),
        ("raise MissingFileError('no file a')", "no file a"),
        ("raise MissingPackageError('pip install a')", "pip install a"),
        ("raise FloatingPointError('The loss is not finite')", "The loss is not finite"),
        ("raise ConnectionError('cannot be downloaded')", "cannot be downloaded"),
        ("raise TimeoutError('No new checkpoint')", "No new checkpoint"),
        ("os.write(os.open('/dev/full', os.O_WRONLY), b'x')", "[Errno 28] No space left on device"),
        ("tf.io.write_file('/dev/full', 'x' * 9999)", "/dev/full; No space left on device"),
        ("raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), 'a')", "[Errno 122] Disk quota exceeded: 'a'"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_exit_code_2(body, line, script, capfd):
    code, _, err = run(capfd, script(body))
    assert code == 2 and err.splitlines()[-1] == f"error: {line}" and "Traceback" not in err


@pytest.mark.parametrize("kind", ["UnavailableError", "AbortedError"])
def test_a_lost_host_is_one_line_and_the_code_to_restart(kind, script, capfd):
    code, _, err = run(capfd, script(f"raise tf.errors.{kind}(None, None, {_OURS!r})"))
    assert code == 75
    assert err.splitlines()[-1] == (
        "Another host was lost (Collective ops is aborted by: Socket closed); restart this one, too."
    )


@pytest.mark.parametrize(
    "body, error",
    [
        ("raise ValueError('a fault of ours')", ValueError),
        ("raise OSError(errno.EACCES, 'a')", PermissionError),
        ("raise FileNotFoundError('a')", FileNotFoundError),
        ("import no_such_package", ImportError),
        ("tf.reshape(tf.zeros(3), (2, 2))", tf.errors.InvalidArgumentError),
        ("raise tf.errors.UnavailableError(None, None, 'storage.googleapis.com')", tf.errors.UnavailableError),
        ("raise tf.errors.ResourceExhaustedError(None, None, 'OOM')", tf.errors.ResourceExhaustedError),
        (f"raise tf.errors.InvalidArgumentError(None, None, {_OURS!r})", tf.errors.InvalidArgumentError),
    ],
)
def test_any_other_error_keeps_its_traceback(body, error, script, capfd):
    with pytest.raises(error):
        run(capfd, script(body))


def test_our_errors_are_also_pythons():
    assert issubclass(MissingFileError, InputError) and issubclass(MissingFileError, FileNotFoundError)
    assert issubclass(MissingPackageError, InputError) and issubclass(MissingPackageError, ImportError)
    assert MissingFileError("no file").errno is None and str(MissingFileError("no file")) == "no file"


@pytest.mark.parametrize("path", sorted((ROOT / "mixnet_tf").rglob("*.py")), ids=lambda path: path.stem)
def test_the_library_raises_its_own_errors_for_bad_input(path):
    raised = [
        node.exc.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    ]
    allowed = {"ImportError"} if path.name == "__init__.py" else set()  # before anything of ours is imported
    assert not {"ValueError", "FileNotFoundError", "ImportError"} & set(raised) - allowed


@pytest.mark.parametrize("error", [requests.ConnectionError("no route"), tfds.download.DownloadError("HTTP code: 404")])
def test_a_dataset_that_cannot_be_downloaded_is_named(error, tmp_path, monkeypatch):
    def fail(self):
        raise error

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ConnectionError, match=f"Dataset 'mnist' cannot be downloaded to {tmp_path}: {error}"):
        load_split("mnist", tmp_path, True)


def test_a_server_that_does_not_answer_is_asked_a_few_times_in_silence(tmp_path, monkeypatch, caplog):
    class Away(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

    def download(self):
        with downloader._open_url(f"{url}/images.zip"):
            pass

    monkeypatch.setattr(tfds_splits, "_RETRIES", 1)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
    before = downloader.MAX_RETRIES
    with serving(tmp_path, Away) as (url, asked):
        with pytest.raises(ConnectionError, match="cannot be downloaded to .* Prepare it where there is a network"):
            load_split("mnist", tmp_path, True)
    assert asked and set(asked) == {"/images.zip"} and len(asked) <= 4  # twice asked, each logged with its error
    assert "Retrying" not in caplog.text and downloader.MAX_RETRIES == before


def test_digits_without_scikit_learn_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        load_split("digits", tmp_path, True)


@pytest.mark.parametrize(
    "started, script, shown",
    [
        ("train.py", "eval.py", "python eval.py"),
        ("/usr/bin/mixnet-train", "eval.py", "mixnet-eval"),
        ("/usr/bin/mixnet-eval", "export_tflite.py", "mixnet-export"),
    ],
)
def test_the_next_command_is_named_as_this_one_was_started(started, script, shown, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    assert following.other_command(script) == shown


def test_a_second_run_in_one_process_parses_anew_also_of_another_command(monkeypatch):
    seen = []

    def run_with(default, *arguments):
        def define():
            flags.DEFINE_string("our_own", default, "A flag.")
            flags.DEFINE_list("ours_too", None, "Another.")

        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit) as ended:
            process.run(lambda screen: seen.append((flags.FLAGS.our_own, flags.FLAGS.ours_too)), define)
        assert ended.value.code in (0, None)

    run_with("a", "--our_own=given", "--ours_too=x,y")
    run_with("a")
    run_with("b")
    assert seen == [("given", ["x", "y"]), ("a", None), ("b", None)]


def test_a_second_run_of_a_command_with_flags_of_its_module_has_their_defaults_again(monkeypatch):
    seen, flag = [], flags.DEFINE_integer("of_a_module", 1, "A flag.")
    for arguments in (["--of_a_module=2"], []):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit):
            process.run(lambda screen: seen.append(flag.value))
    assert seen == [2, 1]
