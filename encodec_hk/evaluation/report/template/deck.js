// Several sounds of one length on one clock: a switch continues at the same sample, with a short fade.

const LEAD = 0.015;  // seconds from a command to its effect
const FADE = 0.008;
const contexts = new Map();
let playing = null;  // the only deck that may play

// Returns an audio context at the files' sample rate, if the browser can, to avoid resampling.
function contextFor(rate) {
  if (!contexts.has(rate)) {
    const Context = window.AudioContext || window.webkitAudioContext;
    let context;
    try {
      context = new Context({ sampleRate: rate });
    } catch {
      context = new Context();
    }
    contexts.set(rate, context);
  }
  return contexts.get(rate);
}

function bytesOf(uri) {
  const text = atob(uri.slice(uri.indexOf(",") + 1));
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

class Deck {
  // Calls `onchange` after every command and at the end; read `position` in between.
  constructor(uris, rate, length, onchange) {
    Object.assign(this, { uris, rate, length, onchange });
    this.active = 0;
    this.loop = false;
    this.isPlaying = false;
    this.hasFailed = false;
    this.offset = 0;    // seconds, the position while paused
    this.zero = 0;      // the context's time of the sound's start
    this.voice = null;  // the source that plays
  }

  load() {
    this.loading ??= (async () => {
      this.context = contextFor(this.rate);
      this.buffers = await Promise.all(this.uris.map((uri) => this.context.decodeAudioData(bytesOf(uri))));
      this.uris = null;
    })();
    return this.loading;
  }

  get position() {
    if (!this.isPlaying) return this.offset;
    return this.#at(this.context.currentTime);
  }

  #at(time) {
    const passed = Math.max(0, time - this.zero);
    return this.loop ? passed % this.length : Math.min(passed, this.length);
  }

  async play() {
    if (playing && playing !== this) playing.pause();
    playing = this;
    contextFor(this.rate).resume();  // browsers allow this only while they handle a press
    try {
      await this.load();
    } catch {
      this.hasFailed = true;  // not FLAC, or out of memory
      return this.onchange();
    }
    await this.context.resume();
    if (playing !== this || this.isPlaying) return;
    if (this.offset >= this.length - 0.01) this.offset = 0;
    this.#start(this.offset);
    this.onchange();
  }

  pause() {
    if (playing === this) playing = null;
    if (!this.isPlaying) return;
    this.offset = this.position;
    this.isPlaying = false;
    this.#fadeOut(this.context.currentTime);
    this.onchange();
  }

  toggle() {
    return this.isPlaying ? this.pause() : this.play();
  }

  seek(position) {
    this.offset = Math.max(0, Math.min(position, this.length));
    if (this.isPlaying) this.#start(Math.min(this.offset, this.length - 0.005));
    this.onchange();
  }

  select(index) {
    if (index === this.active) return;
    this.active = index;
    if (this.isPlaying) this.#start(null);
    this.onchange();
  }

  setLoop(loop) {
    const position = this.position;
    this.loop = loop;
    if (this.isPlaying) this.seek(position);
    else this.onchange();
  }

  // Starts the active sound at a position, or, with null, where the previous one will be.
  #start(position) {
    const { context, rate } = this;
    const when = Math.ceil((context.currentTime + LEAD) * rate) / rate;
    const from = Math.round((position ?? this.#at(when)) * rate) / rate;
    this.#fadeOut(when);
    if (position !== null || this.loop) this.zero = when - from;
    this.isPlaying = true;
    const source = context.createBufferSource();
    const gain = context.createGain();
    source.buffer = this.buffers[this.active];
    source.loop = this.loop;
    gain.gain.setValueAtTime(0, when);
    gain.gain.linearRampToValueAtTime(1, when + FADE);
    source.connect(gain).connect(context.destination);
    source.start(when, from);
    source.onended = () => this.voice?.source === source && this.#end();
    this.voice = { source, gain, when };
  }

  #fadeOut(when) {
    if (!this.voice) return;
    const { source, gain, when: begun } = this.voice;
    this.voice = null;
    gain.gain.cancelScheduledValues(when);
    gain.gain.setValueAtTime(Math.max(0, Math.min(1, (when - begun) / FADE)), when);
    gain.gain.linearRampToValueAtTime(0, when + FADE);
    source.stop(when + FADE);
  }

  #end() {
    this.voice = null;
    this.isPlaying = false;
    this.offset = 0;
    if (playing === this) playing = null;
    this.onchange();
  }
}

// Returns a function that calls `tick` now, and at every drawn frame while `isWanted()`.
function ticker(tick, isWanted) {
  let isRunning = false;
  const frame = () => {
    tick();
    isRunning = isWanted();
    if (isRunning) requestAnimationFrame(frame);
  };
  return () => {
    tick();
    if (!isRunning) requestAnimationFrame(frame);
    isRunning = true;
  };
}

// The controls of a deck: play, position, time and loop.
function transport(deck) {
  const button = make("button", { type: "button", class: "main play", text: "Play", onclick: () => deck.toggle() });
  const slider = make("input", {
    type: "range", min: 0, max: deck.length, step: "any", value: 0, "aria-label": "Position", oninput: () => deck.seek(Number(slider.value)),
  });
  const time = make("output", {});
  const loop = make("input", { type: "checkbox", checked: deck.loop, onchange: () => deck.setLoop(loop.checked) });
  const element = make("div", { class: "transport" }, button, slider, time, make("label", { class: "check" }, loop, "Loop"));
  const update = () => {
    const position = deck.position;
    button.textContent = deck.isPlaying ? "Pause" : "Play";
    slider.value = position;
    slider.setAttribute("aria-valuetext", `${position.toFixed(1)} of ${deck.length.toFixed(1)} seconds`);
    time.textContent = deck.hasFailed ? "This browser cannot decode FLAC." : `${seconds(position)} / ${seconds(deck.length)}`;
    loop.checked = deck.loop;
  };
  return { element, update };
}
