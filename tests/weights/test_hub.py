"""Weights from repositories of the Hugging Face hub, and timm's as the second source of the published ones."""

import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import sys
import time

import numpy as np
import pytest
import tiny
from weights_server import LoginPage, know, places, serving, silent_server, write_as_timm

import mixnet_tf
from mixnet_tf import downloads
from mixnet_tf.networks import GOOGLES, TIMMS, carried_resizing
from mixnet_tf.weights import google, hub, list_weights, pretrained
from mixnet_tf.weights.sources import load_weights, read_weights

pytestmark = pytest.mark.usefixtures("weights_cache")
_TIMM_S = "timm/tf_mixnet_s.in1k"


@pytest.fixture
def hubs(tmp_path, monkeypatch):
    """A function that publishes files as a repository on a local hub, and a list of the requests to that hub."""
    root = tmp_path / "hub"
    root.mkdir()

    def publish(repository, files, revision="main", listed=None):
        listing = root / "api" / "models" / repository / "revision"
        listing.mkdir(parents=True, exist_ok=True)
        siblings = [{"rfilename": name} for name in (files if listed is None else listed)]
        (listing / revision).write_text(json.dumps({"siblings": siblings}))
        folder = root / repository / "resolve" / revision
        folder.mkdir(parents=True)
        for name, source in files.items():
            (folder / name).write_bytes(source if isinstance(source, bytes) else source.read_bytes())

    with serving(root) as (url, asked):
        monkeypatch.setenv(hub.ENDPOINT, url)
        yield publish, asked


@pytest.fixture(scope="session")
def timm_file(released_archive, tmp_path_factory):
    """model.safetensors with the values of `released_archive`."""
    pytest.importorskip("safetensors")
    return write_as_timm(released_archive, tmp_path_factory.mktemp("timm") / "model.safetensors")


@pytest.fixture(scope="module")
def models():
    """A network with random weights, and the same with others."""
    return tiny.build_small(), tiny.build_small()


@pytest.fixture
def model(models):
    for seed, each in enumerate(models):
        tiny.randomise(each, seed)
    return models[0]


@pytest.mark.parametrize("name", ["best.keras", "model.weights.h5"])
def test_a_repository_of_keras_weights_is_downloaded_once(name, hubs, model, models, tmp_path, weights_cache):
    (publish, asked), fresh = hubs, models[1]
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    publish("some-one/mixnet", {name: tmp_path / name, "README.md": b"words", "run_me.py": b"raise SystemExit"})
    load_weights(fresh, "hf://some-one/mixnet")
    np.testing.assert_equal(tiny.values(fresh), tiny.values(model))
    assert [path.rpartition("/")[2] for path in asked] == ["main", name]
    kept = weights_cache / "hub" / "some-one--mixnet" / "main"
    assert [path.name for path in kept.iterdir()] == [name]
    assert sorted(path.name for path in kept.parent.iterdir()) == ["main", "main.sha256"]
    load_weights(fresh, "hf://some-one/mixnet")
    assert len(asked) == 2


def test_a_revision_is_a_folder_of_its_own_and_files_may_be_placed_by_hand(hubs, model, tmp_path, weights_cache):
    publish, asked = hubs
    model.save_weights(tmp_path / "model.weights.h5")
    publish("a/b", {"model.weights.h5": tmp_path / "model.weights.h5"}, "v1.0")
    assert hub.hub_file("hf://a/b@v1.0").endswith("hub/a--b/v1.0/model.weights.h5")
    placed = weights_cache / "hub" / "a--b" / "refs--pr--1"
    placed.mkdir()
    (placed / "own.weights.h5").write_bytes((tmp_path / "model.weights.h5").read_bytes())
    asked.clear()
    assert hub.hub_file("hf://a/b@refs/pr/1") == str(placed / "own.weights.h5") and asked == []


@pytest.mark.parametrize(
    "files, error, message",
    [
        ({"README.md": b""}, ValueError, r"has no file of weights, .safetensors, .*; it has \['README.md'\]"),
        ({"a.keras": b"", "b.keras": b""}, ValueError, r"several files of weights, \['a.keras', 'b.keras'\]"),
        ({"model.keras": b"no zip"}, ValueError, "is not a readable file of Keras 3"),
        (None, FileNotFoundError, "there is no public repository hf://a/b; .* answers 404"),
    ],
)
def test_a_repository_without_weights_is_refused(files, error, message, hubs, model):
    if files is not None:
        hubs[0]("a/b", files)
    with tiny.refusal(model, error, message):
        load_weights(model, "hf://a/b")


@pytest.mark.parametrize(
    "name",
    [
        *("hf://a", "hf://a/b/c", "hf://a/b@", "hf://../b@..//c"),
        *("hf://a/b@..", "hf://a/b@.", "hf://a/b@x/../../y", "hf://a/b@x/./y", "hf://../b", "hf://a/..", "hf://./b"),
    ],
)
def test_a_name_that_is_none_is_refused_before_anything_is_asked(name, hubs):
    with pytest.raises(ValueError, match="expected hf://ORG/NAME"):
        read_weights(name)
    assert hubs[1] == []


def test_a_file_that_is_too_large_or_breaks_off_is_not_kept(hubs, tmp_path, weights_cache, monkeypatch):
    hubs[0]("a/b", {"model.safetensors": b"x" * 5000})
    monkeypatch.setattr(hub, "MAX_UNPACKED", 4000)
    with pytest.raises(ValueError, match="holds more bytes than any MixNet has"):
        hub.hub_file("hf://a/b")
    assert list((weights_cache / "hub" / "a--b").iterdir()) == []

    class BreaksOff(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps({"siblings": [{"rfilename": "model.safetensors"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + 99 * ("resolve" in self.path)))
            self.end_headers()
            self.wfile.write(content)

    with serving(tmp_path, BreaksOff) as (url, _):
        monkeypatch.setenv(hub.ENDPOINT, url)
        with pytest.raises(ConnectionError, match="could not be downloaded") as error:
            hub.hub_file("hf://a/b")
    assert f"place it in {weights_cache / 'hub' / 'a--b' / 'main'}" in str(error.value)
    assert list((weights_cache / "hub" / "a--b").iterdir()) == []


def test_a_login_page_in_place_of_the_hub_is_said_to_be_one(tmp_path, weights_cache, monkeypatch):
    with serving(tmp_path, LoginPage) as (url, _):
        monkeypatch.setenv(hub.ENDPOINT, url)
        with pytest.raises(
            ConnectionError, match="expected JSON, received text/html.*; is there a login page"
        ) as error:
            hub.hub_file("hf://a/b")
    assert f"place it in {weights_cache / 'hub' / 'a--b' / 'main'}" in str(error.value)


@pytest.mark.parametrize("listing", ["[]", '{"siblings": 1}', '{"siblings": [1]}', "null"])
def test_a_listing_of_another_form_is_no_traceback(listing, tmp_path, monkeypatch):
    class Odd(LoginPage):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(listing.encode())

    with serving(tmp_path, Odd) as (url, _):
        monkeypatch.setenv(hub.ENDPOINT, url)
        with pytest.raises(ConnectionError, match="not the hub's list of files"):
            hub.hub_file("hf://a/b")


def test_a_login_page_in_place_of_a_file_is_not_kept(hubs, weights_cache):
    hubs[0]("a/b", {"model.safetensors": b"\n <!DOCTYPE html><html></html>"})
    with pytest.raises(ConnectionError, match="expected a file, received text/html; is there a login page"):
        hub.hub_file("hf://a/b")
    assert list((weights_cache / "hub" / "a--b").iterdir()) == []


def test_the_first_download_is_said_to_be_unchecked_and_its_checksum_kept(hubs, weights_cache, logged):
    hubs[0]("a/b", {"model.keras": b"weights"})
    path = hub.hub_file("hf://a/b")
    record, digest = weights_cache / "hub" / "a--b" / "main.sha256", hashlib.sha256(b"weights").hexdigest()
    said = logged()
    assert "model.keras: its sha256 is not published, so it was not checked" in said
    assert digest in said and str(record) in said
    assert record.read_text() == f"{digest}  main/model.keras\n"
    assert hub.hub_file("hf://a/b") == path and logged() == ""


def test_a_cached_file_that_has_changed_is_refused_with_its_path(hubs):
    hubs[0]("a/b", {"model.keras": b"weights"})
    path = hub.hub_file("hf://a/b")
    pathlib.Path(path).write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"{re.escape(path)} is not the file that was downloaded first") as error:
        hub.hub_file("hf://a/b")
    for content in (b"weights", b"other"):
        assert hashlib.sha256(content).hexdigest() in str(error.value)


@pytest.mark.parametrize("deleted", ["the file", "the folder"])
def test_a_second_download_that_differs_is_refused_and_not_kept(deleted, hubs, tmp_path):
    hubs[0]("a/b", {"model.keras": b"weights", "config.json": b"{}"})
    path = pathlib.Path(hub.hub_file("hf://a/b"))
    path.unlink() if deleted == "the file" else shutil.rmtree(path.parent)
    served = tmp_path / "hub" / "a" / "b" / "resolve" / "main" / "model.keras"
    served.write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is not the file that was downloaded first"):
        hub.hub_file("hf://a/b")
    assert not path.exists()
    served.write_bytes(b"weights")
    assert pathlib.Path(hub.hub_file("hf://a/b")).read_bytes() == b"weights"
    served.write_bytes(b"other")
    shutil.rmtree(path.parent)  # as the refusal says
    path.parent.with_name("main.sha256").unlink()
    assert pathlib.Path(hub.hub_file("hf://a/b")).read_bytes() == b"other"


def test_files_placed_by_hand_have_no_checksum_to_compare_with(weights_cache):
    placed = weights_cache / "hub" / "a--b" / "main" / "own.keras"
    placed.parent.mkdir(parents=True)
    for content in (b"one", b"other"):
        placed.write_bytes(content)
        assert hub.hub_file("hf://a/b") == str(placed)


@pytest.mark.parametrize("away", ["silent", "a login page"])
def test_the_hub_is_asked_where_googles_mirror_is(away, hubs, timm_file, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", (0.5, 0.5))
    hubs[0](_TIMM_S, {"model.safetensors": timm_file})
    with silent_server() if away == "silent" else serving(tmp_path, LoginPage) as (url, asked):
        monkeypatch.setenv(google.MIRROR, url)
        start = time.monotonic()
        read = pretrained.published_weights("mixnet-s")
        assert time.monotonic() - start < 3  # a silent server gives up after four seconds
    assert read.classes == 1000 and asked and "timm--tf_mixnet_s.in1k" in read.source


def test_timms_repository_serves_where_googles_archive_is_gone(
    mirrored, hubs, timm_file, released_archive, weights_cache, logged
):
    publish, asked = hubs
    publish(_TIMM_S, {"model.safetensors": timm_file, "config.json": b'{"architecture": "tf_mixnet_s"}'})
    expected = list(range(len(tiny.listing("mixnet-s")["variables"])))
    model = mixnet_tf.MixNetS(weights="imagenet")
    asked_google = list(mirrored[1])
    assert places(model) == expected and set(asked_google) == {"/mixnet-s.tar.gz"}
    assert carried_resizing(model) == GOOGLES
    said, kept = logged(), weights_cache / "hub" / "timm--tf_mixnet_s.in1k" / "main"
    assert "/mixnet-s.tar.gz could not be downloaded" in said
    assert f"The same weights were taken from {kept / 'model.safetensors'}" in said
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "model.safetensors"]
    tiny.randomise(model)
    load_weights(model, "imagenet")
    assert places(model) == expected
    assert len(asked) == 3 and mirrored[1] == asked_google


_OWN = {each.model_name: each for each in list_weights() if hub.is_hub_name(each.weights)}
_QUARTERS = {"mixnet-xl": "mixnet-xl", "mixnet-s": "mixnet-s", "mixnet-m": "mixnet-xl", "mixnet-l": "mixnet-xl"}


@pytest.mark.parametrize("model_name", _OWN)
def test_timms_own_sets_come_from_the_hub_with_what_they_expect(model_name, hubs, monkeypatch, logged):
    """The files are timm's narrow ones: of M and L they have the names."""
    pytest.importorskip("safetensors")
    record, own = _OWN[model_name], tiny.GOLDEN / f"timm-{_QUARTERS[model_name]}-quarter"
    known = hashlib.sha256((own / "model.safetensors").read_bytes()).hexdigest() if record.sha256 else None
    monkeypatch.setattr(hub, "RECORDS", [record._replace(sha256=known)])
    described = {"architecture": record.name.removeprefix("timm/").split(".")[0]}
    files = {"model.safetensors": own / "model.safetensors", "config.json": json.dumps(described).encode()}
    hubs[0](record.name, files)
    is_imagenets = mixnet_tf.list_weights(model_name)[0] == record
    read = pretrained.published_weights(model_name) if is_imagenets else read_weights(record.weights)
    assert read.resizing == record.resizing == TIMMS and read.params["padding"] == "symmetric"
    assert ("not published, so it was not checked" in logged()) is (known is None)
    assert len(hubs[1]) == 3 and read_weights(record.weights).source == read.source and len(hubs[1]) == 3


def test_a_file_that_is_not_the_published_one_is_refused_and_not_kept(hubs, weights_cache):
    pytest.importorskip("safetensors")
    hubs[0]("timm/mixnet_xl.ra_in1k", {"model.safetensors": b"another"})
    expected = f"expected {_OWN['mixnet-xl'].sha256} as its sha256, received {hashlib.sha256(b'another').hexdigest()}"
    with pytest.raises(ValueError, match=expected):
        pretrained.published_weights("mixnet-xl")
    assert list((weights_cache / "hub" / "timm--mixnet_xl.ra_in1k").iterdir()) == []
    hubs[0]("timm/mixnet_xl.ra_in1k", {"model.safetensors": b"another"}, revision="v2")
    assert hub.hub_file("hf://timm/mixnet_xl.ra_in1k@v2").endswith("v2/model.safetensors")


def test_googles_archive_comes_first(mirrored, hubs, released_archive, monkeypatch):
    (mirrored[0] / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    read = pretrained.published_weights("mixnet-s")
    assert read.classes == 1000 and read.resizing == GOOGLES
    assert hubs[1] == []


def test_where_both_are_away_one_error_names_both_and_where_to_place_the_files(mirrored, weights_cache):
    pytest.importorskip("safetensors")
    with pytest.raises(ConnectionError) as error:
        pretrained.published_weights("mixnet-s")
    for words in (
        f"{os.environ[google.MIRROR]}/mixnet-s.tar.gz could not be downloaded",
        f"place it as {weights_cache / 'mixnet-s.tar.gz'}",
        f"The second source: http://127.0.0.1:9/api/models/{_TIMM_S}/revision/main could not be downloaded",
        f"place it in {weights_cache / 'hub' / 'timm--tf_mixnet_s.in1k' / 'main'}",
    ):
        assert words in str(error.value)


def test_the_second_source_without_safetensors_names_the_package(mirrored, hubs, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=re.escape("The second source: Reading hf://timm/tf_mixnet_s.in1k needs")):
        pretrained.published_weights("mixnet-s")
    assert hubs[1] == []
