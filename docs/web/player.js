// Plays one of several tracks of one signal. All run at once, with gains, so that a switch goes on at
// the same sample. Sound is scheduled in pieces, and waited for where it is not decoded yet.

const LEAD = 0.03;  // seconds from a command to its effect
const PIECE = 1;  // seconds
const AHEAD = 2.5;  // seconds that are scheduled
const FADE = 0.006;
const LEAST_LOOP = 0.2;  // seconds; shorter sound plays once

export class Player {
  /** `onchange` is called after every command, at the end, and when sound is waited for. */
  constructor(rate, onchange) {
    Object.assign(this, { rate, onchange });
    this.context = null;
    this.timer = 0;
    this.loop = true;
    this.load([], 0);
  }

  /** Takes new tracks, { samples: Float32Array of all samples, ready: how many there are so far }. */
  load(tracks, length) {
    this.#halt();
    Object.assign(this, { tracks, length, active: 0, offset: 0, isPlaying: false, isWaiting: false });
    this.#remove();
    this.onchange();
  }

  /** The position in seconds. */
  get position() {
    return this.#sample() / this.rate;
  }

  get seconds() {
    return this.length / this.rate;
  }

  play() {
    if (!this.length || this.isPlaying) return;
    if (this.offset >= this.length) this.offset = 0;
    this.isPlaying = true;
    this.#prepare();
    this.#start();
  }

  pause() {
    if (!this.isPlaying) return;
    this.offset = this.#sample();
    this.#halt();
    this.isPlaying = this.isWaiting = false;
    this.onchange();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  seek(seconds) {
    this.#halt();
    this.offset = Math.round(Math.min(Math.max(seconds * this.rate, 0), this.length));
    if (this.isPlaying) this.#start();
    else this.onchange();
  }

  select(index) {
    this.active = index;
    this.#setGains(FADE);
    // A track that was not decoded when the others were scheduled joins them now.
    if (this.isPlaying && (this.isPartial || this.isWaiting)) this.seek(this.position);
    else this.onchange();
  }

  setLoop(loop) {
    this.offset = this.#sample();
    this.#halt();
    this.loop = loop;
    if (this.isPlaying) this.#start();
    else this.onchange();
  }

  // Makes the context at the first command to play: browsers allow it only then.
  #prepare() {
    this.context ??= new AudioContext({ sampleRate: this.rate });
    this.context.resume();
    if (this.gains.length) return;
    this.gains = this.tracks.map(() => {
      const gain = this.context.createGain();
      gain.connect(this.context.destination);
      return gain;
    });
  }

  #start() {
    this.isWaiting = false;
    this.zero = Math.ceil((this.context.currentTime + LEAD) * this.rate);  // in samples of the context
    this.cursor = 0;  // samples scheduled since then
    this.isPartial = false;
    this.#setGains(0);
    this.timer = setInterval(() => this.#schedule(), 200);
    this.#schedule();
    this.onchange();
  }

  #schedule() {
    const elapsed = this.#elapsed();
    const { ready } = this.tracks[this.active];
    while (this.cursor < elapsed + AHEAD * this.rate) {
      const from = this.#wrapped(this.offset + this.cursor);
      const size = Math.min(PIECE * this.rate, ready - from);
      if (size <= 0) break;
      this.#startPiece(from, size);
      this.cursor += size;
    }
    if (elapsed < this.cursor) return;
    const place = this.#wrapped(this.offset + this.cursor);
    this.#halt();
    if (place >= this.length) {
      this.isPlaying = false;
      this.offset = this.length;
    } else {  // all that is decoded was played
      this.isWaiting = true;
      this.offset = place;
      this.timer = setInterval(() => this.#startIfReady(), 100);
    }
    this.onchange();
  }

  #startIfReady() {
    const enough = Math.min(this.length, this.offset + 2 * PIECE * this.rate);
    if (this.tracks[this.active].ready < enough) return;
    this.#halt();
    this.#start();
  }

  #startPiece(from, size) {
    const when = (this.zero + this.cursor) / this.rate;
    this.tracks.forEach((track, index) => {
      if (track.ready < from + size) {
        this.isPartial = true;
        return;
      }
      const source = this.context.createBufferSource();
      source.buffer = this.context.createBuffer(1, size, this.rate);
      source.buffer.copyToChannel(track.samples.subarray(from, from + size), 0);
      source.connect(this.gains[index]);
      source.onended = () => this.sources.delete(source);
      source.start(when);
      this.sources.add(source);
    });
  }

  #elapsed() {
    return Math.max(0, Math.floor(this.context.currentTime * this.rate) - this.zero);
  }

  #wrapped(sample) {
    const isLoop = this.loop && this.length > LEAST_LOOP * this.rate;
    return isLoop ? sample % this.length : Math.min(sample, this.length);
  }

  #sample() {
    if (!this.isPlaying || this.isWaiting) return this.offset;
    return this.#wrapped(this.offset + Math.min(this.#elapsed(), this.cursor));
  }

  #setGains(seconds) {
    this.gains.forEach((gain, index) => {
      const value = index === this.active ? 1 : 0;
      gain.gain.cancelScheduledValues(0);
      if (seconds && this.isPlaying) gain.gain.setTargetAtTime(value, this.context.currentTime, seconds / 3);
      else gain.gain.value = value;
    });
  }

  #halt() {
    clearInterval(this.timer);
    for (const source of this.sources ?? []) {
      source.onended = null;
      source.stop();
    }
    this.sources = new Set();
  }

  #remove() {
    for (const gain of this.gains ?? []) gain.disconnect();
    this.gains = [];
  }
}
