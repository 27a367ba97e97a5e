// A signal on the page: the original, if there is one, its codes, and what they decode to.

import * as ecdc from "./ecdc.js";
import { prefix } from "./packing.js";

export class Signal {
  /** Begins a signal of samples at the model's rate. */
  static ofSamples(title, facts, samples) {
    return new Signal(title, facts, samples.length, facts.num_codebooks, samples);
  }

  /**
   * Begins a signal of an .ecdc file's bytes.
   *
   * Throws EcdcError if it cannot be read, is of another model, or lasts more than `mostSeconds`.
   */
  static ofFile(title, facts, bytes, mostSeconds) {
    const file = ecdc.read(bytes);
    const own = facts.codes_of;
    const isOwn = file.fingerprint && own.fingerprint ? file.fingerprint === own.fingerprint : file.name === own.name;
    if (!isOwn) {
      const named = (name, digits) => (digits ? `${name} (${digits.slice(0, 8)})` : name);
      throw new ecdc.EcdcError(`The file was made with ${named(file.name, file.fingerprint)}, `
        + `this page has ${named(own.name, own.fingerprint)}.`);
    }
    const expected = { sampleRate: facts.sample_rate, channels: facts.channels, hop: facts.hop, bits: bitsOf(facts) };
    for (const [field, value] of Object.entries(expected)) {
      if (file[field] !== value) throw new ecdc.EcdcError(`The file has ${field} ${file[field]}, the model ${value}.`);
    }
    if (file.codebooks > facts.num_codebooks) {
      throw new ecdc.EcdcError(`The file has ${file.codebooks} codebooks, the model ${facts.num_codebooks}.`);
    }
    const needsLanguage = file.blocks.some((block) => block.isCoded);
    if (needsLanguage) checkLanguage(file, facts.language);
    if (!file.frames) throw new ecdc.EcdcError("The file has no sound.");
    const minutes = (seconds) => `${Math.round(seconds / 6) / 10} minutes`;
    const seconds = file.samples / file.sampleRate;
    if (seconds > mostSeconds) {
      throw new ecdc.EcdcError(`The file lasts ${minutes(seconds)}; this page takes ${minutes(mostSeconds)}.`);
    }
    const signal = new Signal(title, facts, file.samples, file.codebooks, null);
    if (needsLanguage) signal.file = file;
    else for (const block of file.blocks) signal.add(ecdc.codesOf(file, block));
    return signal;
  }

  constructor(title, facts, length, codebooks, original) {
    Object.assign(this, { title, facts, length, codebooks, original });
    this.frames = Math.ceil(length / facts.hop);
    this.codes = new Int32Array(this.frames * codebooks);  // ordered by frame
    this.codedFrames = 0;
    this.isSaving = false;
    this.file = null;  // what ecdc.read returned, if the codes are still to be decoded
    const counts = new Set(Object.values(facts.bandwidths).filter((count) => count <= codebooks));
    if (!original) counts.add(codebooks);
    this.counts = [...counts].sort((a, b) => a - b);
    // What can be heard: samples, how many of them there are so far, and codebooks (0: the original).
    const track = (count, samples) => ({ count, samples, ready: samples.length });
    this.tracks = this.counts.map((count) => ({ ...track(count, new Float32Array(length)), ready: 0 }));
    if (original) this.tracks.unshift(track(0, original));
  }

  get seconds() {
    return this.length / this.facts.sample_rate;
  }

  /** Adds the codes of the next frames. */
  add(codes) {
    this.codes.set(codes, this.codedFrames * this.codebooks);
    this.codedFrames += codes.length / this.codebooks;
  }

  /** Adds the next samples of a decoded track; those past the end of the signal are cut off. */
  addSound(index, samples) {
    const track = this.tracks[index + (this.original ? 1 : 0)];
    const some = samples.subarray(0, this.length - track.ready);
    track.samples.set(some, track.ready);
    track.ready += some.length;
  }

  get isCoded() {
    return this.codedFrames === this.frames;
  }

  kbpsOf(count) {
    return (count * bitsOf(this.facts) * Math.ceil(this.facts.sample_rate / this.facts.hop)) / 1000;
  }

  /** The bytes of the .ecdc file of so many codebooks, with packed codes. */
  sizeOf(count) {
    return ecdc.sizeOf({ ...this.headerOf(count), language: "" });
  }

  /** The codes of the first `count` codebooks. */
  codesOf(count) {
    return prefix(this.codes, this.codebooks, count);
  }

  /** The header of the .ecdc file of so many codebooks: with the language model, if it has as many. */
  headerOf(count) {
    const { codes_of: { name, fingerprint }, sample_rate: sampleRate, channels, hop, language } = this.facts;
    const header = { name, fingerprint: fingerprint ?? "", sampleRate, channels, hop, bits: bitsOf(this.facts) };
    const own = language && count <= language.num_codebooks ? language.fingerprint : "";
    return { ...header, language: own, codebooks: count, samples: this.length };
  }
}

// Throws EcdcError if a file's codes cannot be decoded with the page's language model.
function checkLanguage(file, own) {
  if (!own) throw new ecdc.EcdcError("The file needs a language model, which this page does not have.");
  if (file.language !== own.fingerprint) {
    throw new ecdc.EcdcError(`The file needs the language model ${file.language.slice(0, 8)}, `
      + `this page has ${own.fingerprint.slice(0, 8)}.`);
  }
  if (file.codebooks > own.num_codebooks) {
    throw new ecdc.EcdcError(`The file has ${file.codebooks} codebooks, its language model ${own.num_codebooks}.`);
  }
}

const bitsOf = (facts) => Math.ceil(Math.log2(facts.codebook_size));
