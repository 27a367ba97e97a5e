// The lanes below the controls: spectrograms and codes over one time axis.

import { heightOf, RANGE, Spectrogram } from "./spectrogram.js";

// From the background to the strongest colour. Lightness changes evenly, so that both read the same
// in grey and to the colour blind.
const LIGHT = ["fdfcf9", "e3e9ec", "b9d0dc", "86b2cc", "548fbb", "33699f", "2b4379", "1b2148"];
const DARK = ["14171c", "1c2440", "303a78", "5a4a9c", "9655a0", "d0668f", "f39a74", "fbdc9d"];
const FADED = 0.16;  // opacity of codebooks that the chosen bitrate does not use
const MOST_COLUMNS = 1600;  // of the picture of codes
const isDark = matchMedia("(prefers-color-scheme: dark)");

export class Lanes {
  /** `onseek` is called with a share of the signal, from 0 to 1. */
  constructor(element, onseek) {
    this.element = element;
    this.onseek = onseek;
    this.isDirty = false;
    isDark.addEventListener("change", () => this.#redraw());
  }

  /** Shows a signal. */
  load(signal) {
    this.signal = signal;
    this.spectrograms = signal.tracks.map(() => new Spectrogram(signal.length, signal.facts.sample_rate));
    this.top = -20;  // dB of the strongest colour
    if (signal.original) {
      this.spectrograms[0].advance(signal.original, signal.length);
      this.top = this.spectrograms[0].peak;
    }
    this.lanes = {
      ...(signal.original && { original: this.#lane("Original", "spectrogram") }),
      heard: this.#lane("", "spectrogram"),
      codes: this.#lane("Codes", "codes"),
    };
    this.element.replaceChildren(...Object.values(this.lanes).map((lane) => lane.element), this.#axis());
    if (signal.original) this.#drawSpectrogram(this.lanes.original, this.spectrograms[0]);
  }

  /** Shows the track with this index; the original lane is there anyway. */
  select(index, name) {
    const last = this.signal.tracks.length - 1;
    this.heard = this.signal.tracks[index].count ? index : Math.min(this.heard ?? last, last);
    this.count = this.signal.tracks[this.heard].count;
    this.lanes.original?.element.classList.toggle("on", index !== this.heard);
    this.lanes.heard.element.classList.toggle("on", index === this.heard);
    this.lanes.heard.caption.textContent = name(this.heard);
    this.lanes.codes.caption.textContent = `Codes · ${this.count} of ${this.signal.facts.num_codebooks} codebooks`;
    this.#redraw();
  }

  /** Draws what has arrived, at the next frame. */
  update() {
    if (this.isDirty) return;
    this.isDirty = true;
    requestAnimationFrame(() => {
      this.isDirty = false;
      const track = this.signal.tracks[this.heard];
      const spectrogram = this.spectrograms[this.heard];
      if (spectrogram.advance(track.samples, track.ready, 60 / spectrogram.frames)) this.update();
      this.#drawSpectrogram(this.lanes.heard, spectrogram);
      this.#drawCodes();
    });
  }

  /** Moves the line of the position, a share of the signal, and shows the codes there. */
  moveTo(share) {
    this.element.style.setProperty("--at", share);
    const { signal } = this;
    const frame = Math.min(signal.frames - 1, Math.floor((share * signal.length) / signal.facts.hop));
    if (frame < 0 || frame >= signal.codedFrames) {
      this.lanes.codes.readout.textContent = "";
      return;
    }
    const start = frame * signal.codebooks;
    this.lanes.codes.readout.textContent = signal.codes.subarray(start, start + this.count).join(" ");
  }

  #redraw() {
    if (!this.signal) return;
    if (this.signal.original) this.#drawSpectrogram(this.lanes.original, this.spectrograms[0]);
    this.update();
  }

  #lane(title, kind) {
    const element = make("figure", `lane ${kind}`);
    const caption = make("b", "", title), readout = make("span", "readout");
    const head = make("figcaption", "");
    head.append(caption, readout);
    const picture = make("div", "picture"), canvas = make("canvas", "");
    canvas.setAttribute("aria-hidden", "true");
    picture.append(canvas, make("i", "head"));
    if (kind === "spectrogram") picture.append(...frequencies(this.signal.facts.sample_rate));
    const seek = (event) => {
      const box = picture.getBoundingClientRect();
      this.onseek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    picture.addEventListener("click", seek);
    picture.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType !== "mouse") return;  // a finger may scroll
      picture.setPointerCapture(event.pointerId);
      picture.onpointermove = seek;
      seek(event);
    });
    const end = () => {
      picture.onpointermove = null;
    };
    picture.addEventListener("pointerup", end);
    picture.addEventListener("pointercancel", end);
    element.append(head, picture);
    return { element, caption, readout, canvas };
  }

  #axis() {
    const axis = make("div", "axis");
    axis.setAttribute("aria-hidden", "true");
    const { seconds } = this.signal;
    const most = Math.min(9, this.element.clientWidth / 50);
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120].find((size) => seconds / size <= most) ?? 300;
    for (let k = 0; k * step <= seconds * 0.97; k += 1) {
      const at = k * step;
      const text = step >= 30 ? `${Math.floor(at / 60)}:${String(at % 60).padStart(2, "0")}` : `${Number(at.toFixed(1))}`;
      const mark = make("span", "", k || step >= 30 ? text : "0 s");
      mark.style.left = `${(at / seconds) * 100}%`;
      axis.append(mark);
    }
    return axis;
  }

  #drawSpectrogram({ canvas }, { rows, columns, levels, done }) {
    const palette = colours();
    const image = canvasImage(canvas, columns, rows);
    const { pixels } = image;
    for (let column = 0; column < done; column += 1) {
      for (let row = 0; row < rows; row += 1) {
        const share = Math.min(1, Math.max(0, (levels[column * rows + row] - this.top) / RANGE + 1));
        pixels[(rows - 1 - row) * columns + column] = palette[Math.round(share * 255)];
      }
    }
    image.put();
  }

  #drawCodes() {
    const { signal, count } = this;
    const columns = Math.min(signal.frames, MOST_COLUMNS);
    const bright = colours(), faded = colours(FADED);
    const size = signal.facts.codebook_size;
    const image = canvasImage(this.lanes.codes.canvas, columns, signal.codebooks);
    for (let column = 0; column < columns; column += 1) {
      const frame = Math.floor(((column + 0.5) * signal.frames) / columns);
      if (frame >= signal.codedFrames) break;
      for (let k = 0; k < signal.codebooks; k += 1) {
        const level = 24 + Math.floor((signal.codes[frame * signal.codebooks + k] * 200) / size);
        image.pixels[k * columns + column] = (k < count ? bright : faded)[level];
      }
    }
    image.put();
  }
}

function make(name, className, text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

// Labels of the frequency axis, from the top.
function frequencies(rate) {
  const kilohertz = [8, 4, 2, 1].filter((value) => value * 2000 < rate * 0.9);
  return kilohertz.map((value, index) => {
    const mark = make("span", "frequency", index ? `${value}` : `${value} kHz`);
    mark.style.bottom = `${heightOf(1000 * value, rate) * 100}%`;
    mark.setAttribute("aria-hidden", "true");
    return mark;
  });
}

function canvasImage(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  return { pixels: new Uint32Array(data.data.buffer), put: () => context.putImageData(data, 0, 0) };
}

const palettes = new Map();

// 256 colours of the scheme, as the pixels of a canvas.
function colours(opacity = 1) {
  const key = `${isDark.matches} ${opacity}`;
  if (!palettes.has(key)) {
    const stops = (isDark.matches ? DARK : LIGHT).map((stop) => stop.match(/../g).map((digits) => parseInt(digits, 16)));
    palettes.set(key, Uint32Array.from({ length: 256 }, (_, index) => {
      const at = (index / 255) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      const [red, green, blue] = stops[low].map((value, i) => Math.round(value + (stops[low + 1][i] - value) * (at - low)));
      return ((Math.round(255 * opacity) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }));
  }
  return palettes.get(key);
}
