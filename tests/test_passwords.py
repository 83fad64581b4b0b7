"""No password is written or printed."""

import json
import sys
import types

import keras
import pytest
from scripts import run
from weights_server import serving

from mixnet_tf.provenance import provenance
from mixnet_tf.reports.page import Page, write_page
from mixnet_tf.weights import google, hub, load_weights, pretrained

ADDRESSES = (
    "postgresql://bob:s3cret@db.example.com:5432/search",
    "postgresql://bob:s3c@s3cret@db.example.com/search",
    "postgresql://bob:s3cret%40x@db.example.com/search",
    "postgresql+psycopg2://bob:s3cret/s3cret:s3cret@db.example.com",
    "mysql://bob:s3cret s3cret@db.example.com/search",
    "mysql://:s3cret@db.example.com/search?charset=utf8",
    "mysql://db.example.com/search?user=bob&password=s3cret&charset=utf8",
    "mysql://db.example.com/search?passwd=s3cret",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("arguments", [["--storage={}"], ["--storage", "{}"]], ids=["=", "space"])
def test_the_command_that_is_written_beside_figures_has_no_password(address, arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["search.py", *(each.format(address) for each in arguments), "--population=3"])
    command = provenance()["command"]
    assert "s3c" not in command
    assert "db.example.com" in command and command.endswith("--population=3")


def test_a_command_without_a_password_is_written_as_it_was_given(monkeypatch):
    arguments = [
        "--weights=hf://a/b@main",
        "--model_dir=gs://bucket/a@b",
        "--storage=postgresql://bob@host:5432/search",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert provenance()["command"] == " ".join(["python", "train.py", *arguments])


def test_a_report_has_no_password(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.py", f"--data_dir={ADDRESSES[1]}"])
    pytest.importorskip("jinja2")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    split = types.SimpleNamespace(dataset="digits", name="test", notes=())
    write_page(Page("", [], "the whole image", []), str(tmp_path), model, split, "random weights")
    for path in tmp_path.rglob("*"):
        assert b"s3c" not in path.read_bytes()


@pytest.mark.parametrize("address", [address for address in ADDRESSES if "s3c@" not in address])
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(address, monkeypatch):
    storage = pytest.importorskip("mixnet_tf.search.storage")

    def open_storage(url, **_):
        raise RuntimeError(f"could not translate host name in {url!r}: {url.partition('://')[2]}")

    monkeypatch.setattr(storage, "_PAUSE", 0.0)
    monkeypatch.setattr(storage.optuna.storages, "RDBStorage", open_storage)
    with pytest.raises(ValueError, match="storage: .*db.example.com.*cannot be opened") as error:
        storage.open_study("s", address, ["minimize"])
    assert "s3c" not in str(error.value)


def test_a_password_with_an_at_sign_is_refused_with_how_to_write_it():
    storage = pytest.importorskip("mixnet_tf.search.storage")
    with pytest.raises(ValueError, match="write @ in a password as %40") as error:
        storage.open_study("s", ADDRESSES[1], ["minimize"])
    assert "s3c" not in str(error.value)


@pytest.mark.parametrize("variable", [hub.ENDPOINT, google.MIRROR])
def test_a_mirror_that_asks_for_a_password_is_named_without_it(variable, weights_cache, tmp_path, monkeypatch, logged):
    with serving(tmp_path) as (url, _):
        monkeypatch.setenv(variable, url.replace("://", "://bob:s3cret@"))
        with pytest.raises((ConnectionError, FileNotFoundError)) as error:
            pretrained.published_weights("mixnet-s") if variable == google.MIRROR else hub.hub_file("hf://a/b")
    assert "bob:***@127.0.0.1" in str(error.value)
    assert "s3cret" not in str(error.value) + logged()


def test_weights_at_an_address_with_a_password_are_refused_without_it():
    with pytest.raises(ValueError, match="https://bob:\\*\\*\\*@example.com/m.keras") as error:
        load_weights(None, "https://bob:s3cret@example.com/m.keras")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        (f"storage={ADDRESSES[1]}",),
        ("--search_dir=gs://bucket/x", f"--data_dir={ADDRESSES[0]}", f"--space={ADDRESSES[0]}.json"),
        (f"--dataset={ADDRESSES[0]}",),
        (f"--storage={ADDRESSES[4]}", "--dataset=digits"),
    ],
    ids=["an argument without dashes", "the space", "the dataset", "the storage"],
)
def test_an_error_on_the_screen_has_no_password(arguments, capfd, tmp_path):
    code, out, err = run(capfd, "-m mixnet_tf.search", f"--search_dir={tmp_path}", f"--data_dir={tmp_path}", *arguments)
    assert code == 2 and "error: " in err
    assert "s3c" not in out + err


def test_what_a_search_leaves_has_no_password(tmp_path, monkeypatch):
    front = pytest.importorskip("mixnet_tf.search.front")
    from mixnet_tf.search import SearchSpace

    monkeypatch.setattr(sys, "argv", ["search.py", f"--storage={ADDRESSES[1]}"])
    space = SearchSpace.read("mixnet-s", {})
    front.write_front(space, {"search": []}, str(tmp_path), 16, "multiply-adds")
    text = (tmp_path / "front.json").read_text()
    assert "db.example.com" in json.loads(text)["provenance"]["command"] and "s3c" not in text
