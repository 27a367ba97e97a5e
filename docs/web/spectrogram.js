// Spectrograms on the mel scale, column by column as samples arrive.

const ROWS = 96;
const WINDOW = 0.04;  // seconds
const COLUMN = 0.01;  // seconds of a column, unless that is too many or too few columns
const FRAMES = 2;  // most windows of a column: a long signal is sampled
export const RANGE = 80;  // dB from the brightest level down to the darkest

/** The levels of a signal of `length` samples at `rate` Hz, in dB; a sine of full scale has 0. */
export class Spectrogram {
  constructor(length, rate) {
    const seconds = length / rate;
    this.rows = ROWS;
    this.columns = Math.min(800, Math.max(64, Math.ceil(seconds / COLUMN)));
    this.frames = Math.min(FRAMES, Math.max(1, Math.ceil(seconds / COLUMN / this.columns)));
    this.length = length;
    this.window = 2 * Math.round((WINDOW * rate) / 2);
    this.size = 2 ** Math.ceil(Math.log2(2 * this.window));  // padded with zeros, so that no band is empty
    this.shape = Float64Array.from({ length: this.window }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.window));
    const sum = this.shape.reduce((total, value) => total + value, 0);
    this.shape = this.shape.map((value) => (2 * value) / sum);
    this.bands = melBands(rate, this.size);
    this.levels = new Float32Array(this.columns * ROWS);  // by column, low bands first
    this.done = 0;  // columns
  }

  /** Computes the columns of the first `ready` samples, at most `most`; returns whether any were. */
  advance(samples, ready, most = Infinity) {
    const before = this.done;
    for (; this.done < Math.min(this.columns, before + most); this.done += 1) {
      const last = this.#start(this.done, this.frames - 1) + this.window;
      if (last > ready && ready < this.length) break;
      this.#column(samples.subarray(0, ready));
    }
    return this.done > before;
  }

  /** The highest level. */
  get peak() {
    return this.levels.subarray(0, this.done * ROWS).reduce((most, level) => Math.max(most, level), -120);
  }

  #start(column, frame) {
    const at = (column + (frame + 0.5) / this.frames) / this.columns;
    return Math.floor(at * this.length - this.window / 2);
  }

  #column(samples) {
    const power = new Float64Array(ROWS);
    const real = new Float64Array(this.size), imaginary = new Float64Array(this.size);
    for (let frame = 0; frame < this.frames; frame += 1) {
      const start = this.#start(this.done, frame);
      real.fill(0);
      imaginary.fill(0);
      for (let i = 0; i < this.window; i += 1) real[i] = (samples[start + i] ?? 0) * this.shape[i];
      transform(real, imaginary);
      this.bands.forEach(({ first, weights }, band) => {
        let sum = 0;
        weights.forEach((weight, i) => {
          sum += weight * (real[first + i] ** 2 + imaginary[first + i] ** 2);
        });
        power[band] += sum / this.frames;
      });
    }
    power.forEach((value, band) => {
      this.levels[this.done * ROWS + band] = 10 * Math.log10(Math.max(value, 1e-12));
    });
  }
}

/** Returns where `hertz` lies in a picture, from 0 (bottom) to 1. */
export function heightOf(hertz, rate) {
  return mel(hertz) / mel(rate / 2);
}

const mel = (hertz) => Math.log1p(hertz / 700);

// Triangles on the mel scale: the first bin of each, and weights that sum to 1.
function melBands(rate, size) {
  const edges = Array.from({ length: ROWS + 2 }, (_, i) => (700 * Math.expm1((mel(rate / 2) * i) / (ROWS + 1)) * size) / rate);
  return Array.from({ length: ROWS }, (_, band) => {
    const [low, peak, high] = edges.slice(band, band + 3);
    const first = Math.ceil(low), weights = [];
    for (let bin = first; bin <= Math.min(high, size / 2); bin += 1) {
      weights.push(Math.max(0, Math.min((bin - low) / (peak - low), (high - bin) / (high - peak))));
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / (sum || 1)) };
  });
}

/** Replaces a signal of 2^n complex values by its discrete Fourier transform. */
export function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i += 1) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  const { cosines, sines } = turns(size);
  for (let half = 1; half < size; half *= 2) {
    const step = size / half / 2;
    for (let start = 0; start < size; start += 2 * half) {
      for (let k = 0; k < half; k += 1) {
        const a = start + k, b = a + half;
        const cosine = cosines[k * step], sine = sines[k * step];
        const x = real[b] * cosine - imaginary[b] * sine, y = real[b] * sine + imaginary[b] * cosine;
        real[b] = real[a] - x;
        imaginary[b] = imaginary[a] - y;
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}

const known = new Map();

function turns(size) {
  if (!known.has(size)) {
    const angles = Float64Array.from({ length: size / 2 }, (_, k) => (-2 * Math.PI * k) / size);
    known.set(size, { cosines: angles.map(Math.cos), sines: angles.map(Math.sin) });
  }
  return known.get(size);
}
