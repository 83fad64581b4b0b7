import {Tensor, loadAndCompile, loadLiteRt, supportsFeature} from '@litertjs/core';
import {preprocess} from './preprocess.js';

const SHOWN = 5; // classes
const find = (id) => document.getElementById(id);
const say = (text) => { find('status').textContent = text; };

let model, labels, settings; // the compiled .tflite, the names of its classes, model/model.json
let chosen, last; // {file, accelerator} and the image that were chosen last; a new model classifies the image again
let work = Promise.resolve(); // a model is neither deleted nor run while it is in use
const afterwards = (task) => (work = work.then(task, task));

/**
 * Classifies an image file.
 * @param {Blob} blob An image in a format that the browser decodes.
 * @return {Promise<{probabilities: Float32Array, input: Float32Array, milliseconds: number}>} One probability per class;
 *     the input of the model, RGB from 0 to 255; and the run time of the model alone.
 */
async function classify(blob) {
  if (!model) throw new Error('no model is loaded');
  const size = model.getInputDetails()[0].shape[1];
  const input = await preprocess(blob, size, settings);
  const start = performance.now();
  const probabilities = await run(input, size);
  return {probabilities, input, milliseconds: performance.now() - start};
}

async function run(input, size) {
  const bytes = model.getInputDetails()[0].dtype === 'uint8'; // int8_full: takes the pixels' own values
  const tensor = new Tensor(bytes ? Uint8Array.from(input, Math.round) : input, [1, size, size, 3]);
  const [output] = await model.run([tensor]);
  const answer = await output.data();
  const scale = answer instanceof Uint8Array ? 1 / 256 : 1; // the scale of every uint8 softmax in TFLite
  const probabilities = Float32Array.from(answer, (value) => value * scale);
  tensor.delete(); // WebAssembly's memory is not garbage-collected
  output.delete();
  return probabilities;
}

function show(blob) {
  last = blob;
  return afterwards(() => blob === last && answer(blob));
}

async function answer(blob) {
  try {
    const {probabilities, input, milliseconds} = await classify(blob);
    draw(input);
    const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, SHOWN);
    find('top').tBodies[0].replaceChildren(...order.map((number) => row(labels[number], probabilities[number])));
    find('top').hidden = false;
    say(`${labels[order[0]]}, ${percent(probabilities[order[0]])}, in ${milliseconds.toFixed(1)} ms on the ${place()}`);
  } catch (error) {
    say(`This image could not be classified: ${error.message}`);
  }
}

const percent = (value) => `${(100 * value).toFixed(1)}%`;

function row(name, probability) {
  const line = document.createElement('tr');
  const bar = document.createElement('span');
  bar.className = 'bar';
  bar.style.width = `${65 * probability}%`;
  line.insertCell().textContent = name;
  line.insertCell().append(bar, percent(probability));
  return line;
}

function draw(input) {
  const size = Math.sqrt(input.length / 3);
  const canvas = find('seen');
  const image = new ImageData(size, size);
  for (let place = 0; place < size * size; ++place) {
    for (let channel = 0; channel < 3; ++channel) image.data[4 * place + channel] = Math.round(input[3 * place + channel]);
    image.data[4 * place + 3] = 255;
  }
  canvas.width = canvas.height = size;
  canvas.getContext('2d').putImageData(image, 0, 0);
  canvas.hidden = false;
}

function open(file = find('model').value, accelerator = find('accelerator').value) {
  const choice = chosen = {file, accelerator};
  return afterwards(() => choice === chosen && load(choice)); // only the last of those that wait
}

async function load({file, accelerator}) {
  say('Loading the model ...');
  close();
  try {
    model = await loadAndCompile(`model/${file}`, {accelerator});
    const size = model.getInputDetails()[0].shape[1];
    await run(new Float32Array(3 * size * size), size); // the first run takes longer than the others
  } catch (error) {
    close();
    say(`The model could not be loaded: ${error.message}`);
    return;
  }
  say('Ready.');
  if (last) await answer(last);
}

/** Where the model runs. LiteRT.js leaves what WebGPU refuses to the CPU. */
function place() {
  if (model.options.accelerator !== 'webgpu') return 'CPU';
  return model.isFullyAccelerated ? 'GPU' : 'GPU and the CPU';
}

function close() {
  model?.delete();
  model = undefined;
}

async function toggleCamera() {
  const video = find('video');
  if (video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  } else {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
      await video.play();
    } catch (error) {
      say(`There is no camera to use: ${error.message}`);
      return;
    }
  }
  const on = video.srcObject !== null;
  video.hidden = find('shoot').hidden = !on;
  find('camera').textContent = on ? 'Stop the camera' : 'Use the camera';
  find('camera').setAttribute('aria-pressed', String(on));
}

async function shoot() {
  const video = find('video');
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext('2d').drawImage(video, 0, 0);
  await show(await canvas.convertToBlob({type: 'image/png'}));
}

function listen() {
  find('file').addEventListener('change', (event) => event.target.files[0] && show(event.target.files[0]));
  for (const id of ['model', 'accelerator']) find(id).addEventListener('change', () => open());
  find('camera').addEventListener('click', toggleCamera);
  find('shoot').addEventListener('click', shoot);
  const drop = find('drop');
  for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // otherwise the browser opens the image in place of the page
      drop.classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
      if (kind === 'drop' && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
    });
  }
}

async function start() {
  try {
    settings = await (await fetch('model/model.json')).json();
    labels = (await (await fetch('model/labels.txt')).text()).trimEnd().split('\n');
    find('model').replaceChildren(...settings.files.map((file) => new Option(file)));
    if (!await navigator.gpu?.requestAdapter()) {
      find('gpu').disabled = true;
      find('gpu').textContent = 'GPU (this browser has none)';
    }
    // Without JSPI, which lets WebAssembly wait for the GPU, the inputs and outputs of int8_full fail there.
    await loadLiteRt('node_modules/@litertjs/core/wasm/', {jspi: await supportsFeature('jspi')});
    listen();
    await open();
  } catch (error) {
    say(`The model could not be loaded: ${error.message}`);
    throw error;
  }
}

// For tests: functions behind the page.
window.mixnet = {classify, open, ready: start()};
