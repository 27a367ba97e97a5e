// The language model over codes: logits of the next code, in integers. docs/ecdc.md has the
// arithmetic and the file.
//
// Every sum of products stays within 2^24, so that of many int32 operations none overflows.

const PEAK = 127;  // of inputs of a product
const SUM_PEAK = 2047;  // of the residual sum
const TYPES = { I8: Int8Array, I32: Int32Array };

export class CodeModel {
  /** Takes the bytes of a model's file. */
  constructor(bytes) {
    const { sizes, tensors } = readTensors(bytes);
    this.size = sizes.codebook_size;
    this.width = sizes.width;
    this.headWidth = sizes.head_width;
    this.tables = tensors["language.tables"];
    this.numTables = Math.min(sizes.context_codebooks, sizes.num_codebooks);
    this.innerTables = tensors["language.inner_tables"];
    this.thresholds = tensors["language.norm_thresholds"];
    this.factors = tensors["language.norm_factors"];
    const product = (name) => new Product(...["w", "b", "shift"].map((part) => tensors[`${name}.${part}`]));
    this.layers = sizes.dilations.map((dilation, i) => ({
      dilation,
      past: new Int32Array(dilation * this.width),  // normed inputs, a ring by frame
      first: product(`layer_${i}_first`),
      second: product(`layer_${i}_second`),
    }));
    this.heads = Array.from({ length: sizes.num_codebooks }, (_, k) => (
      { hidden: product(`head_${k}_hidden`), logits: product(`head_${k}_logits`) }));
    this.sum = new Int32Array(this.width);  // x
    this.pair = new Int32Array(2 * this.width);  // an earlier frame's y, and this one's
    this.between = new Int32Array(this.width);
    this.added = new Int32Array(this.width);
    this.inner = new Int32Array(this.headWidth);
    this.headInput = new Int32Array(this.width + this.headWidth);  // y, e
    this.z = new Int32Array(this.headWidth);
    this.found = new Int32Array(this.size);
  }

  /** Begins a block. */
  begin() {
    this.frame = 0;
    for (const { past } of this.layers) past.fill(0);
  }

  /** Moves to the next frame of a block; takes the codes of the frame before, none for the first. */
  nextFrame(codes) {
    const { width, sum, pair } = this;
    sum.fill(0);
    const count = Math.min(codes.length, this.numTables);
    for (let k = 0; k < count; k += 1) addRow(sum, this.tables, k * this.size + codes[k]);
    clip(sum, -SUM_PEAK, SUM_PEAK);
    for (const { dilation, past, first, second } of this.layers) {
      const place = (this.frame % dilation) * width;
      const earlier = past.subarray(place, place + width);
      pair.set(earlier);
      this.#norm(pair, width);
      earlier.set(pair.subarray(width));
      first.run(pair, this.between);
      clip(this.between, 0, PEAK);
      second.run(this.between, this.added);
      for (let i = 0; i < width; i += 1) sum[i] += this.added[i];
      clip(sum, -SUM_PEAK, SUM_PEAK);
    }
    this.#norm(this.headInput, 0);
    this.inner.fill(0);
    this.frame += 1;
  }

  /** Returns the logits of codebook k of this frame, until the next call. */
  logits(k) {
    const { hidden, logits } = this.heads[k];
    for (let i = 0; i < this.headWidth; i += 1) {
      this.headInput[this.width + i] = Math.max(-PEAK, Math.min(PEAK, this.inner[i]));
    }
    hidden.run(this.headInput, this.z);
    clip(this.z, 0, PEAK);
    logits.run(this.z, this.found);
    return this.found;
  }

  /** Tells the codebooks after k their code. */
  take(k, code) {
    if (k + 1 < this.heads.length) addRow(this.inner, this.innerTables, k * this.size + code);
  }

  // Writes the normed sum into `out` from `start` on.
  #norm(out, start) {
    const { sum, thresholds } = this;
    let squares = 0;
    for (let i = 0; i < sum.length; i += 1) squares += sum[i] * sum[i];
    let low = 0, high = thresholds.length;  // of the number of thresholds that are at most the squares
    while (low < high) {
      const middle = (low + high) >> 1;
      if (thresholds[middle] <= squares) low = middle + 1;
      else high = middle;
    }
    const factor = this.factors[low];
    for (let i = 0; i < sum.length; i += 1) {
      out[start + i] = Math.max(-PEAK, Math.min(PEAK, (Math.imul(sum[i], factor) + 32768) >> 16));
    }
  }
}

// (x w + b) >> shift: `w` is [inputs, outputs].
class Product {
  constructor(w, b, shift) {
    Object.assign(this, { w, b, shift });
    this.places = new Int32Array(w.length / b.length);  // rows of w for inputs that are not 0
    this.values = new Int32Array(w.length / b.length);
  }

  // Adds rows of w, four at a time. Inputs of 0, which are many after a clip at 0, cost nothing.
  run(x, out) {
    const { w, b, shift, places, values } = this;
    const size = b.length;
    let count = 0;
    for (let i = 0; i < x.length; i += 1) {
      if (x[i] === 0) continue;
      places[count] = i * size;
      values[count] = x[i];
      count += 1;
    }
    out.set(b);
    let n = 0;
    for (; n + 4 <= count; n += 4) {
      const p0 = places[n], p1 = places[n + 1], p2 = places[n + 2], p3 = places[n + 3];
      const x0 = values[n], x1 = values[n + 1], x2 = values[n + 2], x3 = values[n + 3];
      for (let o = 0; o < size; o += 1) {
        out[o] += Math.imul(x0, w[p0 + o]) + Math.imul(x1, w[p1 + o]) + Math.imul(x2, w[p2 + o]) + Math.imul(x3, w[p3 + o]);
      }
    }
    for (; n < count; n += 1) {
      const place = places[n], value = values[n];
      for (let o = 0; o < size; o += 1) out[o] += Math.imul(value, w[place + o]);
    }
    for (let o = 0; o < size; o += 1) out[o] >>= shift[o];
  }
}

// Adds a row of a table of int8 whose rows are as long as `sum`.
function addRow(sum, table, row) {
  const start = row * sum.length;
  for (let i = 0; i < sum.length; i += 1) sum[i] += table[start + i];
}

function clip(values, low, high) {
  for (let i = 0; i < values.length; i += 1) values[i] = Math.max(low, Math.min(high, values[i]));
}

// Returns the sizes and the tensors of a safetensors file of integers.
function readTensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const { __metadata__: { sizes }, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const tensors = {};
  for (const [name, { dtype, data_offsets: [first, stop] }] of Object.entries(entries)) {
    tensors[name] = new TYPES[dtype](bytes.slice(start + first, start + stop).buffer);  // aligned
  }
  return { sizes: JSON.parse(sizes), tensors };
}
