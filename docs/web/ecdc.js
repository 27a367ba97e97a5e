// Reads and writes .ecdc files of version 1, without segments and scales: docs/ecdc.md has the tables.
//
// Codes are one Int32Array, ordered by frame and within a frame by codebook: code k of frame f is
// codes[f * codebooks + k].

import { pack, unpack } from "./packing.js";

const MAGIC = 0x45434443;  // "ECDC"
const MARKER = 0xecdb;  // starts a block
const FIXED_SIZE = 77;  // bytes before the name
const LANGUAGE_SIZE = 32;  // bytes of the language model's fingerprint
const HEAD_SIZE = 20;
const UNKNOWN = 2n ** 64n - 1n;  // number of samples
const MAX_SAMPLES = 2n ** 48n - 1n;
const MAX_BLOCK_CODES = 2 ** 21;
const MAX_CODED_FRAMES = 4096;  // of a block, with a language model
const LEAST_CODED = 4;  // bytes of a block's codes, with a language model
const MAX_POINTS = 1024;  // of the index
const INDEX_EVERY = 8;  // blocks per point of the index, at first; doubles when the index is full

/** The content of a file is wrong, or not for this page: one line. */
export class EcdcError extends Error {}

/**
 * Yields the bytes of a file in parts: the header, each block, the end.
 *
 * `header` has name, fingerprint and language (64 hexadecimal digits, or "" for none), sampleRate,
 * channels, hop, bits, codebooks and samples; the codes are those of all ceil(samples / hop) frames.
 * `coder` is the LanguageCoder of the header's language. A block that it does not shrink is packed.
 */
export function* write(header, codes, coder = null) {
  const frames = Math.ceil(header.samples / header.hop);
  if (codes.length !== frames * header.codebooks) {
    throw new EcdcError(`${header.samples} samples have ${frames} frames, got ${codes.length / header.codebooks}`);
  }
  const blockFrames = fullBlock(header);
  let part = headerBytes(header, blockFrames);
  yield part;
  let offset = part.length, points = [], every = INDEX_EVERY;
  for (let first = 0, block = 0; first < frames; first += blockFrames, block += 1) {
    if (block % every === 0) points.push([first, offset]);
    if (points.length > MAX_POINTS) {
      points = points.filter((_, index) => index % 2 === 0);
      every *= 2;
    }
    const count = Math.min(blockFrames, frames - first);
    const some = codes.subarray(first * header.codebooks, (first + count) * header.codebooks);
    const packed = pack(some, header.bits);
    const coded = coder?.encode(some, header.codebooks) ?? packed;
    part = blockBytes(first, count, coded.length < packed.length ? coded : packed);
    yield part;
    offset += part.length;
  }
  yield endBytes(frames, header.samples, points);
}

/** Returns the bytes of the file that `write` makes, without making it; the most with a language. */
export function sizeOf(header) {
  const frames = Math.ceil(header.samples / header.hop);
  const blockFrames = fullBlock(header);
  const blocks = Math.ceil(frames / blockFrames);
  const payload = (count) => Math.ceil((count * header.codebooks * header.bits) / 8);
  const last = frames - Math.max(blocks - 1, 0) * blockFrames;
  let every = INDEX_EVERY;
  while (Math.ceil(blocks / every) > MAX_POINTS) every *= 2;
  const end = HEAD_SIZE + 12 + 12 * Math.ceil(blocks / every);
  const start = FIXED_SIZE + new TextEncoder().encode(header.name).length + (header.language ? LANGUAGE_SIZE : 0) + 4;
  return start + blocks * HEAD_SIZE + Math.max(blocks - 1, 0) * payload(blockFrames) + payload(last) + end;
}

/**
 * Reads a file, but for the codes.
 *
 * Returns the fields of the header that `write` takes, frames, and blocks for `codesOf`. Throws
 * EcdcError if the file is another one, damaged or cut off.
 */
export function read(bytes) {
  const { header, blockFrames, start } = readHeader(bytes);
  const view = viewOf(bytes);
  const seconds = (frame) => secondsAt(header, frame);
  const blocks = [];
  let frames = 0;
  for (let at = start; ;) {
    if (at + HEAD_SIZE > bytes.length) throw new EcdcError(`The file is cut off after ${seconds(frames)}.`);
    const head = readHead(view, at);
    const isEnd = head !== null && head.frames === 0;
    const size = payloadSize(header, head?.frames ?? 0);
    const isCoded = Boolean(header.language) && head !== null && head.length >= LEAST_CODED && head.length < size && head.length % 2 === 0;
    const isRight = head !== null && head.first === frames && (isEnd || (head.frames <= blockFrames && (head.length === size || isCoded)));
    if (!isRight) throw new EcdcError(`The file is damaged after ${seconds(frames)}.`);
    const stop = at + HEAD_SIZE + head.length;
    if (stop > bytes.length) throw new EcdcError(`The file is cut off after ${seconds(frames)}.`);
    if (crc32(bytes.subarray(at + HEAD_SIZE, stop), crc32(bytes.subarray(at + 4, at + 16))) !== head.crc) {
      throw new EcdcError(`The file is damaged after ${seconds(frames)}.`);
    }
    if (isEnd) {
      if (head.length >= 12) takeLength(header, view.getBigUint64(at + HEAD_SIZE), frames);
      break;
    }
    blocks.push({ first: frames, frames: head.frames, payload: bytes.subarray(at + HEAD_SIZE, stop), isCoded });
    frames += head.frames;
    at = stop;
  }
  header.samples ??= frames * header.hop;
  if (Math.ceil(header.samples / header.hop) !== frames) {
    throw new EcdcError(`The file is damaged: ${header.samples} samples, but ${frames} frames.`);
  }
  return { ...header, frames, blocks };
}

/**
 * Returns the codes of a block that `read` found; `coder` is for blocks that are coded.
 *
 * Throws EcdcError if the block is damaged.
 */
export function codesOf(file, { first, frames, payload, isCoded }, coder = null) {
  if (!isCoded) return unpack(payload, file.bits, frames * file.codebooks);
  const codes = coder.decode(payload, frames, file.codebooks);
  if (codes === null) throw new EcdcError(`The file is damaged after ${secondsAt(file, first)}.`);
  return codes;
}

/** Returns the CRC-32 of zlib; `before` is that of the bytes before these. */
export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const payloadSize = (header, frames) => Math.ceil((frames * header.codebooks * header.bits) / 8);

const secondsAt = ({ hop, sampleRate }, frame) => `${((frame * hop) / sampleRate).toFixed(1)} s`;

const bytesOf = (digits) => digits.match(/../g)?.map((pair) => parseInt(pair, 16)) ?? [];

const digitsOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

// The frames of a full block: about a second.
function fullBlock({ sampleRate, hop, codebooks, language }) {
  const most = Math.floor(MAX_BLOCK_CODES / codebooks);
  return Math.min(Math.ceil(sampleRate / hop), language ? Math.min(most, MAX_CODED_FRAMES) : most);
}

function headerBytes(header, blockFrames) {
  const name = new TextEncoder().encode(header.name);
  const language = bytesOf(header.language);
  const bytes = new Uint8Array(FIXED_SIZE + name.length + language.length + 4);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint8(4, 1);
  view.setUint32(5, bytes.length - 9);
  view.setUint8(9, language.length ? 1 : 0);
  view.setUint8(11, header.bits);
  view.setUint16(12, header.channels);
  view.setUint16(14, header.codebooks);
  view.setUint32(16, header.sampleRate);
  view.setUint32(20, header.hop);
  view.setUint32(24, blockFrames);
  view.setBigUint64(36, BigInt(header.samples));
  bytes.set(bytesOf(header.fingerprint), 44);
  view.setUint8(76, name.length);
  bytes.set(name, FIXED_SIZE);
  bytes.set(language, FIXED_SIZE + name.length);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)));
  return bytes;
}

function readHeader(bytes) {
  const view = viewOf(bytes);
  if (bytes.length < 9 || view.getUint32(0) !== MAGIC) throw new EcdcError("This is no .ecdc file.");
  const version = view.getUint8(4);
  if (version !== 1) {
    throw new EcdcError(`The file has version ${version} of the format; this page reads version 1.`);
  }
  const start = 9 + view.getUint32(5);
  if (start < FIXED_SIZE + 5 || start > FIXED_SIZE + 255 + 36) throw new EcdcError("The file's header is damaged.");
  if (start > bytes.length) throw new EcdcError("The file is cut off in its header.");
  if (crc32(bytes.subarray(0, start - 4)) !== view.getUint32(start - 4)) {
    throw new EcdcError("The file's header is damaged.");
  }
  if (view.getUint8(9) > 1 || view.getUint8(10) || view.getUint32(28)) {
    throw new EcdcError("The file is of a model with segments; this page is for streams.");
  }
  const samples = view.getBigUint64(36);
  const fingerprint = digitsOf(bytes.subarray(44, 76));
  const nameEnd = start - 4 - (view.getUint8(9) ? LANGUAGE_SIZE : 0);
  const header = {
    name: new TextDecoder().decode(bytes.subarray(FIXED_SIZE, nameEnd)),
    fingerprint: /^0*$/.test(fingerprint) ? "" : fingerprint,
    language: digitsOf(bytes.subarray(nameEnd, start - 4)),
    bits: view.getUint8(11),
    channels: view.getUint16(12),
    codebooks: view.getUint16(14),
    sampleRate: view.getUint32(16),
    hop: view.getUint32(20),
    samples: samples === UNKNOWN ? null : Number(samples),
  };
  const blockFrames = view.getUint32(24);
  const codes = blockFrames * header.codebooks;
  const isPossible = header.bits >= 1 && header.bits <= 24 && header.hop && header.sampleRate && header.channels
    && codes >= 1 && codes <= MAX_BLOCK_CODES && (samples === UNKNOWN || samples <= MAX_SAMPLES)
    && view.getUint8(76) === nameEnd - FIXED_SIZE && (!header.language || blockFrames <= MAX_CODED_FRAMES);
  if (!isPossible) throw new EcdcError("The file's header is impossible.");
  return { header, blockFrames, start };
}

// The number of samples in the end counts, if it is known there.
function takeLength(header, samples, frames) {
  if (samples === UNKNOWN) return;
  if (samples > MAX_SAMPLES) throw new EcdcError(`The file is damaged: ${samples} samples, but ${frames} frames.`);
  header.samples = Number(samples);
}

function blockBytes(first, frames, payload) {
  const bytes = new Uint8Array(HEAD_SIZE + payload.length);
  const view = viewOf(bytes);
  view.setUint16(0, MARKER);
  view.setUint32(4, first);
  view.setUint32(8, frames);
  view.setUint32(12, payload.length);
  view.setUint32(16, crc32(payload, crc32(bytes.subarray(4, 16))));
  view.setUint16(2, crc32(bytes.subarray(4, HEAD_SIZE)) & 0xffff);
  bytes.set(payload, HEAD_SIZE);
  return bytes;
}

// Returns the head of a block, or null if these bytes are none.
function readHead(view, at) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at + 4, HEAD_SIZE - 4);
  if (view.getUint16(at) !== MARKER || view.getUint16(at + 2) !== (crc32(bytes) & 0xffff)) return null;
  const [first, frames, length, crc] = [4, 8, 12, 16].map((field) => view.getUint32(at + field));
  return { first, frames, length, crc };
}

function endBytes(frames, samples, points) {
  const payload = new Uint8Array(12 + 12 * points.length);
  const view = viewOf(payload);
  view.setBigUint64(0, BigInt(samples));
  points.forEach(([frame, offset], index) => {
    view.setUint32(8 + 12 * index, frame);
    view.setBigUint64(12 + 12 * index, BigInt(offset));
  });
  view.setUint32(payload.length - 4, HEAD_SIZE + payload.length);
  return blockBytes(frames, 0, payload);
}
