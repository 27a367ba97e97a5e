// Sound files to mono samples at the model's rate, as `run.py infer` reads them.

const FORMATS = { 1: "integers", 3: "floats" };  // of WAV; 0xfffe names one of them further on

/** The sound cannot be used: one line. */
export class SoundError extends Error {}

/**
 * Returns the samples of a sound file: Float32Array, mono, at `rate` Hz.
 *
 * WAV files of this rate are read to the last bit. The browser decodes and resamples all others.
 * Channels are mixed to their mean.
 */
export async function samplesOf(bytes, rate) {
  const wav = readWav(bytes);
  if (wav?.rate === rate) return mean(wav.channels());
  let buffer;
  try {
    // Decoding for a context resamples to its rate, with a better filter than playing into it.
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    throw new SoundError("This browser cannot decode the file. Try WAV, FLAC, MP3 or Ogg.");
  }
  const length = wav ? Math.ceil((wav.length * rate) / wav.rate) : buffer.length;
  const mono = mean(Array.from({ length: buffer.numberOfChannels }, (_, index) => buffer.getChannelData(index)));
  return mono.subarray(0, length);
}

/** Returns the bytes of a mono WAV file of 32-bit floats. */
export function writeWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 4 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 4 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 3, true);  // floats
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 4 * rate, true);
  view.setUint16(32, 4, true);
  view.setUint16(34, 32, true);
  text(36, "data");
  view.setUint32(40, 4 * samples.length, true);
  new Float32Array(view.buffer, 44).set(samples);  // every machine with a browser is little-endian
  return view.buffer;
}

/** Returns { rate, length, channels() } of a WAV file of integers or 32-bit floats, else null. */
export function readWav(bytes) {
  const view = new DataView(bytes);
  const tag = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  if (view.byteLength < 12 || tag(0) !== "RIFF" || tag(8) !== "WAVE") return null;
  let format = null;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true), start = at + 8;
    if (tag(at) === "fmt " && size >= 16 && start + size <= view.byteLength) {
      const code = view.getUint16(start, true);
      const kind = FORMATS[code === 0xfffe && size >= 26 ? view.getUint16(start + 24, true) : code];
      const bits = view.getUint16(start + 14, true);
      const count = view.getUint16(start + 2, true);
      const isKnown = kind === "floats" ? bits === 32 : kind === "integers" && [16, 24, 32].includes(bits);
      if (!isKnown || !count) return null;
      format = { kind, bits, count, rate: view.getUint32(start + 4, true) };
    } else if (tag(at) === "data" && format) {
      const part = new DataView(bytes, start, Math.min(size, view.byteLength - start));
      const length = Math.floor((8 * part.byteLength) / format.bits / format.count);
      return { rate: format.rate, length, channels: () => wavChannels(part, length, format) };
    }
    at = start + size + (size % 2);
  }
  return null;
}

function wavChannels(view, length, { kind, bits, count }) {
  const size = bits / 8;
  const scale = 2 ** (1 - bits);
  const readers = {
    16: (at) => view.getInt16(at, true) * scale,
    24: (at) => (view.getInt16(at + 1, true) * 256 + view.getUint8(at)) * scale,
    32: (at) => view.getInt32(at, true) * scale,
  };
  const value = kind === "floats" ? (at) => view.getFloat32(at, true) : readers[bits];
  return Array.from({ length: count }, (_, channel) => {
    const samples = new Float32Array(length);
    for (let frame = 0; frame < length; frame += 1) samples[frame] = value((frame * count + channel) * size);
    return samples;
  });
}

function mean(channels) {
  if (channels.length === 1) return channels[0];
  const mixed = new Float32Array(channels[0].length);
  for (const channel of channels) for (let i = 0; i < mixed.length; i += 1) mixed[i] += channel[i];
  for (let i = 0; i < mixed.length; i += 1) mixed[i] /= channels.length;
  return mixed;
}
