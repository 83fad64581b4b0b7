// Turns an image file into the model's input, bit for bit as mixnet_tf.data.preprocess_for_eval does for PNG and BMP.
// JPEG differs by a few of 255: Chromium decodes as TensorFlow's INTEGER_ACCURATE does; TensorFlow defaults to INTEGER_FAST.

const CROP_PADDING = 32; // pixels, as in preprocessing.py

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
 * @param {boolean} crop Whether to crop.
 * @return {{x: number, y: number, width: number, height: number}} Pixels.
 */
export function centerWindow(width, height, size, crop) {
  if (!crop) return {x: 0, y: 0, width, height};
  const fraction = Math.fround(size / (size + CROP_PADDING)); // in float32, as the reference
  const side = Math.max(1, Math.trunc(Math.fround(fraction * Math.min(width, height))));
  return {x: (width - side + 1) >> 1, y: (height - side + 1) >> 1, width: side, height: side};
}

/**
 * A part of an image, resized as TensorFlow 1's bilinear does it: no half-pixel centers, every step rounded to float32.
 * @param {{data: ArrayLike<number>, width: number}} image RGBA.
 * @param {{x: number, y: number, width: number, height: number}} part Pixels.
 * @param {number} size Pixels a side of the result.
 * @return {Float32Array} (size, size, 3), RGB from 0 to 255.
 */
export function resize({data, width: stride}, part, size) {
  const f = Math.fround;
  const steps = (length) => {
    const scale = f(length / size);
    return Array.from({length: size}, (_, place) => {
      const position = f(place * scale);
      const low = Math.floor(position);
      return {low, high: Math.min(low + 1, length - 1), part: f(position - low)};
    });
  };
  const columns = steps(part.width), rows = steps(part.height);
  const lerp = (a, b, t) => f(a + f(f(b - a) * t));
  const out = new Float32Array(3 * size * size);
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

/** An image file as the model's input: Float32Array (size, size, 3). */
export async function preprocess(blob, size, crop, exif) {
  const image = await decode(blob, exif);
  return resize(image, centerWindow(image.width, image.height, size, crop), size);
}
