import contextlib
import functools
import hashlib
import http.server
import importlib.util
import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import threading

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from absl import flags

import mixnet_tf
from mixnet_tf import pretrained
from mixnet_tf.pretrained import Archive
from mixnet_tf.weights import load_weights

URLS = {
    "mixnet-s": "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet/mixnet-s.tar.gz",
    "mixnet-m": "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet/mixnet-m.tar.gz",
    "mixnet-l": "https://storage.googleapis.com/cloud-tpu-checkpoints/mixnet/mixnet-l.tar.gz",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A Keras home of the test's own: no test sees, or leaves, a person's files."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv(pretrained.MIRROR, raising=False)
    return tmp_path / "keras" / "models" / "mixnet_tf"


@contextlib.contextmanager
def serving(folder, handler=http.server.SimpleHTTPRequestHandler):
    """The URL of a local server over a folder, and the paths that it was asked for."""
    asked = []

    class Handler(handler):
        def log_message(self, form, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that the mirror serves, and what was asked of it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as (url, asked):
        monkeypatch.setenv(pretrained.MIRROR, url)
        yield folder, asked


def know(monkeypatch, archive, model_name="mixnet-s"):
    """Makes the contents of a file what is known of the published archive."""
    content = archive.read_bytes()
    monkeypatch.setitem(pretrained.ARCHIVES, model_name, Archive(len(content), hashlib.sha256(content).hexdigest()))


@pytest.fixture(scope="session")
def released_archive(tmp_path_factory):
    """mixnet-s.tar.gz as published, but each variable filled with its place: from 2, no initial value."""
    folder = tmp_path_factory.mktemp("archive")
    inside = folder / "mixnet-s"
    inside.mkdir()
    arrays = {}
    for place, row in enumerate(tiny.listing("mixnet-s")["variables"]):
        arrays[row["name"]] = np.full(row["shape"], -1, "float32")
        arrays[row["name"] + "/ExponentialMovingAverage"] = np.full(row["shape"], place + 2, "float32")
    tiny.write_checkpoint(inside / "model.ckpt", {**arrays, "global_step": np.int64(437_898)})
    (inside / "checkpoint").write_text('model_checkpoint_path: "/published/elsewhere/model.ckpt"\n')
    with tarfile.open(folder / "mixnet-s.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(inside, "mixnet-s")
    return folder / "mixnet-s.tar.gz"


def places(model):
    return [int(weight.numpy().flat[0]) - 2 for layer in model.layers for weight in layer.weights]


def test_every_variant_has_a_published_archive():
    assert set(pretrained.ARCHIVES) == set(URLS) == set(tiny.VARIANTS)


@pytest.mark.parametrize("model_name", URLS)
def test_the_archives_are_googles(model_name, tmp_path, monkeypatch):
    asked = []

    def get_file(origin, **_):
        asked.append(origin)
        raise Exception("no network here")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(ConnectionError):
        pretrained.download(model_name, tmp_path)
    assert asked == [URLS[model_name]]


def test_what_is_known_of_the_archives_is_pinned():
    assert pretrained.ARCHIVES == {
        "mixnet-s": (30_633_801, None),
        "mixnet-m": (None, None),
        "mixnet-l": (54_302_843, "feb487ed76e46c4a19604172b4227a84db6bfd9449b022e310606525b2bb221f"),
    }


def test_imagenet_weights_are_downloaded_once_and_their_averages_read(
    served, cache, released_archive, monkeypatch, capsys
):
    folder, asked = served
    (folder / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    expected = list(range(len(tiny.listing("mixnet-s")["variables"])))

    model = mixnet_tf.MixNetS(weights="imagenet")
    assert places(model) == expected
    digest = hashlib.sha256(released_archive.read_bytes()).hexdigest()
    assert f"{released_archive.stat().st_size} bytes, sha256 {digest}" in capsys.readouterr().err
    assert sorted(path.name for path in cache.iterdir()) == ["mixnet-s.tar.gz", "mixnet-s.weights.h5"]
    assert asked == ["/mixnet-s.tar.gz"]

    os.remove(cache / "mixnet-s.tar.gz")  # the second call reads the converted file alone
    headless = mixnet_tf.MixNetS(weights="imagenet", include_top=False)
    assert places(headless) == expected[:-2]
    assert asked == ["/mixnet-s.tar.gz"]


def test_two_processes_at_once_both_read_whole_weights(served, cache, released_archive, tmp_path):
    folder, _ = served
    (folder / "mixnet-s.tar.gz").symlink_to(released_archive)
    content = released_archive.read_bytes()
    program = f"""
import sys
from mixnet_tf import MixNetS, pretrained
pretrained.ARCHIVES["mixnet-s"] = pretrained.Archive({len(content)}, {hashlib.sha256(content).hexdigest()!r})
model = MixNetS(weights="imagenet")
print([int(w.numpy().flat[0]) - 2 for layer in model.layers for w in layer.weights])
"""
    root = pathlib.Path(__file__).parent.parent
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(root)},
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
    assert sorted(path.name for path in cache.iterdir()) == ["mixnet-s.tar.gz", "mixnet-s.weights.h5"]


def assert_nothing_stays(cache):
    assert not cache.exists() or list(cache.iterdir()) == []


@pytest.fixture
def small_archive(tmp_path):
    """An archive of the right layout with a checkpoint of something else."""
    return make_archive(tmp_path / "small.tar.gz", {"mixnet-s/checkpoint": b"", "mixnet-s/model.ckpt.index": b""})


def make_archive(path, files=(), members=()):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in dict(files).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


@pytest.mark.parametrize("sized", [True, False], ids=["known size", "unknown size"])
def test_a_truncated_archive_is_refused_and_not_kept(served, cache, released_archive, monkeypatch, sized):
    folder, _ = served
    content = released_archive.read_bytes()
    (folder / "mixnet-s.tar.gz").write_bytes(content[: len(content) // 2])
    monkeypatch.setitem(pretrained.ARCHIVES, "mixnet-s", Archive(len(content) if sized else None))
    message = "expected .* bytes, received" if sized else "cannot be unpacked"
    with pytest.raises(ValueError, match=message):
        pretrained.converted_weights("mixnet-s")
    assert_nothing_stays(cache)


def test_a_download_that_breaks_off_is_refused_and_not_kept(tmp_path, cache, released_archive, monkeypatch):
    class BreaksOff(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            content = released_archive.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:1000])

    with serving(tmp_path, BreaksOff) as (url, _):
        monkeypatch.setenv(pretrained.MIRROR, url)
        with pytest.raises(ConnectionError, match=re.escape(str(cache / "mixnet-s.tar.gz"))):
            pretrained.converted_weights("mixnet-s")
    assert_nothing_stays(cache)


def test_a_wrong_checksum_is_refused_with_both(served, cache, small_archive, monkeypatch):
    folder, _ = served
    content = small_archive.read_bytes()
    (folder / "mixnet-s.tar.gz").write_bytes(content)
    monkeypatch.setitem(pretrained.ARCHIVES, "mixnet-s", Archive(len(content), "0" * 64))
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=f"not the published archive of mixnet-s: expected {'0' * 64}.*{digest}"):
        pretrained.converted_weights("mixnet-s")
    assert_nothing_stays(cache)


def link(kind, target):
    info = tarfile.TarInfo("mixnet-s/model.ckpt.index")
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "absolute path": ({"/tmp/mixnet-s/checkpoint": b"x"}, [], "'/tmp/mixnet-s/checkpoint' leads outside"),
    "parent path": ({"mixnet-s/../../../checkpoint": b"x"}, [], "leads outside"),
    "backslashes": ({"..\\..\\checkpoint": b"x"}, [], "leads outside"),
    "drive": ({"C:checkpoint": b"x"}, [], "leads outside"),
    "symbolic link": ({}, [link(tarfile.SYMTYPE, "/etc/passwd")], "neither a plain file nor a folder"),
    "hard link": ({}, [link(tarfile.LNKTYPE, "mixnet-s/checkpoint")], "neither a plain file nor a folder"),
    "device": ({}, [link(tarfile.CHRTYPE, "")], "neither a plain file nor a folder"),
    "pipe": ({}, [link(tarfile.FIFOTYPE, "")], "neither a plain file nor a folder"),
    "no checkpoint": ({"mixnet-s/readme": b"x"}, [], "holds 0 files named `checkpoint`"),
    "two checkpoints": ({"a/checkpoint": b"x", "b/checkpoint": b"x"}, [], "holds 2 files named `checkpoint`"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(served, cache, tmp_path, monkeypatch, name):
    files, members, message = HOSTILE[name]
    archive = make_archive(served[0] / "mixnet-s.tar.gz", files, members)
    know(monkeypatch, archive)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        pretrained.converted_weights("mixnet-s")
    assert_nothing_stays(cache)
    assert set(tmp_path.rglob("*")) - before <= {cache, *cache.parents}


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for content in (b"a", b"b"):
            info = tarfile.TarInfo("mixnet-s/checkpoint")
            info.size = 1
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ValueError, match="cannot be unpacked"):
        pretrained.extract(path, tmp_path / "out")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_MAX_EXTRACTED", 10**6)
    path = make_archive(tmp_path / "bomb.tar.gz", {"mixnet-s/checkpoint": bytes(5 * 10**6)})
    assert path.stat().st_size < 10**5
    with pytest.raises(ValueError, match="more bytes than any MixNet has"):
        pretrained.extract(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) <= 10**6


def test_the_bound_leaves_room_for_the_largest_network():
    shapes = [row["shape"] for row in tiny.listing("mixnet-l")["variables"]]
    raw_and_averaged = 2 * 4 * sum(int(np.prod(shape)) for shape in shapes)
    assert 4 * raw_and_averaged < pretrained._MAX_EXTRACTED < 20 * raw_and_averaged


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08" + bytes(100)])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match="a.tar.gz cannot be unpacked|holds 0 files"):
        pretrained.extract(tmp_path / "a.tar.gz", tmp_path / "out")


def test_a_checkpoint_of_something_else_is_refused_and_not_kept(served, cache, small_archive, monkeypatch):
    (served[0] / "mixnet-s.tar.gz").write_bytes(small_archive.read_bytes())
    know(monkeypatch, small_archive)
    with pytest.raises((ValueError, FileNotFoundError), match="checkpoint"):
        pretrained.converted_weights("mixnet-s")
    assert_nothing_stays(cache)


def test_without_a_server_the_error_says_where_to_place_the_file(cache, monkeypatch):
    with serving(".") as (url, _):
        pass  # now nobody listens there
    monkeypatch.setenv(pretrained.MIRROR, url + "/")
    with pytest.raises(ConnectionError) as error:
        pretrained.converted_weights("mixnet-s")
    assert f"{url}/mixnet-s.tar.gz could not be downloaded" in str(error.value)
    assert f"place it as {cache / 'mixnet-s.tar.gz'}" in str(error.value)
    assert pretrained.MIRROR in str(error.value)
    assert_nothing_stays(cache)


def test_a_mirror_without_the_file_is_the_same_error(served, cache):
    with pytest.raises(ConnectionError, match="404"):
        pretrained.converted_weights("mixnet-m")
    assert_nothing_stays(cache)


def test_a_file_placed_by_hand_is_checked_and_read_without_a_server(cache, released_archive, monkeypatch):
    with serving(".") as (url, _):
        pass
    monkeypatch.setenv(pretrained.MIRROR, url)
    cache.mkdir(parents=True)
    placed = cache / "mixnet-s.tar.gz"
    placed.write_bytes(b"something else")
    with pytest.raises(ValueError, match=re.escape(f"{placed} is not the published archive")):
        pretrained.converted_weights("mixnet-s")
    assert placed.read_bytes() == b"something else"  # a person's file is not ours to delete
    placed.write_bytes(released_archive.read_bytes())
    know(monkeypatch, released_archive)
    assert pretrained.converted_weights("mixnet-s") == str(cache / "mixnet-s.weights.h5")


def test_the_converted_file_is_float32_under_any_policy(cache, released_archive, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    keras.config.set_dtype_policy("bfloat16")
    try:
        path = pretrained.converted_weights("mixnet-s")
        assert keras.config.dtype_policy().name == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda name, item: found.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert len(found) == 347 and set(found) == {np.dtype("float32")}


def test_imagenet_weights_go_into_a_new_head_where_the_old_one_is_skipped(served, cache, released_archive, monkeypatch):
    (served[0] / "mixnet-s.tar.gz").symlink_to(released_archive)
    know(monkeypatch, released_archive)
    model = mixnet_tf.MixNetS(classes=10)
    head = [weight.numpy() for weight in model.get_layer("head_dense").weights]
    load_weights(model, "imagenet", skip_head=True)
    assert places(model)[:-2] == list(range(345))
    np.testing.assert_equal([weight.numpy() for weight in model.get_layer("head_dense").weights], head)


def test_imagenet_weights_with_another_head_are_refused_before_any_download(served):
    with pytest.raises(ValueError, match="needs classes=1000, received 10; build with include_top=False"):
        mixnet_tf.MixNetS(weights="imagenet", classes=10)
    assert served[1] == []


def test_imagenet_weights_of_another_architecture_are_refused_before_any_download(served):
    with pytest.raises(ValueError, match="none of .*'mixnet-s', 'mixnet-m', 'mixnet-l'"):
        tiny.build_tiny(weights="imagenet")
    assert served[1] == []


@pytest.mark.parametrize("model_name", tiny.VARIANTS)
def test_a_released_network_is_known_by_its_kernels_and_widths(model_name):
    assert pretrained.variant_of(tiny.released(model_name)) == model_name


INDEX = {str(i): [f"n{i:08d}", f"class_{i}"] for i in range(1000)}


@pytest.fixture
def index(monkeypatch):
    """Keras' index of class names, as if it had been downloaded."""
    decode = keras.applications.imagenet_utils.decode_predictions
    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", INDEX)


def test_predictions_decode_to_the_most_probable_names(index):
    preds = np.zeros((2, 1000), "float32")
    preds[0, [388, 362, 387]] = 0.9, 0.05, 0.04
    preds[1, 5] = 1
    first, second = mixnet_tf.decode_predictions(preds, top=3)
    assert [(identity, name) for identity, name, _ in first] == [tuple(INDEX[i]) for i in ("388", "362", "387")]
    np.testing.assert_allclose([value for *_, value in first], [0.9, 0.05, 0.04], rtol=1e-6)
    assert second[0][1] == "class_5" and len(second) == 3


def test_five_names_are_given_unless_more_are_asked_for(index):
    preds = keras.ops.softmax(keras.ops.reshape(keras.ops.arange(1000, dtype="float32"), (1, 1000)))
    assert [name for _, name, _ in mixnet_tf.decode_predictions(preds)[0]] == [
        f"class_{i}" for i in range(999, 994, -1)
    ]


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 1, 1000)])
def test_predictions_of_another_shape_are_refused(index, shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 1000\) predictions, received shape"):
        mixnet_tf.decode_predictions(np.zeros(shape))


@pytest.mark.parametrize("top", [0, -1, 1001, 2.0, None, True])
def test_a_top_out_of_range_is_refused(index, top):
    with pytest.raises(ValueError, match="expected top from 1 to 1000"):
        mixnet_tf.decode_predictions(np.zeros((1, 1000)), top=top)


def test_without_the_index_the_error_says_where_to_place_it(cache, monkeypatch):
    decode = keras.applications.imagenet_utils.decode_predictions

    def get_file(*_, **__):
        raise Exception("URL fetch failure")

    monkeypatch.setitem(decode.__globals__, "CLASS_INDEX", None)
    monkeypatch.setattr(decode.__globals__["file_utils"], "get_file", get_file)
    with pytest.raises(ConnectionError, match=f"URL fetch failure\nPlace imagenet_class_index.json in {cache.parent}"):
        mixnet_tf.decode_predictions(np.zeros((1, 1000)))


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


def test_verification_downloads_converts_and_compares(script, served, cache, released_archive, monkeypatch, capsys):
    folder, asked = served
    (folder / "mixnet-s.tar.gz").symlink_to(released_archive)
    (folder / "panda.jpg").write_bytes(JPEG)
    know(monkeypatch, released_archive)
    monkeypatch.setattr(script, "VARIANTS", ["mixnet-s"])
    monkeypatch.setattr(script, "PHOTOGRAPH", f"{os.environ[pretrained.MIRROR]}/panda.jpg")
    monkeypatch.setattr(script, "PHOTOGRAPH_SIZE", len(JPEG))
    cache.mkdir(parents=True)
    (cache / "mixnet-s.weights.h5").write_bytes(b"an older conversion, which would hide what the archive holds")
    flags.FLAGS.mark_as_parsed()
    with pytest.raises(ValueError, match="further than"):  # the values are ours, so the answer is another one
        script.main()
    said = capsys.readouterr()
    assert "mixnet-s: all 347 variables were read." in said.out
    assert hashlib.sha256(released_archive.read_bytes()).hexdigest() in said.err
    assert asked == ["/mixnet-s.tar.gz", "/panda.jpg"]

    compared = []
    monkeypatch.setattr(script, "verify_answer", lambda *arguments: compared.append(arguments))
    assert script.main() == 0
    [(model, image_bytes)] = compared
    assert places(model) == list(range(347)) and image_bytes == JPEG
    assert asked == ["/mixnet-s.tar.gz", "/panda.jpg", "/panda.jpg"]  # the archive is cached by now


def test_verification_names_a_variable_that_was_not_read(script, cache, monkeypatch):
    model = mixnet_tf.MixNetS()  # a fresh one: its gammas are still 1
    for weight in model.weights:
        if weight.name != "gamma":
            weight.assign(np.full(weight.shape, 2, "float32"))
    model.save_weights(cache.parent.parent.parent / "m.weights.h5")
    monkeypatch.setattr(script, "converted_weights", lambda _: str(cache.parent.parent.parent / "m.weights.h5"))
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
