"""Files that are whole or not there, on a local disk and elsewhere."""

import os
import pathlib

import pytest
import tensorflow as tf

from mixnet_tf.files import local_copy, published, publishing, read_json, write_json


def _write(path, text):
    with publishing(path) as local, open(local, "w") as file:
        file.write(text)


def _read(path):
    with tf.io.gfile.GFile(published(path)) as file:
        return file.read()


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    """A folder on the disk, and one where a rename is not atomic."""
    return str(tmp_path) if request.param == "local" else f"ram://{tmp_path.name}"


def test_a_published_file_replaces_the_older_one_and_leaves_nothing_else(folder):
    path = os.path.join(folder, "deep", "best.keras")
    assert published(path) is None
    for text in ("old", "new"):
        _write(path, text)
        assert _read(path) == text
    files = tf.io.gfile.listdir(os.path.dirname(path))
    assert len(files) == (2 if folder.startswith("ram") else 1)  # with its pointer


def test_an_error_while_writing_leaves_the_older_file_whole(folder):
    path = os.path.join(folder, "best.keras")
    _write(path, "old")
    with pytest.raises(OSError, match="disk full"), publishing(path) as local:
        with open(local, "w") as file:
            file.write("half of the n")
        raise OSError("disk full")
    assert _read(path) == "old"


def test_a_copy_that_lost_its_end_is_not_published(tmp_path, monkeypatch):
    path = f"ram://{tmp_path.name}/best.keras"
    _write(path, "old")

    def lossy(source, target, **_):
        with tf.io.gfile.GFile(target, "w") as file, open(source) as whole:
            file.write(whole.read()[:-1])

    monkeypatch.setattr(tf.io.gfile, "copy", lossy)
    with pytest.raises(OSError, match="was not written whole"):
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
