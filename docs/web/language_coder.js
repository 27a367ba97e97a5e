// Blocks of codes to bytes and back with a language model: docs/ecdc.md has the coder.
//
// Codes are ordered by frame, and within a frame by codebook.

const FIRST = 65536;  // the state that encoders begin and decoders end with
const TOTAL = 65536;  // of the frequencies of a code
const MAX_DISTANCE = 544;  // from the largest logit; beyond, a weight is 0

// 2^(-distance / 32) in 16 bits, as parabolas between powers of two.
const WEIGHTS = Int32Array.from({ length: MAX_DISTANCE + 1 }, (_, distance) => {
  const rest = distance % 32;
  return (65536 - 1375 * rest + 11 * rest * rest) >> (distance >> 5);
});

export class LanguageCoder {
  /** Takes a CodeModel. */
  constructor(model) {
    this.model = model;
    this.below = new Int32Array(model.size + 1);  // sums of the weights of the codes before each
  }

  /** Returns the bytes of a block: Uint8Array. */
  encode(codes, codebooks) {
    const starts = new Int32Array(codes.length), frequencies = new Int32Array(codes.length);
    this.#walk(codes.slice(), codebooks, (at) => {
      starts[at] = this.#start(codes[at]);
      frequencies[at] = this.#start(codes[at] + 1) - starts[at];
      return codes[at];
    });
    const words = [];
    let state = FIRST;
    for (let at = codes.length - 1; at >= 0; at -= 1) {
      const frequency = frequencies[at];
      if (state >= FIRST * frequency) {
        words.push(state % FIRST);
        state = Math.floor(state / FIRST);
      }
      state = Math.floor(state / frequency) * FIRST + (state % frequency) + starts[at];
    }
    const view = new DataView(new ArrayBuffer(4 + 2 * words.length));
    view.setUint32(0, state);
    words.reverse().forEach((word, index) => view.setUint16(4 + 2 * index, word));
    return new Uint8Array(view.buffer);
  }

  /** Returns the codes of a block's bytes: Int32Array; null if they are damaged. */
  decode(bytes, frames, codebooks) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length;
    if (size < 4 || size % 2 || size > 4 + 2 * frames * codebooks || view.getUint32(0) < FIRST) return null;
    const codes = new Int32Array(frames * codebooks);
    let state = view.getUint32(0), place = 4;
    const isWhole = this.#walk(codes, codebooks, () => {
      const slot = state % FIRST;
      const code = this.#codeAt(slot);
      const start = this.#start(code);
      state = (this.#start(code + 1) - start) * Math.floor(state / FIRST) + slot - start;
      if (state < FIRST) {
        if (place === size) return -1;
        state = state * FIRST + view.getUint16(place);
        place += 2;
      }
      return code;
    });
    return isWhole && state === FIRST && place === size ? codes : null;
  }

  // Fills codes with what `choose` returns for each index, when the weights of the code there are
  // ready; returns false at once if that is -1.
  #walk(codes, codebooks, choose) {
    this.model.begin();
    for (let at = 0; at < codes.length; at += codebooks) {
      this.model.nextFrame(codes.subarray(Math.max(0, at - codebooks), at));
      for (let k = 0; k < codebooks; k += 1) {
        this.#weigh(this.model.logits(k));
        const code = choose(at + k);
        if (code < 0) return false;
        codes[at + k] = code;
        this.model.take(k, code);
      }
    }
    return true;
  }

  #weigh(logits) {
    const { below } = this;
    let most = logits[0];
    for (let v = 1; v < logits.length; v += 1) if (logits[v] > most) most = logits[v];
    let sum = 0;
    for (let v = 0; v < logits.length; v += 1) {
      sum += WEIGHTS[Math.min(most - logits[v], MAX_DISTANCE)];
      below[v + 1] = sum;
    }
  }

  // Where a code's interval begins. The product has up to 46 bits, and the quotient of floats is
  // right: it is at least 2^-30 from the next integer, and less than 2^16.
  #start(code) {
    const { below } = this;
    const size = below.length - 1;
    return code + Math.floor((below[code] * (TOTAL - size)) / below[size]);
  }

  // The code whose interval holds a slot.
  #codeAt(slot) {
    let low = 0, high = this.below.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#start(middle) <= slot) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
