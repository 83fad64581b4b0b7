"""A local server that stands in for Google's, and archives in the form of the published ones."""

import contextlib
import functools
import hashlib
import http.server
import io
import socketserver
import tarfile
import tempfile
import threading

import numpy as np
import tiny

from mixnet_tf.weights import google
from mixnet_tf.weights.archives import extract
from mixnet_tf.weights.official import read_official_checkpoint
from mixnet_tf.weights.timm import read_timm_file


@contextlib.contextmanager
def serving(folder, handler=http.server.SimpleHTTPRequestHandler):
    """The URL of a local server of a folder's files, and a list of the paths that were requested."""
    asked = []

    class Handler(handler):
        def log_message(self, form, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        with _running(server) as url:
            yield url, asked


@contextlib.contextmanager
def silent_server(seconds=4):
    """The URL of a server that does not answer for some seconds, and a list of the connections that it accepted."""
    taken, over = [], threading.Event()

    class Silent(socketserver.BaseRequestHandler):
        def handle(self):
            taken.append(self.client_address)
            over.wait(seconds)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        with _running(server) as url:
            try:
                yield url, taken
            finally:
                over.set()


@contextlib.contextmanager
def _running(server):
    """The URL of a server that runs in another thread."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()


class LoginPage(http.server.BaseHTTPRequestHandler):
    """Answers every request with HTML and status 200, as the login page of a network does."""

    def __init__(self, *arguments, directory):
        super().__init__(*arguments)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"\n<!DOCTYPE html><html><body>Welcome! Please log in.</body></html>")


def know(monkeypatch, archive, model_name="mixnet-s"):
    """Takes the size and checksum of a file for those of the published archive."""
    content = archive.read_bytes()
    monkeypatch.setitem(google.ARCHIVES, model_name, google.Archive(len(content), hashlib.sha256(content).hexdigest()))


def make_archive(path, files=(), members=()):
    """Writes a .tar.gz of files by name and of further members, and returns its path."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in dict(files).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


def write_released_archive(folder):
    """Writes a mixnet-s.tar.gz in which each variable is filled with its position plus 2, which is no initial value."""
    rows = tiny.listing("mixnet-s")["variables"]
    averages = {row["name"]: np.full(row["shape"], place + 2, "float32") for place, row in enumerate(rows)}
    return write_archive(folder, "mixnet-s", averages)


def write_archive(folder, model_name, averages):
    """Writes a network's .tar.gz in the published form, from moving averages by variable name."""
    inside = folder / model_name
    inside.mkdir()
    arrays = {name: np.full_like(average, -1) for name, average in averages.items()}
    arrays |= {name + "/ExponentialMovingAverage": average for name, average in averages.items()}
    tiny.write_checkpoint(inside / "model.ckpt", {**arrays, "global_step": np.int64(437_898)})
    (inside / "checkpoint").write_text('model_checkpoint_path: "/published/elsewhere/model.ckpt"\n')
    path = folder / f"{model_name}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(inside, model_name)
    return path


def write_as_timm(archive, path):
    """Converts such a mixnet-s.tar.gz to timm's model.safetensors, and returns its path."""
    import safetensors.numpy

    names = read_timm_file(tiny.GOLDEN / "timm-tiny" / "tf_mixnet_s.npz").names  # as those of every width
    with tempfile.TemporaryDirectory() as folder:
        read = read_official_checkpoint(extract(archive, folder))
    to_theirs = {"kernel": (3, 2, 0, 1), "depthwise_kernel": (2, 3, 0, 1)}
    arrays = {}
    for key, array in read.arrays.items():
        axes = to_theirs.get(key[3])
        arrays[names[key]] = array.T if array.ndim == 2 else array if axes is None else array.transpose(axes)
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def places(model):
    """The position of the variable that each weight of a model was read from, in the order of computation."""
    return [int(weight.numpy().flat[0]) - 2 for layer in model.layers for weight in layer.weights]
