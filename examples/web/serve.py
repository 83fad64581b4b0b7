"""Copies a run's exported files into this folder, and serves the web page on this machine.

python examples/web/serve.py --model_dir=runs/demo

Needs LiteRT.js in this folder: npm ci --prefix examples/web
"""

import functools
import http.server
import os
import pathlib
import shutil

from absl import flags

from mixnet_tf.commands import process
from mixnet_tf.data import label_names
from mixnet_tf.errors import InputError, MissingFileError
from mixnet_tf.files import write_json
from mixnet_tf.networks import class_names
from mixnet_tf.saved_models import open_model

_HERE = pathlib.Path(__file__).parent
_MODEL = _HERE / "model"


def define_flags():
    flags.DEFINE_string("model_dir", "runs/demo", "The training run of a classifier; its exported files are served.")
    flags.DEFINE_string("export_dir", None, "Folder of the exported files; by default MODEL_DIR/export.")
    flags.DEFINE_integer("port", 8000, "Port of the page.", lower_bound=0)
    flags.DEFINE_bool("serve", True, "Whether to serve the page; if not, only its model is copied.")


def main(screen):
    """Serves the page until it is interrupted; returns the exit code."""
    values = flags.FLAGS
    if not (_HERE / "node_modules" / "@litertjs" / "core").is_dir():
        raise MissingFileError("LiteRT.js is not installed: npm ci --prefix examples/web")
    prepare(values.model_dir, values.export_dir or os.path.join(values.model_dir, "export"))
    if not values.serve:
        return 0
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(_HERE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", values.port), handler) as server:
        screen.say(f"http://localhost:{server.server_port}/ until Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0


def prepare(model_dir, export_dir):
    """Copies exported files and labels.txt into `model`, and writes model.json there.

    Raises:
        FileNotFoundError: If there is no run, or if nothing was exported.
        ValueError: If the model is a detector.
    """
    opened = open_model(model_dir=model_dir)
    if len(opened.model.outputs) != 1:
        raise InputError(f"model_dir: {model_dir} holds a detector; the page shows classes.")
    files = sorted(pathlib.Path(export_dir).glob("*.tflite"))
    if not files:
        raise MissingFileError(f"{export_dir} holds no .tflite file; make one with export_tflite.py.")
    shutil.rmtree(_MODEL, ignore_errors=True)
    _MODEL.mkdir()
    for file in files:
        shutil.copy(file, _MODEL)
    classes = opened.config.num_label_classes
    names = label_names(classes, None, class_names(opened.model)) or range(classes)
    (_MODEL / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    resizing = opened.resizing(opened.config.dataset)
    prepared = {**resizing._asdict(), "exif": opened.rules.exif}
    write_json(_MODEL / "model.json", {**prepared, "files": [file.name for file in files]})


if __name__ == "__main__":
    process.run(main, define_flags)
