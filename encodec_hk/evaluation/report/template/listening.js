// The listening test after ITU-R BS.1534: its form, its trials and its end.

const HIDDEN = "hidden reference", ANCHOR = "anchor 3.5 kHz";
const DEFAULT_CONDITIONS = 8;  // hidden reference and anchor included
const MOST_CONDITIONS = 26;  // letters
const STORE = `listening test ${overview.id}`;

const store = {
  read() {
    try {
      return JSON.parse(localStorage.getItem(STORE));
    } catch {
      return null;  // no storage, or not our data
    }
  },
  write(state) {
    try {
      if (state) localStorage.setItem(STORE, JSON.stringify(state));
      else localStorage.removeItem(STORE);
    } catch { /* without storage, a reload starts a new test */ }
  },
};

// Returns a generator of numbers in [0, 1), determined by the seed.
function random(seed) {
  let state = (Math.imul(seed ^ 0x5bd1e995, 0x85ebca6b) ^ 0x2545f491) | 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) next();
  return next;
}

function shuffled(list, next) {
  const result = list.slice();
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

const conditionName = (track) => `${track.codec} ${track.kbps}`;

// The conditions of a file in the order of a trial: name, kbps and sound of each.
function conditionsOf(item, state, trial) {
  const chosen = item.tracks.slice(1).filter((track) => state.conditions.includes(conditionName(track)));
  const all = [
    { condition: HIDDEN, kbps: null, audio: item.tracks[0].audio },
    ...(item.anchor ? [{ condition: ANCHOR, kbps: null, audio: item.anchor }] : []),
    ...chosen.map(({ codec, kbps, audio }) => ({ condition: codec, kbps, audio })),
  ];
  return shuffled(all, random(state.seed + 7919 * (trial + 1)));
}

function drawTest() {
  if (!items.some((item) => item.tracks.length > 1)) return;
  byId("blind").hidden = false;
  const state = store.read();
  byId("test").replaceChildren(setup());
  if (state?.trials?.length && state.trial < state.trials.length) {
    byId("test").prepend(make("aside", { class: "notice" },
      make("p", { text: `A test is unfinished: ${state.trial} of ${state.trials.length} trials are done.` }),
      make("div", { class: "buttons" }, make("button", { type: "button", class: "main resume", text: "Continue", onclick: () => runTest(state) }))));
  } else if (state?.done?.length) {
    byId("test").prepend(outcome(state));
  }
}

function setup() {
  const names = [...new Map(items.flatMap((item) => item.tracks.slice(1)).map((track) => [conditionName(track), track]))];
  const room = DEFAULT_CONDITIONS - (items.some((item) => item.anchor) ? 2 : 1);
  const few = Math.min(room, names.length);
  const defaults = new Set(Array.from({ length: few }, (_, i) => Math.round((i * (names.length - 1)) / Math.max(1, few - 1))));
  const listener = make("input", { type: "text", name: "listener", required: true, maxlength: 60, autocomplete: "off" });
  const seed = make("input", { type: "number", name: "seed", min: 0, max: 2 ** 31 - 1, step: 1, required: true,
    value: Math.floor(Math.random() * 1e6) });
  const pick = (text, value, checked) => {
    const box = make("input", { type: "checkbox", value, checked });
    return make("label", { class: "check" }, box, text);
  };
  const conditions = make("div", { class: "picks conditions" }, ...names.map(([name, { codec, kbps }], index) =>
    pick(`${codec}, ${kilobits(kbps)}`, name, defaults.has(index))));
  const files = make("div", { class: "picks files" }, ...items.map(({ file }, index) => pick(file, index, true)));
  const warning = make("p", { class: "small", role: "status" });
  const chosen = (box) => [...box.querySelectorAll("input:checked")].map(({ value }) => value);
  const check = () => {
    const count = chosen(conditions).length;
    const total = count + DEFAULT_CONDITIONS - room;
    warning.textContent = count === 0 || chosen(files).length === 0 ? "Choose at least one codec and one file."
      : `${total} conditions per trial, including the hidden reference${room < DEFAULT_CONDITIONS - 1 ? " and the anchor" : ""}.`
        + (total > MOST_CONDITIONS ? ` Choose at most ${MOST_CONDITIONS}.` : total > 12 ? " BS.1534 advises at most 12." : "");
    return count > 0 && chosen(files).length > 0 && total <= MOST_CONDITIONS;
  };
  const form = make("form", { class: "card setup", onchange: check, onsubmit: (event) => {
    event.preventDefault();
    if (!check()) return;
    const state = { listener: listener.value.trim(), seed: Number(seed.value), conditions: chosen(conditions), trial: 0, scores: null, done: [] };
    const usable = chosen(files).map(Number).filter((index) => items[index].tracks.some((t) => state.conditions.includes(conditionName(t))));
    state.trials = shuffled(usable, random(state.seed));
    runTest(state);
  } },
    make("p", { class: "note", text: "After ITU-R BS.1534 (MUSHRA). In each trial, score the renditions of a file from 0 to 100 against the open reference. "
      + "Among them are the hidden reference and a low anchor, the original low-passed at 3.5 kHz. Letters change in each trial, and the "
      + "page does not show what they stand for. Use headphones in a quiet room. Loudness is not matched, and the 7 kHz anchor of the "
      + "recommendation is left out." }),
    make("div", { class: "line" }, make("label", {}, "Listener (name or number)", listener), make("label", {}, "Seed of the order", seed)),
    make("fieldset", {}, make("legend", { text: "Codecs and bitrates" }), conditions),
    make("fieldset", {}, make("legend", { text: "Files, one trial each" }), files), warning,
    make("div", { class: "buttons" }, make("button", { class: "main start", text: "Start the test" }),
      make("span", { class: "small", text: "The test fills the window. This browser keeps the scores, so that a reload continues." })));
  check();
  return form;
}

function runTest(state) {
  playing?.pause();
  const dialog = make("dialog", { "aria-label": "Blind listening test" });
  let view = null;
  const close = () => {
    view?.stop();
    dialog.close();
    dialog.remove();
    drawTest();
    byId("blind").scrollIntoView();
    byId("test").querySelector("button.main").focus({ preventScroll: true });
  };
  const show = () => {
    store.write(state);
    if (state.trial >= state.trials.length) return close();
    const item = items[state.trials[state.trial]];
    const order = conditionsOf(item, state, state.trial);
    view = trialView({
      item, seed: state.seed, reference: item.tracks[0].audio, stimuli: order.map(({ audio }) => audio),
      scores: state.scores ?? order.map(() => null), isLast: state.trial === state.trials.length - 1,
      heading: `Trial ${state.trial + 1} of ${state.trials.length}: ${item.file}`,
      onscore: (scores) => store.write({ ...state, scores }),
      onnext: (scores) => {
        const time = new Date().toISOString();
        order.forEach(({ condition, kbps }, index) => state.done.push({
          trial: state.trial + 1, file: item.file, condition, kbps, score: scores[index], order: index + 1, time,
        }));
        Object.assign(state, { trial: state.trial + 1, scores: null });
        show();
      },
      onleave: close,
    });
    const bar = make("progress", { value: state.trial, max: state.trials.length, "aria-label": "Trials done" });
    view.element.querySelector("h2").after(bar);
    dialog.replaceChildren(view.element);
    view.element.querySelector("h2").focus();
  };
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  document.body.append(dialog);
  dialog.showModal();
  show();
}
