// From a drawing to the pictures nearest to it.  No page, no network: the same module runs in the browser and, in the tests, in Node.

const INK = 24; // as in ucdr_core/encoder.py
const MARGIN = 0.08;

/** RGBA or RGB bytes on white -> {data, width, height} with three bytes a pixel. */
export function onWhite(bytes, width, height) {
  const channels = bytes.length / (width * height);
  const data = new Uint8ClampedArray(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const alpha = channels === 4 ? bytes[4 * i + 3] / 255 : 1;
    for (let c = 0; c < 3; c++) data[3 * i + c] = Math.round(bytes[channels * i + c] * alpha + 255 * (1 - alpha));
  }
  return { data, width, height };
}

/** Whether anything is drawn. */
export function blank({ data }) {
  return data.every((value) => 255 - value <= INK);
}

/** A drawing on white, cut out and put in the middle of a white square; a picture that reaches its border as it is. */
export function framed(picture) {
  const { data, width, height } = picture;
  let left = width, top = height, right = 0, bottom = 0;
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const i = 3 * (y * width + x);
    if (Math.max(255 - data[i], 255 - data[i + 1], 255 - data[i + 2]) <= INK) continue;
    left = Math.min(left, x); right = Math.max(right, x + 1);
    top = Math.min(top, y); bottom = Math.max(bottom, y + 1);
  }
  if (!right || !left || !top || right === width || bottom === height) return picture;
  const w = right - left, h = bottom - top, side = Math.round(Math.max(w, h) / (1 - 2 * MARGIN));
  const out = new Uint8ClampedArray(3 * side * side).fill(255);
  const x0 = Math.floor((side - w) / 2), y0 = Math.floor((side - h) / 2);
  for (let y = 0; y < h; y++) {
    const from = 3 * ((top + y) * width + left);
    out.set(data.subarray(from, from + 3 * w), 3 * ((y0 + y) * side + x0));
  }
  return { data: out, width: side, height: side };
}

function cubic(x) { // Keys' kernel with a = -1/2, as in Pillow
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

function weights(from, to) {
  const scale = from / to, wide = Math.max(scale, 1), support = 2 * wide;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5)), last = Math.min(from, Math.trunc(centre + support + 0.5));
    const own = Array.from({ length: last - first }, (_, i) => cubic((first + i - centre + 0.5) / wide));
    const sum = own.reduce((a, b) => a + b, 0);
    return { first, own: own.map((value) => value / sum) };
  });
}

/** Antialiased bicubic, as Pillow's: columns first, rounded to bytes in between. */
export function resized({ data, width, height }, size) {
  const across = weights(width, size), down = weights(height, size);
  const middle = new Uint8ClampedArray(3 * size * height), out = new Uint8ClampedArray(3 * size * size);
  for (let y = 0; y < height; y++) for (let x = 0; x < size; x++) for (let c = 0; c < 3; c++) {
    let sum = 0;
    across[x].own.forEach((weight, i) => { sum += weight * data[3 * (y * width + across[x].first + i) + c]; });
    middle[3 * (y * size + x) + c] = sum;
  }
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) for (let c = 0; c < 3; c++) {
    let sum = 0;
    down[y].own.forEach((weight, i) => { sum += weight * middle[3 * ((down[y].first + i) * size + x) + c]; });
    out[3 * (y * size + x) + c] = sum;
  }
  return { data: out, width: size, height: size };
}

/** {data, ...} of the model's size -> Float32Array (3, size, size) in [0, 1]. */
export function planes({ data, width, height }) {
  const out = new Float32Array(data.length), count = width * height;
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) out[c * count + i] = data[3 * i + c] / 255;
  return out;
}

const dot = (a, b, from, length) => { let sum = 0; for (let i = 0; i < length; i++) sum += a[i] * b[from + i]; return sum; };

/** Cosine of two vectors. */
export function cosine(a, b) {
  return dot(a, b, 0, a.length) / Math.sqrt(dot(a, a, 0, a.length) * dot(b, b, 0, b.length));
}

/** The parts of gallery.bin: {embedding: {scale, values, dimension}, features: ...}. */
export function parts(buffer, description) {
  const count = description.pictures.length, found = {};
  let at = 0;
  for (const [name, dimension] of Object.entries(description.dimensions)) {
    const scale = new Float32Array(buffer.slice(at, at + 4 * count));
    const values = new Int8Array(buffer.slice(at + 4 * count, at + 4 * count + count * dimension));
    found[name] = { scale, values, dimension };
    at += 4 * count + count * dimension;
  }
  return found;
}

/**
 * The k nearest pictures, [{picture, similarity}], best first; of equal ones the first.
 * cosine: similarity is the cosine.  euclidean: the distance, negative.
 */
export function nearest(query, { scale, values, dimension }, k, distance = "cosine") {
  const own = dot(query, query, 0, dimension), found = [];
  for (let picture = 0; picture < scale.length; picture++) {
    const at = picture * dimension;
    let square = 0, product = 0;
    for (let i = 0; i < dimension; i++) { const v = values[at + i]; square += v * v; product += query[i] * v; }
    const s = scale[picture];
    const similarity = distance === "cosine" ? product / Math.sqrt(own * square || 1) : -Math.sqrt(Math.max(0, own - 2 * s * product + s * s * square));
    found.push({ picture, similarity });
  }
  return found.sort((a, b) => b.similarity - a.similarity || a.picture - b.picture).slice(0, k);
}

/** How many of the found pictures each class has, [{name, count}], most first. */
export function votes(found, description) {
  const counts = new Map();
  for (const { picture } of found) {
    const name = description.classes[description.pictures[picture][0]];
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count);
}

/** The k class words nearest to an embedding, [{name, similarity}]; none where the embeddings are in no space of words. */
export function words(embedding, description, k) {
  if (!description.words) return [];
  return description.classes.map((name, i) => ({ name, similarity: cosine(embedding, description.words[i]) }))
    .sort((a, b) => b.similarity - a.similarity).slice(0, k);
}

/** A searcher: `await searcher.search(bytes, width, height, k)` -> {trained, untrained, embedding, features, words, votes, milliseconds}. */
export class Searcher {
  constructor(ort, session, description, gallery) {
    Object.assign(this, { ort, session, description, gallery });
  }

  static async open(ort, model, description, gallery) {
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    return new Searcher(ort, session, description, parts(gallery, description));
  }

  async embed(bytes, width, height) {
    const size = this.description.size_px;
    const pixels = planes(resized(framed(onWhite(bytes, width, height)), size));
    const { embedding, features } = await this.session.run({ pixels: new this.ort.Tensor("float32", pixels, [1, 3, size, size]) });
    return { embedding: embedding.data, features: features.data };
  }

  async search(bytes, width, height, k = 12) {
    const started = performance.now();
    const { embedding, features } = await this.embed(bytes, width, height);
    const trained = nearest(embedding, this.gallery.embedding, k, this.description.distance);
    return {
      embedding, features, trained, untrained: nearest(features, this.gallery.features, k), words: words(embedding, this.description, 5),
      votes: votes(trained, this.description), milliseconds: performance.now() - started,
    };
  }
}

/** Bytes that were packed with gzip, or that a server has already unpacked. */
export async function unpacked(buffer) {
  const head = new Uint8Array(buffer, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return buffer;
  return new Response(new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
