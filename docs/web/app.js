// The page: takes sound or an .ecdc file, codes it, and lets one listen, look and save.

import { Codec } from "./codec.js";
import { EcdcError } from "./ecdc.js";
import { record } from "./microphone.js";
import { Lanes } from "./pictures.js";
import { Player } from "./player.js";
import { Signal } from "./signal.js";
import { samplesOf, SoundError, writeWav } from "./sound.js";

const MOST_SECONDS = 600;
const FIRST_CHOICE = 6;  // kbps, if the model has it
const byId = (id) => document.getElementById(id);

let facts, codec, signal = null, recording = null, began = 0;
const player = new Player(24000, () => refresh());
const lanes = new Lanes(byId("lanes"), (share) => player.seek(share * player.seconds));

async function start() {
  facts = await json("model/stream.json");
  player.rate = facts.sample_rate;
  codec = new Codec(facts, (loaded, total) => say(`Loading the model: ${megabytes(loaded)} of ${megabytes(total)}`, loaded / total));
  const clips = await json("clips/clips.json");
  byId("clips").append(...clips.map(clipButton));
  const milliseconds = ((1000 * facts.hop) / facts.sample_rate).toFixed(1);
  byId("codes-note").textContent = `A column is ${milliseconds} ms of sound, a row is a codebook, and a colour is one of its `
    + `${facts.codebook_size} entries. Each codebook refines those above it: a lower bitrate is the same file without the lower rows.`;
  const language = facts.language ? `; language model: licence ${facts.language.licence}` : "";
  byId("licences").append(`Model: ${facts.name}, licence ${facts.licence}${language}. Computed with `, link("ONNX Runtime", "runtime/LICENSE.txt"),
    clips.length ? "; clips under " : "", ...(clips.length ? [link("licences of their own", "clips/LICENSES.md")] : []), ".");
  say("");
  document.documentElement.dataset.ready = "";
}

async function json(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  return response.json();
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const kilobytes = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`);
const clock = (value) => `${Math.floor(value / 60)}:${(value % 60).toFixed(1).padStart(4, "0")}`;

function link(text, href) {
  return Object.assign(document.createElement("a"), { textContent: text, href });
}

function clipButton({ file, name }) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, className: "chip" });
  button.addEventListener("click", () => take(name, async () => (await fetch(`clips/${file}`)).arrayBuffer()));
  return button;
}

// Says what goes on; `share` moves the bar from 0 to 1, null hides it.
function say(text, share = null) {
  byId("status").ariaLive = share === null ? "polite" : "off";
  byId("status").textContent = text;
  byId("progress").hidden = share === null;
  byId("progress").value = share ?? 0;
}

function fail(error) {
  if (!(error instanceof SoundError || error instanceof EcdcError)) console.warn(error);
  say("");
  byId("error").textContent = error.message;
  byId("error").hidden = false;
}

let turn = 0;  // of what the user asked for last

// Takes the bytes of a file that `read` returns: sound, or codes.
async function take(title, read) {
  const own = (turn += 1);
  const isOld = () => own !== turn;
  byId("error").hidden = true;
  dropRecording();
  try {
    say(`Reading ${title}`);
    const bytes = await read();
    if (isOld()) return;
    const isCodes = new TextDecoder("latin1").decode(bytes.slice(0, 4)) === "ECDC";
    let samples = null, next;
    if (isCodes) {
      next = Signal.ofFile(title, facts, new Uint8Array(bytes), MOST_SECONDS);
    } else {
      samples = await samplesOf(bytes, facts.sample_rate);
      if (isOld()) return;
      if (!samples.length) throw new SoundError("The file has no sound.");
      samples = samples.slice(0, MOST_SECONDS * facts.sample_rate);
      next = Signal.ofSamples(title, facts, samples);
    }
    await codec.load(isCodes ? ["decoder", ...(next.file ? ["language"] : [])] : ["encoder", "decoder"]);
    if (isOld()) return;
    show(next);
    code(samples);
  } catch (error) {
    if (!isOld()) fail(error);
  }
}

function show(next) {
  signal = next;
  byId("listen").hidden = byId("notes").hidden = false;
  byId("title").textContent = signal.title;
  byId("about").textContent = `${clock(signal.seconds)} · ${facts.sample_rate / 1000} kHz mono`;
  byId("position").max = signal.seconds;
  lanes.load(signal);
  drawTracks();
  player.load(signal.tracks, signal.length);
  const chosen = signal.tracks.findIndex((track) => track.count && signal.kbpsOf(track.count) === FIRST_CHOICE);
  choose(chosen < 0 ? signal.tracks.length - 1 : chosen);
}

function code(samples) {
  began = performance.now();
  const handlers = {
    codes(codes) {
      signal.add(codes);
      lanes.update();
      refreshSave();
    },
    sound(track, some) {
      signal.addSound(track, some);
      if (track === signal.counts.length - 1) progress();
      lanes.update();
    },
    done() {
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      const cut = signal.length === MOST_SECONDS * facts.sample_rate ? " Only the first 10 minutes are used." : "";
      say(`${signal.original ? "Coded" : "Decoded"} ${signal.seconds.toFixed(1)} s in ${seconds} s.${cut}`);
      document.documentElement.dataset.coded = signal.title;
    },
    saving: (share) => say("Saving", share),
    saved(file, count) {
      endSaving();
      const shrunk = Math.round(100 * (1 - file.size / signal.sizeOf(count)));
      say(`Saved ${kilobytes(file.size)}.${shrunk > 0 ? ` A language model made the file ${shrunk} % smaller.` : ""}`);
      download(file, count);
    },
    failed(error) {
      endSaving();
      fail(error);
    },
  };
  delete document.documentElement.dataset.coded;
  if (samples) codec.code(samples, signal.counts, handlers);
  else codec.decode(signal.codes, signal.file, signal.codebooks, signal.counts, handlers);
  progress();
}

function progress() {
  const ready = signal.tracks.at(-1).ready / signal.length;
  say(`${signal.original ? "Coding" : "Decoding"}: ${(ready * signal.seconds).toFixed(1)} of ${signal.seconds.toFixed(1)} s`, ready);
}

const nameOf = (index) => (signal.tracks[index].count ? `${signal.kbpsOf(signal.tracks[index].count)} kbps` : "Original");

function drawTracks() {
  const original = 2 * signal.length;
  byId("tracks").replaceChildren(...signal.tracks.map(({ count }, index) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "track", value: index });
    input.addEventListener("change", () => choose(index));
    const bytes = count ? signal.sizeOf(count) : original;
    const lines = [["kbd", `${index + 1}`], ["b", nameOf(index)], ["span", kilobytes(bytes)],
      ["small", count ? `${Math.round(original / bytes)} × smaller` : `${(16 * facts.sample_rate) / 1000} kbps`]];
    label.append(input, ...lines.map(([name, textContent]) => Object.assign(document.createElement(name), { textContent })));
    label.querySelector("kbd").setAttribute("aria-hidden", "true");
    return label;
  }));
  byId("last-key").textContent = signal.tracks.length;
}

function choose(index) {
  const input = byId("tracks").querySelectorAll("input")[index];
  input.checked = true;
  if (document.activeElement?.name === "track") input.focus();
  lanes.select(index, nameOf);
  player.select(index);
  refreshSave();
}

const chosenCount = () => lanes.count;

function refreshSave() {
  byId("save").disabled = !signal.isCoded || signal.isSaving;
  byId("save").textContent = `Save ${signal.kbpsOf(chosenCount())} kbps`;
  const size = `${signal.headerOf(chosenCount()).language ? "at most " : ""}${kilobytes(signal.sizeOf(chosenCount()))}`;
  byId("saved").textContent = `an .ecdc file of ${size}; open it here, or with encodec-hk`;
}

async function save() {
  const own = signal, count = chosenCount();
  const header = own.headerOf(count);
  own.isSaving = true;
  refreshSave();
  byId("error").hidden = true;
  try {
    if (header.language) await codec.load(["language"]);
    if (own === signal) codec.save(header, own.codesOf(count));
  } catch (error) {
    endSaving();
    fail(error);
  }
}

function endSaving() {
  signal.isSaving = false;
  refreshSave();
}

function download(file, count) {
  const href = URL.createObjectURL(file);
  const stem = signal.title.replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}_.-]+/gu, "_");
  Object.assign(link("", href), { download: `${stem}_${signal.kbpsOf(count)}kbps.ecdc` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}

let isTicking = false;

// Shows the position now, and at every drawn frame while sound plays.
function refresh() {
  if (!signal) return;
  const { position, seconds } = player;
  byId("play").textContent = player.isPlaying ? "Pause" : "Play";
  byId("position").value = position;
  byId("position").setAttribute("aria-valuetext", `${position.toFixed(1)} of ${seconds.toFixed(1)} seconds`);
  byId("time").textContent = player.isWaiting ? "waiting" : `${clock(position)} / ${clock(seconds)}`;
  lanes.moveTo(seconds ? position / seconds : 0);
  if (player.isPlaying && !isTicking) {
    isTicking = true;
    requestAnimationFrame(() => {
      isTicking = false;
      refresh();
    });
  }
}

async function toggleRecording() {
  const button = byId("record");
  button.disabled = true;
  byId("error").hidden = true;
  try {
    if (recording) {
      const { rate } = recording;
      const samples = await recording.stop();
      recording = null;
      showLevel(null);
      await take("Recording", async () => writeWav(samples, rate));
    } else {
      player.pause();
      recording = await record((peak, seconds) => {
        if (!recording) return;
        showLevel(peak);
        say(`Recording: ${clock(seconds)}`);
        if (seconds >= MOST_SECONDS && !button.disabled) toggleRecording();
      });
      showLevel(0);
    }
  } catch (error) {
    fail(error);
  }
  button.disabled = false;
}

function dropRecording() {
  recording?.stop();
  recording = null;
  showLevel(null);
}

// The level from 0 to 1 over 60 dB, or null while nothing is recorded.
function showLevel(peak) {
  const isOn = peak !== null;
  byId("record").textContent = isOn ? "Stop" : "Record";
  byId("record").classList.toggle("on", isOn);
  byId("level").hidden = !isOn;
  const share = Math.min(1, Math.max(0, 1 + Math.log10(Math.max(peak, 1e-6)) / 3));
  byId("level").style.setProperty("--level", share);
}

function takeFile(file) {
  if (file) take(file.name, () => file.arrayBuffer());
}

function onKey(event) {
  const { key, target } = event;
  if (!signal || event.ctrlKey || event.altKey || event.metaKey) return;
  const count = signal.tracks.length;
  if (key === " " && !target.closest("button, a, input[type=checkbox], input[type=file]")) player.toggle();
  else if (key === "ArrowLeft") player.seek(player.position - 1);
  else if (key === "ArrowRight") player.seek(player.position + 1);
  else if (key === "ArrowUp" && target.name === "track") choose((player.active + count - 1) % count);
  else if (key === "ArrowDown" && target.name === "track") choose((player.active + 1) % count);
  else if (key >= "1" && Number(key) <= count) choose(Number(key) - 1);
  else return;
  event.preventDefault();
}

byId("file").addEventListener("change", (event) => {
  takeFile(event.target.files[0]);
  event.target.value = "";
});
byId("record").addEventListener("click", toggleRecording);
byId("play").addEventListener("click", () => player.toggle());
byId("loop").addEventListener("change", (event) => player.setLoop(event.target.checked));
byId("position").addEventListener("input", (event) => player.seek(Number(event.target.value)));
byId("save").addEventListener("click", save);
document.addEventListener("keydown", onKey);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("source").classList.add("over");
});
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, () => byId("source").classList.remove("over"));
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  takeFile(event.dataTransfer.files[0]);
});
start().catch(fail);
