"""The page that classifies in the browser, in headless Chromium: pixels, answers, and what a person does with it.

Needs what `make web` installs, Chromium and playwright; elsewhere the tests are skipped.
"""

import base64
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from photographs import turned
from scripts import ROOT
from weights_server import serving

from mixnet_tf.data import NEWEST, UPRIGHT, load_split, preprocess_for_eval
from mixnet_tf.export import runtime
from mixnet_tf.networks import GOOGLES, TIMMS

_PAGE = ROOT / "examples" / "web"
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = ("no-sandbox", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")
_GPU_FLAG = "enable-unsafe-webgpu"  # WebGPU on SwiftShader, which computes in float32
_CLASSIFY = """async (encoded) => {
  const blob = await (await fetch(`data:image/png;base64,${encoded}`)).blob();
  const {probabilities, input} = await window.mixnet.classify(blob);
  return [[...probabilities], [...input]];
}"""
_PREPROCESS = """async ([encoded, size, settings]) => {
  const {preprocess} = await import('./preprocess.js');
  const blob = await (await fetch(`data:image/png;base64,${encoded}`)).blob();
  return [...await preprocess(blob, size, settings)];
}"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(_CHROMIUM is None, reason="needs Debian's chromium"),
    pytest.mark.skipif(not (_PAGE / "node_modules").exists(), reason="needs LiteRT.js: npm ci --prefix examples/web"),
]


def _settings(resizing, exif=False):
    return {**resizing._asdict(), "exif": exif}


@pytest.fixture(scope="module")
def site(exported, tmp_path_factory):
    """A copy of the page with the exported digits, and its address."""
    folder, _ = exported
    root = tmp_path_factory.mktemp("site")
    for file in ("index.html", "app.js", "preprocess.js", "style.css"):
        shutil.copy(_PAGE / file, root)
    os.symlink(_PAGE / "node_modules", root / "node_modules")
    (root / "model").mkdir()
    files = sorted(path for path in folder.glob("*.tflite") if path.stem.endswith(("fp32", "int8", "int8_full")))
    for path in files:
        shutil.copy(path, root / "model")
    (root / "model" / "labels.txt").write_text("".join(f"digit {number}\n" for number in range(10)))
    names = {**_settings(GOOGLES.given(crop=False)), "files": [path.name for path in files]}
    (root / "model" / "model.json").write_text(json.dumps(names))
    with serving(root) as (url, asked):
        yield url, files, asked


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        args = [f"--{flag}" for flag in (*_FLAGS, _GPU_FLAG)]
        started = driver.chromium.launch(executable_path=_CHROMIUM, args=args)
        yield started
        started.close()


@pytest.fixture
def page(browser, site):
    """The page, loaded; it asked nobody else for anything."""
    opened, elsewhere = browser.new_page(), []
    opened.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((site[0], "data:", "blob:")) else 0)
    opened.goto(site[0])
    opened.evaluate("window.mixnet.ready")
    yield opened
    assert elsewhere == []
    opened.close()


def _base64(content):
    return base64.b64encode(content).decode()


def _png(*shape):
    return tf.io.encode_png(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)).numpy()


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 1), (61, 47, 3), (300, 401, 3), (64, 64, 4), (3, 5, 3)])
def test_the_model_is_given_what_preprocess_for_eval_gives(shape, crop, page):
    png = _png(*shape)
    for size in (48, 224):
        expected = preprocess_for_eval(tf.constant(png), size, crop).numpy()
        found = np.float32(page.evaluate(_PREPROCESS, [_base64(png), size, _settings(GOOGLES.given(crop))]))
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("resizing", [TIMMS, TIMMS.given(crop_padding=32), TIMMS.given(crop=False)])
@pytest.mark.parametrize("shape", [(61, 47, 3), (300, 401, 3)])
def test_bicubic_images_are_those_of_preprocess_for_eval(shape, resizing, page):
    png = _png(*shape)
    expected = preprocess_for_eval(tf.constant(png), 48, resizing).numpy()
    found = np.float32(page.evaluate(_PREPROCESS, [_base64(png), 48, _settings(resizing)])).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.99


@pytest.mark.parametrize("exif", [False, True])
def test_a_photograph_is_turned_as_the_run_does_and_differs_by_its_decoder_alone(exif, page, photographs):
    with open(photographs["china.jpg"], "rb") as file:
        stored = file.read()
    pixels = tf.io.decode_jpeg(stored, channels=3, dct_method="INTEGER_ACCURATE")
    for content, is_turned in ((stored, False), (turned(stored, 6, ">"), exif)):
        upright = tf.io.encode_png(tf.image.rot90(pixels, 3) if is_turned else pixels)
        expected = preprocess_for_eval(upright, 224).numpy()
        found = np.float32(page.evaluate(_PREPROCESS, [_base64(content), 224, _settings(GOOGLES, exif)])).reshape(
            expected.shape
        )
        np.testing.assert_array_equal(found, expected)
        ours = preprocess_for_eval(tf.constant(content), 224, rules=UPRIGHT if exif else NEWEST)
        assert np.abs(found - ours).max() <= 15  # TensorFlow's default is INTEGER_FAST


def test_top_1_of_32_digits_is_keras_and_int8_is_litert_in_python(page, site, trained, data_dir):
    _, files, _ = site
    examples = load_split("digits", data_dir, False).read(None, 0, 1).take(32)
    encoded = [example["image"] for example in examples.as_numpy_iterator()]
    for path in files:
        page.evaluate("file => window.mixnet.open(file)", path.name)
        size = trained.input_shape[1]
        images = np.stack([preprocess_for_eval(tf.constant(png), size, False).numpy() for png in encoded])
        answers = [page.evaluate(_CLASSIFY, _base64(png)) for png in encoded]
        found, inputs = (np.float32(column) for column in zip(*answers, strict=True))
        np.testing.assert_array_equal(inputs.reshape(images.shape), images)
        native = runtime.predict(path.read_bytes(), images)
        np.testing.assert_allclose(found, native, rtol=0, atol=1e-5 if path.stem.endswith("fp32") else 0)
        if path.stem.endswith("fp32"):
            np.testing.assert_array_equal(found.argmax(-1), np.argmax(trained.predict(images, verbose=0), -1))


@pytest.mark.parametrize("name", ["fp32", "int8", "int8_full"])
def test_on_a_gpu_top_1_of_32_digits_is_the_cpus(name, page, site, data_dir):
    _, files, _ = site
    [path] = [path for path in files if path.stem.endswith(f"_{name}")]
    examples = load_split("digits", data_dir, False).read(None, 0, 1).take(32)
    encoded = [_base64(example["image"]) for example in examples.as_numpy_iterator()]
    answers = {}
    for accelerator in ("wasm", "webgpu"):
        page.evaluate("([file, accelerator]) => window.mixnet.open(file, accelerator)", [path.name, accelerator])
        assert page.inner_text("#status") == "Ready."
        answers[accelerator] = np.float32([page.evaluate(_CLASSIFY, png)[0] for png in encoded])
    same = (answers["webgpu"].argmax(-1) == answers["wasm"].argmax(-1)).mean()
    if name == "fp32":
        np.testing.assert_allclose(answers["webgpu"], answers["wasm"], rtol=0, atol=1e-5)
        assert same == 1
    else:  # computed in floats there
        assert same >= 0.95


def test_a_person_chooses_the_gpu_and_sees_how_long_it_takes(page, site, data_dir, tmp_path):
    [example] = load_split("digits", data_dir, False).read(None, 0, 1).take(1).as_numpy_iterator()
    (tmp_path / "digit.png").write_bytes(example["image"])
    page.set_input_files("#file", tmp_path / "digit.png")
    said = "document.getElementById('status').textContent"
    page.wait_for_function(f"/^digit \\d, .*%, in [\\d.]+ ms on the CPU$/.test({said})")
    before = page.inner_text("#status").partition(",")[0]
    page.focus("#accelerator")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(f"/^digit \\d, .*%, in [\\d.]+ ms on the GPU$/.test({said})")
    assert page.inner_text("#status").partition(",")[0] == before


def test_a_browser_without_webgpu_keeps_to_the_cpu(browser, site):
    started = browser.browser_type.launch(executable_path=_CHROMIUM, args=[f"--{flag}" for flag in _FLAGS])
    opened = started.new_page()
    opened.goto(site[0])
    opened.evaluate("window.mixnet.ready")
    assert opened.inner_text("#status") == "Ready." and opened.is_disabled("#gpu")
    started.close()


def test_a_person_chooses_a_file_and_another_model_by_the_keyboard_alone(page, site, data_dir, tmp_path):
    [example] = load_split("digits", data_dir, False).read(None, 0, 1).take(1).as_numpy_iterator()
    (tmp_path / "digit.png").write_bytes(example["image"])
    assert page.inner_text("#status") == "Ready."
    page.set_input_files("#file", tmp_path / "digit.png")
    page.wait_for_selector("#top tbody tr:nth-child(5)")
    assert page.inner_text("#status").startswith("digit ")
    assert page.inner_text("#top tbody tr:first-child td").startswith("digit ")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"file", "model", "accelerator", "camera"} <= set(reached)
    page.focus("#model")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('digit ')")
    assert page.input_value("#model") == site[1][1].name
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    page.wait_for_function("document.getElementById('status').textContent.includes('could not be classified')")


def test_nothing_is_wider_than_a_phone(browser, site):
    phone = browser.new_page(viewport={"width": 360, "height": 740})
    phone.goto(site[0])
    phone.evaluate("window.mixnet.ready")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    phone.close()
