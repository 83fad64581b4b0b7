// Turns an image file into the model's input as mixnet_tf.data.preprocess_for_eval does for PNG and BMP: bilinear bit for
// bit, bicubic as Pillow, within a grey level.
// JPEG differs by a few of 255: Chromium decodes as TensorFlow's INTEGER_ACCURATE does; TensorFlow defaults to INTEGER_FAST.

/**
 * The pixels of an image file: not converted between color spaces, transparency ignored, as mixnet_tf.data.decode_image
 * gives them.
 * @param {Blob} blob The file.
 * @param {boolean} exif Whether a JPEG is turned as its EXIF orientation says.
 * @return {Promise<{data: Uint8ClampedArray | Uint8Array, width: number, height: number}>} RGBA, of which A is unused.
 */
export async function decode(blob, exif) {
  const file = exif ? blob : await withoutExif(blob);
  const bitmap = await createImageBitmap(file, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  const {width, height} = bitmap;
  try {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(bitmap, 0, 0);
    const {data} = context.getImageData(0, 0, width, height);
    for (let place = 3; place < data.length; place += 4) {
      // A 2D canvas multiplies colors by alpha, so they are lost where alpha is 0.
      if (data[place] < 255) return {data: readWithWebGL(bitmap), width, height};
    }
    return {data, width, height};
  } finally {
    bitmap.close();
  }
}

/** A JPEG file without its EXIF segments, by which browsers turn it whatever they are asked; other files as they are. */
async function withoutExif(blob) {
  const bytes = new DataView(await blob.arrayBuffer());
  const START = 0xffd8, APP1 = 0xffe1, SCAN = 0xffda; // markers
  if (bytes.byteLength < 4 || bytes.getUint16(0) !== START) return blob;
  const kept = [blob.slice(0, 2)];
  let at = 2;
  while (at + 4 <= bytes.byteLength && bytes.getUint8(at) === 0xff && bytes.getUint16(at) !== SCAN) {
    const end = at + 2 + bytes.getUint16(at + 2);
    if (bytes.getUint16(at) !== APP1) kept.push(blob.slice(at, end));
    at = end;
  }
  return new Blob([...kept, blob.slice(at)], {type: 'image/jpeg'});
}

function readWithWebGL(bitmap) {
  const {width, height} = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext('webgl2');
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    throw new Error('An image with transparency needs WebGL2, and has to fit into its textures.');
  }
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return data;
}

/**
 * The center square that is evaluated, or the whole image.
 * @param {number} width Pixels.
 * @param {number} height Pixels.
 * @param {number} size Pixels a side of the model's input.
 * @param {?number} padding The crop padding, pixels; null: the whole image.
 * @return {{x: number, y: number, width: number, height: number}} Pixels.
 */
export function centerWindow(width, height, size, padding) {
  if (padding === null) return {x: 0, y: 0, width, height};
  const fraction = Math.fround(size / (size + padding)); // in float32, as the reference
  const side = Math.max(1, Math.trunc(Math.fround(fraction * Math.min(width, height))));
  return {x: (width - side + 1) >> 1, y: (height - side + 1) >> 1, width: side, height: side};
}

/**
 * A part of an image, resized as TensorFlow 1's bilinear does it: no half-pixel centers, every step rounded to float32.
 * @param {{data: ArrayLike<number>, width: number}} image RGBA.
 * @param {{x: number, y: number, width: number, height: number}} part Pixels.
 * @param {number} width Pixels a row of the result.
 * @param {number} height Rows of the result.
 * @return {Float32Array} (height, width, 3), RGB from 0 to 255.
 */
export function resizeBilinear({data, width: stride}, part, width, height) {
  const f = Math.fround;
  const steps = (length, size) => {
    const scale = f(length / size);
    return Array.from({length: size}, (_, place) => {
      const position = f(place * scale);
      const low = Math.floor(position);
      return {low, high: Math.min(low + 1, length - 1), part: f(position - low)};
    });
  };
  const columns = steps(part.width, width), rows = steps(part.height, height);
  const lerp = (a, b, t) => f(a + f(f(b - a) * t));
  const out = new Float32Array(3 * width * height);
  let at = 0;
  for (const row of rows) {
    const top = (part.y + row.low) * stride, bottom = (part.y + row.high) * stride;
    for (const column of columns) {
      const left = part.x + column.low, right = part.x + column.high;
      for (let channel = 0; channel < 3; ++channel) {
        const pixel = (line, x) => data[4 * (line + x) + channel];
        const above = lerp(pixel(top, left), pixel(top, right), column.part);
        const below = lerp(pixel(bottom, left), pixel(bottom, right), column.part);
        out[at++] = lerp(above, below, row.part);
      }
    }
  }
  return out;
}

/**
 * A part of an image, resized as Pillow's antialiased bicubic does it: columns, then rows, each rounded to whole levels.
 * The parameters and the result are those of resizeBilinear.
 */
export function resizeBicubic({data, width: stride}, part, width, height) {
  const cubic = (x) => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  const taps = (length, size) => Array.from({length: size}, (_, place) => {
    const scale = length / size, reach = Math.max(scale, 1), center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - 2 * reach + 0.5));
    const last = Math.min(length, Math.trunc(center + 2 * reach + 0.5));
    const weights = Array.from({length: last - first}, (_, i) => cubic(Math.abs((first + i - center + 0.5) / reach)));
    const total = weights.reduce((a, b) => a + b);
    return {first, weights: weights.map((weight) => weight / total)};
  });
  const resample = (taps, read) => {
    let sum = 0;
    taps.weights.forEach((weight, i) => { sum += weight * read(taps.first + i); });
    return Math.min(255, Math.max(0, Math.floor(sum + 0.5)));
  };
  const columns = taps(part.width, width), rows = taps(part.height, height);
  const between = new Uint8ClampedArray(3 * width * part.height);
  for (let y = 0, at = 0; y < part.height; ++y) {
    const line = (part.y + y) * stride + part.x;
    for (const column of columns) {
      for (let channel = 0; channel < 3; ++channel) between[at++] = resample(column, (x) => data[4 * (line + x) + channel]);
    }
  }
  const out = new Float32Array(3 * width * height);
  let at = 0;
  for (const row of rows) {
    for (let place = 0; place < 3 * width; ++place) out[at++] = resample(row, (y) => between[3 * width * y + place]);
  }
  return out;
}

/**
 * An image file as the model's input.
 * @param {Blob} blob The file.
 * @param {number} size Pixels a side of the model's input.
 * @param {{crop_padding: ?number, crop_fraction: ?number, interpolation: string, exif: boolean}} settings Of model.json.
 * @return {Promise<Float32Array>} (size, size, 3), RGB from 0 to 255.
 */
export async function preprocess(blob, size, settings) {
  const image = await decode(blob, settings.exif), {width, height} = image;
  const resize = settings.interpolation === 'bicubic' ? resizeBicubic : resizeBilinear;
  const fraction = settings.crop_fraction;
  if (fraction === null) return resize(image, centerWindow(width, height, size, settings.crop_padding), size, size);
  // The shorter side is resized to size / fraction, and the center is cut out.
  const shorter = Math.min(width, height), resized = Math.floor(size / fraction);
  const columns = Math.floor(resized * width / shorter), rows = Math.floor(resized * height / shorter);
  const whole = resize(image, {x: 0, y: 0, width, height}, columns, rows);
  const half = (n) => n % 2 === 0 ? n / 2 : 2 * Math.round(n / 4); // half to even
  const left = half(columns - size), top = half(rows - size);
  const out = new Float32Array(3 * size * size);
  for (let y = 0; y < size; ++y) {
    const begin = 3 * ((top + y) * columns + left);
    out.set(whole.subarray(begin, begin + 3 * size), 3 * size * y);
  }
  return out;
}
