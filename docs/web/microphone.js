// Records the microphone: samples at the rate of the device, and their level while they arrive.

import { SoundError } from "./sound.js";

const REASONS = {
  NotAllowedError: "The browser does not allow this page to use the microphone.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "Another program uses the microphone.",
};

/**
 * Starts to record. Returns { rate, stop }; `stop` returns the samples, a Float32Array.
 *
 * `onlevel` is called several times a second with the peak since the last call, from 0 to 1, and
 * the seconds recorded.
 */
export async function record(onlevel) {
  if (!navigator.mediaDevices) throw new SoundError("The microphone needs a page on https or localhost.");
  let stream;
  try {
    // What calls are tuned for would change the sound.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new SoundError(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  const parts = [];
  let length = 0;
  const ended = new Promise((resolve) => {
    recorder.port.onmessage = ({ data }) => {
      if (data === null) return resolve();
      parts.push(data);
      length += data.length;
      onlevel(data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0), length / context.sampleRate);
    };
  });
  context.createMediaStreamSource(stream).connect(recorder);
  const stop = async () => {
    recorder.port.postMessage("stop");
    await ended;
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
    const samples = new Float32Array(length);
    let at = 0;
    for (const part of parts) {
      samples.set(part, at);
      at += part.length;
    }
    return samples;
  };
  return { rate: context.sampleRate, stop };
}
