// The worker that codes, as the page sees it.

export class Codec {
  /** `facts` are those of stream.json; `onloading` is called with bytes loaded and in total. */
  constructor(facts, onloading) {
    this.facts = facts;
    this.onloading = onloading;
    this.id = 0;
    this.handlers = {};
    this.loading = Promise.resolve();
  }

  /**
   * Loads the parts of the model that are needed and were not loaded before, which takes seconds.
   *
   * `parts` are "encoder", "decoder" and "language".
   */
  load(parts) {
    const load = () => new Promise((resolve, reject) => {
      this.settle = (error) => (error ? reject(error) : resolve());
      this.worker ??= this.#worker();
      this.worker.postMessage({ kind: "load", facts: this.facts, parts });
    });
    this.loading = this.loading.then(load, load);
    return this.loading;
  }

  /**
   * Encodes samples, and decodes them from each of these numbers of codebooks.
   *
   * `handlers` are codes(Int32Array), sound(track, samples), done(), failed(Error), and of `save`
   * saving(share) and saved(Blob, codebooks). Work that goes on ends.
   */
  code(samples, counts, handlers) {
    this.#begin({ kind: "code", samples, counts }, handlers);
  }

  /**
   * Decodes codes, ordered by frame, from each of these numbers of codebooks.
   *
   * `file` is what ecdc.read returned, if its language model has to decode the codes first: then
   * `codes` has room for them. Otherwise it is null.
   */
  decode(codes, file, codebooks, counts, handlers) {
    this.#begin({ kind: "decode", codes, file, codebooks, counts }, handlers);
  }

  /** Makes an .ecdc file of the signal that was coded or decoded last. */
  save(header, codes) {
    this.worker.postMessage({ kind: "save", id: this.id, header, codes });
  }

  #begin(message, handlers) {
    this.id += 1;
    this.handlers = handlers;
    this.worker.postMessage({ ...message, id: this.id });
  }

  #worker() {
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => this.#take(data);
    worker.onerror = (event) => {
      this.worker = null;
      this.settle(new Error(event.message || "The page's worker cannot be loaded."));
    };
    return worker;
  }

  #take({ kind, id, ...data }) {
    if (kind === "loading") this.onloading(data.loaded, data.total);
    else if (kind === "loaded") this.settle();
    else if (kind === "failed" && id === null) this.settle(new Error(data.message));
    else if (id !== this.id) return;  // of a signal before
    else if (kind === "codes") this.handlers.codes(data.codes);
    else if (kind === "sound") this.handlers.sound(data.track, data.samples);
    else if (kind === "done") this.handlers.done();
    else if (kind === "saving") this.handlers.saving(data.share);
    else if (kind === "saved") this.handlers.saved(data.file, data.codebooks);
    else this.handlers.failed(new Error(data.message));
  }
}
