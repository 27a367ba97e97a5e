// Runs on the audio thread: sends the microphone's samples in pieces of 2048, then null.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(2048);
    this.filled = 0;
    this.isRunning = true;
    this.port.onmessage = () => {
      this.#send();
      this.port.postMessage(null);
      this.isRunning = false;
    };
  }

  process([[samples]]) {
    if (samples && this.isRunning) {
      this.piece.set(samples, this.filled);
      this.filled += samples.length;
      if (this.filled === this.piece.length) this.#send();
    }
    return this.isRunning;
  }

  #send() {
    this.port.postMessage(this.piece.slice(0, this.filled));
    this.filled = 0;
  }
}

registerProcessor("recorder", Recorder);
