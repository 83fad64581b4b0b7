"""What the page does while models load and fail, in Node with a LiteRT.js and a document that only keep count."""

import json
import shutil
import subprocess

import pytest
from scripts import ROOT

_NODE = shutil.which("node")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_NODE is None, reason="needs Node.js")]

# Models take some time to load; one that is deleted cannot be used or deleted again. The answer is the last class.
_LITERT = """
export const seen = {live: 0, errors: [], types: []};
const wait = () => new Promise((resolve) => setTimeout(resolve, 5));
const check = (fine, message) => { if (!fine) { seen.errors.push(message); throw new Error(message); } };
export class Tensor {
  constructor(values) { this.values = values; }
  async data() { return this.values; }
  delete() {}
}
export async function loadLiteRt() {}
export async function supportsFeature() { return true; }
export async function loadAndCompile(path, options) {
  await wait();
  if (options.accelerator === 'webgpu' && !navigator.gpu) throw new Error('no WebGPU');
  if (path.includes('damaged')) throw new Error('no TFLite file');
  const dtype = path.includes('int8_full') ? 'uint8' : 'float32';
  let deleted = false;
  seen.live += 1;
  const details = [{shape: [1, 2, 2, 3], dtype}];
  return {
    path,
    options,
    isFullyAccelerated: !path.includes('partly'),
    getInputDetails: () => details,
    getOutputDetails: () => details,
    async run([tensor]) {
      check(!deleted, 'run after delete');
      const kind = dtype === 'uint8' ? Uint8Array : Float32Array;
      if (!(tensor.values instanceof kind)) throw new Error(`expected ${dtype}`);
      await wait();
      check(!deleted, 'deleted while it ran');
      seen.types.push([...tensor.values].slice(0, 3));
      return [new Tensor(dtype === 'uint8' ? Uint8Array.of(64, 192) : Float32Array.of(0.25, 0.75))];
    },
    delete() {
      check(!deleted, 'deleted twice');
      deleted = true;
      seen.live -= 1;
    },
  };
}
"""
_DRIVER = """
const listeners = {};
const element = (id) => ({
  id, textContent: '', hidden: false, style: {}, files: [], tBodies: [{replaceChildren() {}}], classList: {toggle() {}},
  replaceChildren(...options) { this.value = options[0]?.value; }, append() {}, setAttribute() {},
  insertCell() { return element(); },
  getContext: () => ({putImageData() {}}),
  addEventListener(kind, act) { listeners[`${id} ${kind}`] = act; },
});
const elements = {accelerator: {...element('accelerator'), value: 'wasm'}};
globalThis.window = {};
const gpu = process.argv[3] === 'gpu' ? {requestAdapter: async () => ({})} : undefined;
Object.defineProperty(globalThis, 'navigator', {value: {gpu}, configurable: true}); // newer Node.js has one
globalThis.document = {
  getElementById: (id) => (elements[id] ??= element(id)), createElement: element, addEventListener() {},
};
globalThis.Option = function (name) { this.value = name; };
globalThis.ImageData = function (size) { this.data = new Uint8ClampedArray(4 * size * size); };
globalThis.fetch = async (path) => ({
  json: async () => ({interpolation: "bilinear", files: [process.argv[2]]}), text: async () => 'cat\\ndog\\n',
});
process.on('unhandledRejection', (error) => { seen.errors.push(`unhandled: ${error.message}`); });
const {seen} = await import('@litertjs/core');
await import('./app.js');
const {mixnet} = globalThis.window;
const status = () => elements.status.textContent;
const choose = (value, id = 'model') => { elements[id].value = value; listeners[`${id} change`](); };
const settle = () => new Promise((resolve) => setTimeout(resolve, 300));
const out = {};
try { await mixnet.ready; } catch (error) { out.ready = error.message; }
SCENE
await settle();
console.log(JSON.stringify({...out, ...seen, status: status()}));
process.exit(0);
"""


def page(folder, scene, first="a_fp32.tflite", gpu=False):
    """What is to be seen after a scene on the page: its status, models alive, errors and what models were given.

    `gpu` is whether the browser has a GPU.
    """
    core = folder / "node_modules" / "@litertjs" / "core"
    core.mkdir(parents=True)
    (core / "index.js").write_text(_LITERT)
    (core / "package.json").write_text('{"type": "module", "main": "index.js"}')
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(ROOT / "examples" / "web" / "app.js", folder)
    pixels = (
        "export const preprocess = async () => Float32Array.from({length: 12}, (_, place) => 254.4 + (place % 3) / 4);"
    )
    (folder / "preprocess.js").write_text(pixels)
    (folder / "driver.js").write_text(_DRIVER.replace("SCENE", scene))
    command = [_NODE, "driver.js", first, "gpu" if gpu else "no gpu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


_SHOW = "listeners['file change']({target: {files: [{}]}});"


def test_an_int8_full_file_is_given_bytes_and_its_answer_read_as_probabilities(tmp_path):
    found = page(tmp_path, _SHOW, first="a_int8_full.tflite")
    assert found["errors"] == [] and "ready" not in found
    assert found["status"].startswith("dog, 75.0%, in ")
    assert found["types"][-1] == [254, 255, 255]  # rounded, and never past the largest


def test_a_float_file_is_given_floats(tmp_path):
    found = page(tmp_path, _SHOW)
    assert found["errors"] == [] and found["status"].startswith("dog, 75.0%, in ")
    assert found["types"][-1] == pytest.approx([254.4, 254.65, 254.9], abs=1e-3)


def test_models_that_are_switched_quickly_are_deleted_once_and_one_is_left(tmp_path):
    scene = f"{_SHOW} choose('b_fp32.tflite'); choose('c_fp32.tflite'); choose('d_fp32.tflite'); {_SHOW}"
    found = page(tmp_path, scene)
    assert found["errors"] == [] and found["live"] == 1 and found["status"].startswith("dog")


def test_a_model_is_not_deleted_while_it_classifies(tmp_path):
    found = page(tmp_path, f"{_SHOW} await new Promise((resolve) => setTimeout(resolve, 2)); choose('b_fp32.tflite');")
    assert found["errors"] == [] and found["live"] == 1


def test_a_model_that_cannot_be_loaded_is_said_and_another_can_be_chosen(tmp_path):
    found = page(tmp_path, "choose('damaged.tflite'); await settle(); out.between = status(); choose('b_fp32.tflite');")
    assert found["between"] == "The model could not be loaded: no TFLite file"
    assert found["errors"] == [] and found["live"] == 1 and found["status"] == "Ready."


def test_an_image_that_no_model_is_there_for_is_said(tmp_path):
    found = page(tmp_path, f"choose('damaged.tflite'); await settle(); {_SHOW}")
    assert found["status"] == "This image could not be classified: no model is loaded" and found["errors"] == []


def test_the_status_says_whether_the_model_ran_on_the_cpu_or_the_gpu(tmp_path):
    scene = (
        f"{_SHOW} await settle(); out.before = status(); choose('webgpu', 'accelerator'); await settle();"
        "out.gpu = status(); choose('partly_fp32.tflite'); await settle(); out.partly = status();"
        "choose('wasm', 'accelerator'); out.disabled = Boolean(elements.gpu?.disabled);"
    )
    found = page(tmp_path, scene, gpu=True)
    assert found["before"].endswith(" ms on the CPU") and found["gpu"].endswith(" ms on the GPU")
    assert found["partly"].endswith(" ms on the GPU and the CPU") and found["status"].endswith(" ms on the CPU")
    assert found["errors"] == [] and found["live"] == 1 and not found["disabled"]


def test_without_a_gpu_it_cannot_be_chosen(tmp_path):
    found = page(tmp_path, "out.disabled = elements.gpu.disabled; out.name = elements.gpu.textContent;")
    assert found["disabled"] is True and found["name"] == "GPU (this browser has none)" and found["status"] == "Ready."
