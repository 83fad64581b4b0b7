import hashlib
import importlib.util
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny
from absl import flags
from weights_server import know, places, serving, write_as_timm

from mixnet_tf.weights import Arrays, converted, google, hub, list_weights, pretrained, read_weights


@pytest.fixture(scope="module")
def script():
    path = pathlib.Path(__file__).parent.parent / "benchmarks" / "verify_weights.py"
    spec = importlib.util.spec_from_file_location("verify_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JPEG = tf.io.encode_jpeg(tf.cast(tiny.images(300, 260, 3), tf.uint8)).numpy()


def answering(script, off=0.0):
    """A stand-in for MixNet-S that gives the published probabilities, the first `off` per cent too high."""
    row = np.zeros((1, 1000), "float32")
    for number, _, percent in script.ANSWER:
        row[0, number] = percent / 100
    row[0, script.ANSWER[0][0]] += off / 100

    def model(images):
        assert images.shape == (1, 224, 224, 3)
        return tf.constant(row)

    return model


@pytest.mark.parametrize("off", [0.0, 0.9, -0.9])
def test_the_published_answer_is_met_within_a_point(script, off, capsys):
    script.verify_answer(answering(script, off), JPEG)
    assert f"giant panda: {94.39 + off:.2f}%, published 94.39%" in capsys.readouterr().out


@pytest.mark.parametrize("off", [1.1, -1.1, np.nan])
def test_another_answer_is_an_error_that_names_the_class(script, off):
    with pytest.raises(ValueError, match=r"\['giant panda'\] are further than 1.0 per cent"):
        script.verify_answer(answering(script, off), JPEG)


def test_verification_downloads_converts_and_compares(
    script, mirrored, weights_cache, released_archive, monkeypatch, capsys, logged
):
    (folder, asked), released = mirrored, tiny.released("mixnet-s")
    (folder / "mixnet-s.tar.gz").symlink_to(released_archive)
    (folder / "panda.jpg").write_bytes(JPEG)
    know(monkeypatch, released_archive)
    monkeypatch.setattr(script, "GOOGLES", ["mixnet-s"])
    monkeypatch.setattr(script, "TIMMS", [])
    monkeypatch.setattr(script, "PHOTOGRAPH", f"{os.environ[google.MIRROR]}/panda.jpg")
    monkeypatch.setattr(script, "PHOTOGRAPH_SIZE", len(JPEG))
    weights_cache.mkdir(parents=True)
    converted.converted_file("mixnet-s").write_bytes(b"an older conversion, which would hide what the archive holds")
    monkeypatch.setattr(script, "build_model", lambda *_, **__: tiny.randomise(released) or released)
    flags.FLAGS.mark_as_parsed()
    timms = hub.hub_folder(pretrained.TIMM["mixnet-s"])  # as if it had been downloaded
    timms.mkdir(parents=True)
    write_as_timm(released_archive, timms / "model.safetensors")
    with pytest.raises(ValueError, match="further than"):  # the values are ours, so the answer is another one
        script.main(None)
    said = capsys.readouterr()
    assert "mixnet-s: all 347 variables were read." in said.out
    assert "mixnet-s: all 347 variables are equal in Google's and timm's files." in said.out
    assert hashlib.sha256(released_archive.read_bytes()).hexdigest() in logged()
    assert asked == ["/mixnet-s.tar.gz", "/panda.jpg"]

    compared = []
    monkeypatch.setattr(script, "verify_answer", lambda *arguments: compared.append(arguments))
    assert script.main(None) == 0
    [(model, image_bytes)] = compared
    assert places(model) == list(range(347)) and image_bytes == JPEG
    assert asked == ["/mixnet-s.tar.gz", "/panda.jpg", "/panda.jpg"]  # the archive is cached by now


@pytest.mark.parametrize("known", [None, "wrong"])
def test_a_set_of_timms_own_is_checked_without_an_answer(known, script, weights_cache, tmp_path, monkeypatch, capsys):
    pytest.importorskip("safetensors")
    golden = tiny.GOLDEN / "timm-mixnet-s-quarter" / "model.safetensors"
    record = next(each for each in list_weights("mixnet-s") if each in script.TIMMS)._replace(sha256=known)
    placed = hub.hub_folder(record.weights)
    placed.mkdir(parents=True)
    shutil.copy(golden, placed)
    build = script.build_model
    monkeypatch.setattr(
        script,
        "build_model",
        lambda name, params, input_shape: build(name, {**params, "depth_multiplier": 0.25}, classes=7),
    )
    if known is not None:
        with pytest.raises(ValueError, match="model.safetensors: expected wrong as its sha256, received [0-9a-f]{64}"):
            script.verify_timms(record)
        return
    model = script.verify_timms(record)
    said = capsys.readouterr().out.splitlines()
    digest = hashlib.sha256(golden.read_bytes()).hexdigest()
    assert said == [
        f"timm/mixnet_s.ft_in1k: size {golden.stat().st_size}, not published.",
        f"timm/mixnet_s.ft_in1k: sha256 {digest}, not published.",
        f"timm/mixnet_s.ft_in1k: all {len(model.weights)} variables were read.",
        "timm/mixnet_s.ft_in1k: no answer of these weights is published, so none was compared.",
    ]


def test_the_script_verifies_all_seven_sets(script):
    assert len(script.GOOGLES) == 3 and len(script.TIMMS) == 4
    assert {*script.GOOGLES, *(each.name for each in script.TIMMS)} == {
        each.name.removeprefix("google/") for each in list_weights()
    }


def test_sources_that_differ_are_an_error_that_names_the_variable(script, monkeypatch):
    one = Arrays("a", {("stem", "conv", 0, "kernel"): np.ones(3), ("stem", "bn", 0, "beta"): np.ones(2)}, {})
    other = Arrays("b", {("stem", "conv", 0, "kernel"): np.ones(3), ("stem", "bn", 0, "beta"): np.zeros(2)}, {})
    monkeypatch.setattr(script, "google_weights", lambda _: one)
    monkeypatch.setattr(script, "timm_weights", lambda _: other)
    with pytest.raises(
        ValueError, match="mixnet-s: 1 variables differ between Google's and timm's files: stem/bn/0/beta"
    ):
        script.verify_sources("mixnet-s")


def test_verification_names_a_variable_that_was_not_read(script, weights_cache, tmp_path, monkeypatch):
    model = tiny.build_small()  # a fresh one: its gammas are still 1
    for weight in model.weights:
        if weight.name != "gamma":
            weight.assign(np.full(weight.shape, 2, "float32"))
    model.save_weights(tmp_path / "m.weights.h5")
    monkeypatch.setattr(script, "google_weights", lambda _: read_weights(tmp_path / "m.weights.h5"))
    monkeypatch.setattr(script, "build_model", lambda *_, **__: tiny.build_small())
    with pytest.raises(ValueError, match="variable stem_bn/gamma was not read"):
        script.verify_conversion("mixnet-s")


def test_a_photograph_of_another_size_is_refused(script, tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with pytest.raises(ValueError, match=f"has {len(JPEG)} bytes, but the published one 116068"):
        script.photograph(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("given", [True, False], ids=["file", "network"])
def test_a_photograph_that_cannot_be_had_says_how_to_give_it(script, tmp_path, monkeypatch, given):
    with serving(".") as (url, _):
        pass
    monkeypatch.setattr(script, "PHOTOGRAPH", f"{url}/panda.jpg")
    with pytest.raises(ConnectionError, match="could not be read.* Give it as --photograph=FILE"):
        script.photograph(str(tmp_path / "none.jpg") if given else None)
