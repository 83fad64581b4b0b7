"""How the page resizes images, in Node: bilinear bit for bit as TensorFlow 1, bicubic within a level of ours."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from scripts import ROOT

from mixnet_tf.data import preprocess_for_eval
from mixnet_tf.networks import GOOGLES, TIMMS

_NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(_NODE is None, reason="needs Node.js")
# The page's own `preprocess`, given pixels by a browser that does not have to decode a file.
_DRIVER = """
import fs from 'fs';
const [width, height, size, settings] = JSON.parse(process.argv[2]);
const data = new Uint8ClampedArray(fs.readFileSync('pixels'));
globalThis.createImageBitmap = async () => ({width, height, close() {}});
globalThis.OffscreenCanvas = class {
  getContext() { return {drawImage() {}, getImageData: () => ({data})}; }
};
const {preprocess} = await import('./preprocess.js');
fs.writeFileSync('found', Buffer.from((await preprocess({}, size, settings)).buffer));
"""


@pytest.mark.parametrize("resizing", [TIMMS, TIMMS.given(crop_padding=32), TIMMS.given(crop=False), GOOGLES])
def test_the_page_prepares_what_preprocess_for_eval_prepares(resizing, tmp_path):
    height, width, size = 61, 100, 33  # offsets of half a pixel
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), "uint8")
    pixels[..., 3] = 255
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "driver.js").write_text(_DRIVER)
    shutil.copy(ROOT / "examples" / "web" / "preprocess.js", tmp_path)
    arguments = json.dumps([width, height, size, {**resizing._asdict(), "exif": True}])
    done = subprocess.run([_NODE, "driver.js", arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = np.frombuffer((tmp_path / "found").read_bytes(), "float32").reshape(size, size, 3)
    expected = preprocess_for_eval(tf.io.encode_png(pixels[..., :3]), size, resizing).numpy()
    if resizing == GOOGLES:
        np.testing.assert_array_equal(found, expected)
    assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.99
