import concurrent.futures
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
import tiny
from scripts import ROOT
from weights_server import know, make_archive, places, serving

import mixnet_tf
from mixnet_tf.imagenet import wordnet_ids
from mixnet_tf.networks import class_names
from mixnet_tf.networks.variants import get_model_params
from mixnet_tf.networks.widths import unroll
from mixnet_tf.weights import assign, google, pretrained, released
from mixnet_tf.weights.google import Archive
from mixnet_tf.weights.sources import load_weights, read_weights

pytestmark = pytest.mark.usefixtures("weights_cache")

URLS = {
    "mixnet-s": "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet/mixnet-s.tar.gz",
    "mixnet-m": "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet/mixnet-m.tar.gz",
    "mixnet-l": "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet/mixnet-l.tar.gz",
}


def test_every_variant_has_a_published_archive():
    assert set(google.ARCHIVES) == set(URLS) == set(tiny.VARIANTS)


@pytest.mark.parametrize("model_name", URLS)
def test_the_archives_are_googles(model_name, tmp_path, monkeypatch):
    asked = []

    def get(url, **_):
        asked.append(url)
        raise requests.ConnectionError("no network here")

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(ConnectionError):
        google.download_archive(model_name, tmp_path)
    assert asked == [URLS[model_name]]


def test_what_is_not_known_of_an_archive_is_said_to_be_unchecked(tmp_path, monkeypatch, logged):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"four")
    for known, unchecked in ((Archive(4), ["sha256"]), (Archive(), ["size", "sha256"])):
        monkeypatch.setitem(google.ARCHIVES, "mixnet-s", known)
        google.check_archive(path, "mixnet-s")
        said = re.findall("its (.*) is not published, so it was not checked", logged())
        assert said == unchecked


def test_what_is_known_of_the_archives_is_pinned():
    assert google.ARCHIVES == {
        "mixnet-s": (30_633_801, None),
        "mixnet-m": (None, None),
        "mixnet-l": (54_302_843, "feb487ed76e46c4a19604172b4227a84db6bfd9449b022e310606525b2bb221f"),
    }


def test_imagenet_weights_are_downloaded_once_and_their_averages_read(
    mirrored, weights_cache, released_archive, monkeypatch, logged
):
    folder, asked = mirrored
    (folder / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    expected = list(range(len(tiny.listing("mixnet-s")["variables"])))

    model = mixnet_tf.MixNetS(weights="imagenet")
    assert places(model) == expected and class_names(model) == wordnet_ids()
    digest = hashlib.sha256(released_archive.read_bytes()).hexdigest()
    assert f"{released_archive.stat().st_size} bytes, sha256 {digest}" in logged()
    assert sorted(path.name for path in weights_cache.iterdir()) == ["mixnet-s.tar.gz", "mixnet-s.v2.npz"]
    assert asked == ["/mixnet-s.tar.gz"]

    os.remove(weights_cache / "mixnet-s.tar.gz")  # the second call reads the converted file alone
    headless = keras.Model(model.input, model.get_layer("head_activation").output)
    tiny.randomise(model)
    load_weights(headless, "imagenet")
    assert places(headless) == expected[:-2]
    assert asked == ["/mixnet-s.tar.gz"]


def test_an_archive_without_a_published_checksum_is_compared_with_the_first_one(
    mirrored, weights_cache, released_archive, monkeypatch, logged
):
    content = released_archive.read_bytes()
    served = mirrored[0] / "mixnet-s.tar.gz"
    served.write_bytes(content)
    monkeypatch.setitem(google.ARCHIVES, "mixnet-s", Archive(len(content)))
    pretrained.published_weights("mixnet-s")
    record, digest = weights_cache / "mixnet-s.tar.gz.sha256", hashlib.sha256(content).hexdigest()
    assert record.read_text() == f"{digest}  mixnet-s.tar.gz\n"
    said = logged()
    assert "its sha256 is not published, so it was not checked" in said and f"is kept in {record}" in said

    kept, other = weights_cache / "mixnet-s.tar.gz", content[:-1] + bytes([content[-1] ^ 1])
    (weights_cache / "mixnet-s.v2.npz").unlink()
    pretrained.published_weights("mixnet-s")  # from the archive
    assert "not checked" not in logged()
    for place in (kept, served):  # the cached one, and one that is downloaded anew
        place.write_bytes(other)
        (weights_cache / "mixnet-s.v2.npz").unlink(missing_ok=True)
        with pytest.raises(ValueError, match=f"{re.escape(str(kept))} is not the file that was downloaded first"):
            pretrained.published_weights("mixnet-s")
        kept.unlink(missing_ok=True)
    assert [path.name for path in weights_cache.iterdir()] == [record.name]


def test_two_at_once_both_read_whole_weights(weights_cache, released_archive, tmp_path, monkeypatch):
    (tmp_path / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    both = threading.Barrier(2)

    class AnswersBoth(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            both.wait(60)  # neither has the archive before the other asks
            super().do_GET()

    with serving(tmp_path, AnswersBoth) as (url, asked), concurrent.futures.ThreadPoolExecutor(2) as pool:
        monkeypatch.setenv(google.MIRROR, url)
        for read in pool.map(pretrained.published_weights, ["mixnet-s"] * 2):
            assign(tiny.released("mixnet-s"), read)
            assert places(tiny.released("mixnet-s")) == list(range(len(tiny.listing("mixnet-s")["variables"])))
            tiny.randomise(tiny.released("mixnet-s"))
    assert asked == ["/mixnet-s.tar.gz"] * 2
    assert sorted(path.name for path in weights_cache.iterdir()) == ["mixnet-s.tar.gz", "mixnet-s.v2.npz"]


@pytest.mark.soak
def test_two_processes_at_once_both_read_whole_weights(mirrored, weights_cache, released_archive, tmp_path):
    folder, _ = mirrored
    (folder / "mixnet-s.tar.gz").symlink_to(released_archive)
    content = released_archive.read_bytes()
    program = f"""
import sys
from mixnet_tf import MixNetS
from mixnet_tf.weights import google
google.ARCHIVES["mixnet-s"] = google.Archive({len(content)}, {hashlib.sha256(content).hexdigest()!r})
model = MixNetS(weights="imagenet")
print([int(w.numpy().flat[0]) - 2 for layer in model.layers for w in layer.weights])
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    expected = str(list(range(len(tiny.listing("mixnet-s")["variables"]))))
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.strip().splitlines()[-1] == expected
    assert sorted(path.name for path in weights_cache.iterdir()) == ["mixnet-s.tar.gz", "mixnet-s.v2.npz"]


def assert_nothing_stays(weights_cache):
    assert not weights_cache.exists() or list(weights_cache.iterdir()) == []


@pytest.fixture
def small_archive(tmp_path):
    """An archive of the right layout with a checkpoint of something else."""
    return make_archive(tmp_path / "small.tar.gz", {"mixnet-s/checkpoint": b"", "mixnet-s/model.ckpt.index": b""})


@pytest.mark.parametrize("sized", [True, False], ids=["known size", "unknown size"])
def test_a_truncated_archive_is_refused_and_not_kept(mirrored, weights_cache, released_archive, monkeypatch, sized):
    folder, _ = mirrored
    content = released_archive.read_bytes()
    (folder / "mixnet-s.tar.gz").write_bytes(content[: len(content) // 2])
    monkeypatch.setitem(google.ARCHIVES, "mixnet-s", Archive(len(content) if sized else None))
    message = "expected .* bytes, received" if sized else "cannot be unpacked"
    with pytest.raises(ValueError, match=message):
        pretrained.published_weights("mixnet-s")
    assert_nothing_stays(weights_cache)


def test_a_download_that_breaks_off_is_refused_and_not_kept(tmp_path, weights_cache, released_archive, monkeypatch):
    class BreaksOff(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            content = released_archive.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:1000])

    with serving(tmp_path, BreaksOff) as (url, _):
        monkeypatch.setenv(google.MIRROR, url)
        with pytest.raises(ConnectionError, match=re.escape(str(weights_cache / "mixnet-s.tar.gz"))):
            pretrained.published_weights("mixnet-s")
    assert_nothing_stays(weights_cache)


def test_a_wrong_checksum_is_refused_with_both(mirrored, weights_cache, small_archive, monkeypatch):
    folder, _ = mirrored
    content = small_archive.read_bytes()
    (folder / "mixnet-s.tar.gz").write_bytes(content)
    monkeypatch.setitem(google.ARCHIVES, "mixnet-s", Archive(len(content), "0" * 64))
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=f"not the published archive of mixnet-s: expected {'0' * 64}.*{digest}"):
        pretrained.published_weights("mixnet-s")
    assert_nothing_stays(weights_cache)


def test_a_checkpoint_of_something_else_is_refused_and_not_kept(mirrored, weights_cache, small_archive, monkeypatch):
    (mirrored[0] / "mixnet-s.tar.gz").write_bytes(small_archive.read_bytes())
    know(monkeypatch, small_archive)
    with pytest.raises((ValueError, FileNotFoundError), match="checkpoint"):
        pretrained.published_weights("mixnet-s")
    assert_nothing_stays(weights_cache)


def test_without_a_server_the_error_says_where_to_place_the_file(weights_cache, monkeypatch):
    with serving(".") as (url, _):
        pass  # now nobody listens there
    monkeypatch.setenv(google.MIRROR, url + "/")
    with pytest.raises(ConnectionError) as error:
        pretrained.published_weights("mixnet-s")
    assert f"{url}/mixnet-s.tar.gz could not be downloaded" in str(error.value)
    assert f"place it as {weights_cache / 'mixnet-s.tar.gz'}" in str(error.value)
    assert google.MIRROR in str(error.value)
    assert_nothing_stays(weights_cache)


def test_a_mirror_without_the_file_is_the_same_error(mirrored, weights_cache):
    with pytest.raises(ConnectionError, match="404"):
        pretrained.published_weights("mixnet-m")
    assert_nothing_stays(weights_cache)


def test_a_file_placed_by_hand_is_checked_and_read_without_a_server(weights_cache, released_archive, monkeypatch):
    with serving(".") as (url, _):
        pass
    monkeypatch.setenv(google.MIRROR, url)
    weights_cache.mkdir(parents=True)
    placed = weights_cache / "mixnet-s.tar.gz"
    placed.write_bytes(b"something else")
    with pytest.raises(ValueError, match=re.escape(f"{placed} is not the published archive")):
        pretrained.published_weights("mixnet-s")
    assert placed.read_bytes() == b"something else"  # a person's file is not ours to delete
    placed.write_bytes(released_archive.read_bytes())
    know(monkeypatch, released_archive)
    read = pretrained.published_weights("mixnet-s")
    assert str(weights_cache / "mixnet-s.v2.npz") in read.source and read.classes == 1000


@pytest.fixture
def placed(weights_cache, released_archive, monkeypatch):
    """The cache with the archive placed in it by hand."""
    weights_cache.mkdir(parents=True)
    (weights_cache / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    return weights_cache


def test_the_converted_file_holds_every_variable_in_float32(placed):
    pretrained.published_weights("mixnet-s")
    with np.load(placed / "mixnet-s.v2.npz") as file:
        assert len(file) == 347 and {file[name].dtype for name in file} == {np.dtype("float32")}


def test_the_weights_are_converted_and_read_without_a_variable(placed, monkeypatch):
    made = []

    def variable(*arguments, **options):
        made.append(arguments)
        raise AssertionError("a variable was made")

    monkeypatch.setattr(tf, "Variable", variable)
    monkeypatch.setattr(keras, "Variable", variable)
    monkeypatch.setattr(keras.layers.Layer, "add_weight", variable)
    blocks = unroll(*get_model_params("mixnet-s"))
    for _ in ("converted", "cached"):
        assert read_weights("imagenet", blocks).classes == 1000
    assert made == []


def test_a_conversion_of_another_format_is_left_alone(placed):
    (placed / "mixnet-s.weights.h5").write_bytes(b"of version 0.1.0")
    assert pretrained.published_weights("mixnet-s").classes == 1000
    assert (placed / "mixnet-s.weights.h5").read_bytes() == b"of version 0.1.0"


def test_an_archive_of_another_network_is_refused_and_not_kept(mirrored, weights_cache, released_archive):
    (mirrored[0] / "mixnet-m.tar.gz").symlink_to(released_archive)  # nobody has published what mixnet-m's is like
    with pytest.raises(ValueError, match="is a checkpoint of mixnet-s, not of mixnet-m"):
        pretrained.published_weights("mixnet-m")
    assert_nothing_stays(weights_cache)


def test_a_cached_file_that_is_damaged_or_does_not_fit_says_what_to_delete(placed):
    model = tiny.released("mixnet-s")
    load_weights(model, "imagenet")
    cached = placed / "mixnet-s.v2.npz"
    with np.load(cached) as file:
        arrays = dict(file)
    arrays["stem/conv/1/kernel"] = arrays.pop("stem/conv/0/kernel")
    np.savez(cached, **arrays)
    with tiny.refusal(model, ValueError, rf"{re.escape(str(cached))} \(.*; delete it to convert it again\)"):
        load_weights(model, "imagenet")
    cached.write_bytes(b"no zip")
    with tiny.refusal(model, ValueError, f"{re.escape(str(cached))} cannot be read: .* Delete it"):
        load_weights(model, "imagenet")


def test_imagenet_weights_go_into_another_head_only_where_the_old_one_is_skipped(
    mirrored, weights_cache, released_archive, monkeypatch
):
    (mirrored[0] / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    released = tiny.released("mixnet-s")
    head = keras.layers.Dense(10, name="head_dense")(released.get_layer("head_dropout").output)
    model = keras.Model(released.input, head)
    tiny.randomise(model)
    with pytest.raises(ValueError, match="needs classes=1000, received 10; build with include_top=False"):
        load_weights(model, "imagenet")
    assert mirrored[1] == []  # refused before any download
    head = [weight.numpy() for weight in model.get_layer("head_dense").weights]
    load_weights(model, "imagenet", skip_head=True)
    assert places(model)[:-2] == list(range(345))
    np.testing.assert_equal([weight.numpy() for weight in model.get_layer("head_dense").weights], head)


@pytest.mark.soak
def test_a_constructor_refuses_imagenet_weights_with_another_head_before_any_download(mirrored):
    with pytest.raises(ValueError, match="needs classes=1000, received 10; build with include_top=False"):
        mixnet_tf.MixNetS(weights="imagenet", classes=10)
    assert mirrored[1] == []


def test_imagenet_weights_of_another_architecture_are_refused_before_any_download(mirrored):
    with pytest.raises(ValueError, match="none of .*'mixnet-s', 'mixnet-m', 'mixnet-l'"):
        tiny.build_small(weights="imagenet")
    assert mirrored[1] == []


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_a_released_network_is_known_by_its_kernels_and_widths(model_name):
    assert released.variant_of(released.mixconvs_of(tiny.released(model_name))) == model_name
