"""Files are written whole or not at all, on a local disk and on remote storage."""

import json
import math
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from mixnet_tf.files import check_can_be_made, exists, json_text, local_copy, publishing, read_json, write_json


def _write(path, text):
    with publishing(path) as local, open(local, "w") as file:
        file.write(text)


def _read(path):
    with tf.io.gfile.GFile(path) as file:
        return file.read()


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    """A folder on the disk, and one that only TensorFlow's file systems reach."""
    return str(tmp_path) if request.param == "local" else f"ram://{tmp_path.name}"


def test_a_published_file_replaces_the_older_one_and_leaves_nothing_else(folder):
    path = os.path.join(folder, "deep", "best.keras")
    assert not exists(path)
    for text in ("old", "new", "longer", "short"):
        _write(path, text)
        assert _read(path) == text
    files = tf.io.gfile.listdir(os.path.dirname(path))
    assert files == ["best.keras"]


def test_an_error_while_writing_leaves_the_older_file_whole(folder):
    path = os.path.join(folder, "best.keras")
    _write(path, "old")
    with pytest.raises(OSError, match="disk full"), publishing(path) as local:
        with open(local, "w") as file:
            file.write("half of the n")
        raise OSError("disk full")
    assert _read(path) == "old"


def _lossy_copy(source, target, **_):
    with tf.io.gfile.GFile(target, "w") as file, open(source) as whole:
        file.write(whole.read()[:-1])


def test_a_copy_that_lost_its_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.io.gfile, "copy", _lossy_copy)
    with pytest.raises(OSError, match="best.keras was not written whole: 2 of 3 bytes"):
        _write(f"ram://{tmp_path.name}/best.keras", "new")


def test_an_upload_that_breaks_off_leaves_the_older_file_whole(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise tf.errors.UnavailableError(None, None, "the upload broke off")

    path = f"ram://{tmp_path.name}/best.keras"
    _write(path, "old")
    monkeypatch.setattr(tf.io.gfile, "copy", broken)
    with pytest.raises(tf.errors.UnavailableError):
        _write(path, "new")
    assert _read(path) == "old"


def test_a_remote_file_is_read_through_a_local_copy(tmp_path):
    path = f"ram://{tmp_path.name}/a.txt"
    with tf.io.gfile.GFile(path, "w") as file:
        file.write("text")
    with local_copy(path) as local:
        assert pathlib.Path(local).read_text() == "text"
    assert not os.path.exists(local)


def test_json_round_trips_and_bad_json_names_the_file(folder):
    path = os.path.join(folder, "config.json")
    write_json(path, {"a": [1, None]})
    assert read_json(path) == {"a": [1, None]}
    _write(path, "{")
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_json(path + ".not")


def _strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_number_that_is_not_finite_is_null_in_json(tmp_path):
    path = tmp_path / "a.json"
    value = {"a": [math.nan, 1.5, (math.inf, -math.inf)], "b": {"c": np.float64("nan"), "d": None, "e": True}, "f": 3}
    expected = {"a": [None, 1.5, [None, None]], "b": {"c": None, "d": None, "e": True}, "f": 3}
    write_json(path, value)
    assert _strict(path.read_text()) == expected and _strict(json_text(value, indent=None)) == expected
    assert "\n" not in json_text(value, indent=None)
    path.write_text('{"a": NaN}')  # as version 0.2.0 wrote it
    assert math.isnan(read_json(path)["a"])


def test_json_is_written_in_one_place():
    root = pathlib.Path(__file__).parent.parent
    folders = ("mixnet_tf", "benchmarks", "studies", "examples")
    others = ("files.py", "convert_rivals.py", "run_emitted.py")  # the last two run without this package
    files = [path for folder in folders for path in (root / folder).rglob("*.py") if path.name not in others]
    assert [str(path) for path in files if "json.dump" in path.read_text()] == []


def test_json_may_begin_with_a_mark_of_byte_order_and_has_to_be_utf_8(tmp_path):
    path = tmp_path / "network.json"
    path.write_text('{"a": "ü"}', encoding="utf-8-sig")
    assert read_json(path) == {"a": "ü"}
    path.write_text('{"a": "ü"}', encoding="latin-1")
    with pytest.raises(ValueError, match="network.json is not text in UTF-8"):
        read_json(path)


def test_a_folder_that_cannot_be_made_is_named_with_what_is_in_its_way(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    check_can_be_made("model_dir", tmp_path / "a" / "b")
    check_can_be_made("model_dir", "gs://bucket/a")
    with pytest.raises(
        ValueError, match=r"model_dir: the folder .*file/b/c cannot be created, because .*file is not a folder"
    ):
        check_can_be_made("model_dir", tmp_path / "file" / "b" / "c")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="model_dir: .*a cannot be written to, because .* does not permit it"):
        check_can_be_made("model_dir", tmp_path / "a")
    assert os.listdir(tmp_path) == ["file"]
