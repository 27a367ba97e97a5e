// Encodes and decodes with ONNX Runtime, block by block: memory does not grow with the signal.
//
// Takes { kind: "load", facts, parts }, { kind: "code", id, samples, counts },
// { kind: "decode", id, codes, file, codebooks, counts } and { kind: "save", id, header, codes };
// `counts` are numbers of codebooks to decode. A new id ends the work before it; saving goes on
// beside the work of its id. Sends { kind } of
//   "loading"  loaded, total: bytes
//   "loaded"   threads
//   "codes"    id, codes: Int32Array of the next frames, ordered by frame
//   "sound"    id, track: index of a count, samples: Float32Array of the next samples
//   "done"     id
//   "saving"   id, share: from 0 to 1
//   "saved"    id, codebooks, file: Blob
//   "failed"   id (null while loading), message

import { CodeModel } from "./code_model.js";
import * as ecdc from "./ecdc.js";
import { LanguageCoder } from "./language_coder.js";
import * as ort from "./runtime/ort.wasm.min.js";

const url = (name) => new URL(name, import.meta.url).href;
ort.env.wasm.wasmPaths = { mjs: url("runtime/ort-wasm-simd-threaded.js"), wasm: url("runtime/ort-wasm-simd-threaded.wasm") };
// Threads need two headers of the server, which docs/export.md names.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
ort.env.logLevel = "error";

const sessions = {};  // by name of the graph, such as encoder_start
let coder = null;  // the LanguageCoder
let facts = null;
let current = null;  // id of the work that goes on

self.onmessage = ({ data }) => {
  if (data.kind === "load") {
    settle(null, load(data));
  } else if (data.kind === "save") {
    settle(data.id, save(data));
  } else {
    current = data.id;
    settle(data.id, data.kind === "code" ? code(data) : decode(data));
  }
};

async function settle(id, work) {
  try {
    await work;
  } catch (error) {
    self.postMessage({ kind: "failed", id, message: String(error?.message ?? error) });
  }
}

async function load({ facts: given, parts }) {
  facts = given;
  const sides = ["encoder", "decoder"].filter((side) => parts.includes(side) && !sessions[`${side}_step`]);
  const names = sides.flatMap((side) => [`${side}_start.onnx`, `${side}_step.onnx`, `${side}.weights`]);
  const needsLanguage = parts.includes("language") && !coder;
  if (needsLanguage) names.push(facts.language.file);
  const total = names.reduce((sum, name) => sum + sizeOf(name), 0);
  let loaded = 0;
  const files = {};
  for (const name of names) {
    files[name] = await fetched(`model/${name}`, (bytes) => {
      loaded += bytes;
      self.postMessage({ kind: "loading", loaded, total: Math.max(loaded, total) });
    });
  }
  for (const side of sides) {
    const externalData = [{ path: `${side}.weights`, data: files[`${side}.weights`] }];
    for (const part of ["start", "step"]) {
      const options = { executionProviders: ["wasm"], externalData, logSeverityLevel: 3 };
      sessions[`${side}_${part}`] = await ort.InferenceSession.create(files[`${side}_${part}.onnx`], options);
    }
  }
  if (needsLanguage) coder = new LanguageCoder(new CodeModel(files[facts.language.file]));
  self.postMessage({ kind: "loaded", threads: ort.env.wasm.numThreads });
}

const sizeOf = (name) => facts.files?.[name]?.size ?? 0;

async function fetched(name, onbytes) {
  const response = await fetch(url(name));
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    onbytes(value.length);
  }
}

// One direction of one signal: the state of a graph goes from block to block.
class Stream {
  constructor(side) {
    this.side = side;
    this.state = null;
    this.early = facts[side].lag;  // samples that a decoder gives before the first of the signal
  }

  // Returns the outputs of a block; those that begin with next_ are the state of the next one.
  async run(inputs) {
    const session = sessions[`${this.side}_${this.state ? "step" : "start"}`];
    const outputs = await session.run({ ...inputs, ...this.state });
    this.state = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      if (name.startsWith("next_")) this.state[name.slice(5)] = tensor;
    }
    return outputs;
  }
}

// Frames of a block: about a second, and no fewer than a stream begins with.
function blockFrames() {
  const first = Math.ceil(facts.encoder.first_block / facts.hop);
  return Math.max(Math.ceil(facts.sample_rate / facts.hop), first, facts.decoder.first_block);
}

async function code({ id, samples, counts }) {
  const encoder = new Stream("encoder");
  const decoders = counts.map(() => new Stream("decoder"));
  const size = blockFrames() * facts.hop;
  for (let at = 0; at < samples.length; at += size) {
    if (await isStopped(id)) return;
    const block = samples.slice(at, at + size);
    const outputs = await encoder.run({ audio: new ort.Tensor("float32", block, [1, 1, block.length]) });
    const codes = byFrame(outputs.codes);
    self.postMessage({ kind: "codes", id, codes });
    await decodeBlock(id, codes, facts.num_codebooks, counts, decoders, at + size >= samples.length);
  }
  if (current === id) self.postMessage({ kind: "done", id });
}

async function decode({ id, codes, file, codebooks, counts }) {
  const decoders = counts.map(() => new Stream("decoder"));
  const size = blockFrames() * codebooks;
  let known = file ? 0 : codes.length, next = 0;  // codes, and the block of the next ones
  for (let at = 0; at < codes.length; at += size) {
    while (known < Math.min(at + size, codes.length)) {
      if (await isStopped(id)) return;
      const some = ecdc.codesOf(file, file.blocks[next], coder);
      codes.set(some, known);
      known += some.length;
      next += 1;
      self.postMessage({ kind: "codes", id, codes: some });
    }
    if (await isStopped(id)) return;
    await decodeBlock(id, codes.subarray(at, at + size), codebooks, counts, decoders, at + size >= codes.length);
  }
  if (current === id) self.postMessage({ kind: "done", id });
}

async function save({ id, header, codes }) {
  const parts = [];
  let size = 0;
  const most = ecdc.sizeOf(header);
  for (const part of ecdc.write(header, codes, header.language ? coder : null)) {
    if (await isStopped(id)) return;
    parts.push(part);
    size += part.length;
    self.postMessage({ kind: "saving", id, share: size / most });
  }
  self.postMessage({ kind: "saved", id, codebooks: header.codebooks, file: new Blob(parts, { type: "application/octet-stream" }) });
}

async function decodeBlock(id, codes, codebooks, counts, decoders, isLast) {
  for (const [track, count] of counts.entries()) {
    if (await isStopped(id)) return;
    const decoder = decoders[track];
    const { audio, rest } = await decoder.run({ codes: byCodebook(codes, codebooks, count) });
    // A decoder that lags holds its last samples back, in case more follows.
    const given = isLast && rest ? [...audio.data, ...rest.data] : audio.data;
    const samples = Float32Array.from(given.slice(decoder.early));
    decoder.early = Math.max(0, decoder.early - given.length);
    self.postMessage({ kind: "sound", id, track, samples }, [samples.buffer]);
  }
}

// Lets messages in, and returns whether one of them has ended this work.
async function isStopped(id) {
  await new Promise((resolve) => setTimeout(resolve));
  return current !== id;
}

// Codes of the graph, int64 [1, K, F], as Int32Array ordered by frame.
function byFrame({ data, dims: [, codebooks, frames] }) {
  const codes = new Int32Array(codebooks * frames);
  for (let k = 0; k < codebooks; k += 1) {
    for (let frame = 0; frame < frames; frame += 1) codes[frame * codebooks + k] = Number(data[k * frames + frame]);
  }
  return codes;
}

// The first `count` codebooks of codes ordered by frame, as int64 [1, count, F].
function byCodebook(codes, codebooks, count) {
  const frames = codes.length / codebooks;
  const data = new BigInt64Array(count * frames);
  for (let k = 0; k < count; k += 1) {
    for (let frame = 0; frame < frames; frame += 1) data[k * frames + frame] = BigInt(codes[frame * codebooks + k]);
  }
  return new ort.Tensor("int64", data, [1, count, frames]);
}
