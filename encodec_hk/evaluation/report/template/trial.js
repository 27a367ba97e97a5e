// A trial of the listening test: a named reference, and unnamed conditions to score.
//
// Elements have letters only; this closure alone knows the condition of a letter.

const WORDS = ["bad", "poor", "fair", "good", "excellent"];
const wordOf = (score) => WORDS[Math.min(4, Math.floor(score / 20))];

// `stimuli` are sounds in the order shown; `scores` were given before a reload, null if not yet.
// Calls `onscore` with the scores at each change, `onnext` when the listener continues.
function trialView({ item, reference, stimuli, scores, heading, isLast, seed, onscore, onnext, onleave }) {
  const count = stimuli.length;
  const letters = stimuli.map((_, index) => String.fromCharCode(65 + index));
  const needed = Math.min(1, 0.9 * item.seconds);  // seconds to hear of each
  const heard = new Array(count + 1).fill(0);
  const given = scores.slice();
  const deck = new Deck([reference, ...stimuli], item.rate, item.seconds, () => refresh());
  deck.loop = true;
  const controls = transport(deck);

  const listenTo = (index) => {
    deck.select(index);
    if (!deck.isPlaying) deck.play();
  };
  const press = (index, text, name) => make("button", {
    type: "button", "aria-pressed": "false", "aria-label": name, text, onclick: () => listenTo(index),
  });
  const referenceBox = make("div", { class: "reference" }, press(0, "Reference", "Listen to the reference"));
  const rows = letters.map((letter, index) => {
    const slider = make("input", {
      type: "range", min: 0, max: 100, step: 1, value: given[index] ?? 50, "aria-label": `Score of ${letter}`,
      class: given[index] === null ? "unset" : "",
    });
    const set = () => {
      given[index] = Number(slider.value);
      onscore(given.slice());
      refresh();
    };
    slider.addEventListener("input", set);
    slider.addEventListener("pointerup", set);  // a click without a move is a score too
    return make("div", { class: "stimulus" }, press(index + 1, letter, `Listen to ${letter}`), slider,
      make("output", {}), make("span", { class: "state" }));
  });
  const status = make("p", { class: "small", role: "status" });
  const next = make("button", {
    type: "button", class: "main next", text: isLast ? "Finish" : "Next trial", onclick: () => {
      deck.pause();
      onnext(given.slice());
    },
  });
  const leave = make("button", { type: "button", text: "Leave, continue later", onclick: () => {
    deck.pause();
    onleave();
  } });

  const refresh = () => {
    [referenceBox, ...rows].forEach((row, index) => {
      row.classList.toggle("on", index === deck.active);
      row.querySelector("button").setAttribute("aria-pressed", String(index === deck.active));
    });
    run();
    progress();
  };
  const progress = () => {
    rows.forEach((row, index) => {
      const slider = row.querySelector("input"), score = given[index];
      slider.classList.toggle("unset", score === null);
      row.querySelector("output").textContent = score ?? "–";
      slider.setAttribute("aria-valuetext", score === null ? "not scored" : `${score}, ${wordOf(score)}`);
      const is = [heard[index + 1] >= needed ? "heard" : "not heard", score === null ? "not scored" : wordOf(score)];
      row.querySelector(".state").textContent = is.join(" · ");
    });
    const unheard = [heard[0] >= needed ? null : "the reference", ...letters.map((l, i) => (heard[i + 1] >= needed ? null : l))];
    const left = unheard.filter(Boolean), unscored = letters.filter((_, index) => given[index] === null);
    const parts = [left.length ? `Still to hear: ${left.join(", ")}.` : "", unscored.length ? `Still to score: ${unscored.join(", ")}.` : ""];
    const text = parts.filter(Boolean).join(" ") || "All heard and scored.";
    if (status.textContent !== text) status.textContent = text;
    next.disabled = left.length + unscored.length > 0;
  };
  let before = null;
  const tick = () => {
    controls.update();
    const now = deck.isPlaying ? deck.context.currentTime : null;
    if (now !== null && before !== null) {
      const was = heard[deck.active];
      heard[deck.active] += Math.min(0.25, Math.max(0, now - before));
      if (was < needed && heard[deck.active] >= needed) progress();
    }
    before = now;
  };
  const run = ticker(tick, () => deck.isPlaying);

  const keys = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { key, target } = event;
    const letter = key.length === 1 ? key.toUpperCase().charCodeAt(0) - 65 : -1;
    if (key === " " && !target.closest("button, input[type=checkbox]")) deck.toggle();
    else if (letter >= 0 && letter < count) listenTo(letter + 1);
    else if (key >= "0" && key <= "9" && Number(key) <= count) listenTo(Number(key));
    else if (key === "ArrowLeft" && !target.closest("input")) deck.seek(deck.position - 1);
    else if (key === "ArrowRight" && !target.closest("input")) deck.seek(deck.position + 1);
    else return;
    event.preventDefault();
  };
  const element = make("div", { class: "wide", onkeydown: keys },
    make("h2", { text: heading, tabindex: -1 }),
    make("p", { class: "note" }, "How close to the reference is each? One is the reference itself and should score 100. ",
      make("span", { class: "keys" }, make("kbd", { text: "0" }), " plays the reference, ", make("kbd", { text: "A" }), " to ",
        make("kbd", { text: letters.at(-1) }), " the others, ", make("kbd", { text: "Space" }), " pauses; arrow keys move a score.")),
    controls.element, referenceBox,
    make("div", { class: "words", "aria-hidden": "true" }, ...WORDS.map((text) => make("span", { text }))),
    ...rows, make("div", { class: "buttons" }, next, leave, status),
    make("p", { class: "small", text: `Seed ${seed}` }));
  refresh();
  return { element, stop: () => deck.pause() };
}
