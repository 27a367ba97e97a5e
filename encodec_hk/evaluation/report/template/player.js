// A player per file: the original and its renditions, with aligned spectrograms.

const players = [];
let lastUsed = null;

function drawPlayers() {
  if (!items.length) return;
  byId("listen").hidden = false;
  items.forEach((item, index) => {
    const about = [item.group, `${item.seconds.toFixed(1)} s`, `${item.rate / 1000} kHz`,
      { 1: "mono", 2: "stereo" }[item.channels] ?? `${item.channels} channels`];
    if (item.whole > item.seconds + 0.1) about.push(`an excerpt; numbers are for all ${item.whole.toFixed(0)} s`);
    const element = make("details", { class: "card player", open: index === 0 },
      make("summary", {}, make("h3", { text: item.file }), make("span", { class: "small", text: about.join(" · ") })));
    const player = { item, element, deck: null };
    players.push(player);
    element.addEventListener("toggle", () => {
      if (element.open) build(player, index);
      else player.deck?.pause();
    });
    if (index === 0) build(player, index);
    byId("players").append(element);
  });
  document.addEventListener("keydown", playerKeys);
}

function build(player, index) {
  if (player.deck) return;
  const { item, element } = player;
  const deck = new Deck(item.tracks.map(({ audio }) => audio), item.rate, item.seconds, () => refresh());
  const controls = transport(deck);
  const tracks = make("div", { class: "tracks", role: "radiogroup", "aria-label": `Renditions of ${item.file}` });
  const rows = item.tracks.map((track, at) => {
    const row = trackRow(item, track, at, `player-${index}`);
    row.querySelector("input").addEventListener("change", () => deck.select(at));
    const picture = row.querySelector(".picture");
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      deck.select(at);
      deck.seek(((event.clientX - box.left) / box.width) * item.seconds);
      lastUsed = player;
    });
    return row;
  });
  tracks.append(...rows);
  const tick = () => {
    controls.update();
    element.style.setProperty("--at", deck.position / deck.length);
  };
  const run = ticker(tick, () => deck.isPlaying);
  const refresh = () => {
    if (deck.isPlaying) lastUsed = player;
    rows.forEach((row, at) => {
      row.classList.toggle("on", at === deck.active);
      row.querySelector("input").checked = at === deck.active;
    });
    run();
  };
  player.deck = deck;
  element.append(make("div", {}, controls.element, tracks, timeAxis(item), colourScale()));
  refresh();
}

function trackRow(item, { codec, kbps, measures, picture }, at, name) {
  const label = make("span", {}, make("b", {}, codec ? mark(codec) : null, ...breakable(codec || "Original")));
  if (codec) {
    const rate = isNumber(measures.payload_kbps) ? `, ${fixed(measures.payload_kbps, 2)} measured` : "";
    label.append(make("small", { text: `${kilobits(kbps)}${rate}` }));
    const told = overview.measures
      .filter(({ key, has_curve }) => has_curve && isNumber(measures[key]))
      .map(({ key, label: full, digits, unit }) => `${full.split(",")[0]} ${fixed(measures[key], digits)}${unit === "dB" ? " dB" : ""}`);
    const short = told.filter((text, index) => told.findIndex((t) => t.split(" ")[0] === text.split(" ")[0]) === index).slice(0, 3);
    label.append(make("small", {}, ...short.flatMap((text, index) => [index ? " · " : "", make("span", { text })])));
  } else {
    label.append(make("small", { text: "the input of the codecs" }));
  }
  const input = make("input", { type: "radio", name, checked: at === 0 });
  const key = at < 9 ? make("kbd", { text: at + 1, "aria-hidden": "true" }) : null;
  const what = codec ? `${codec} at ${kilobits(kbps)}` : "the original";
  const box = make("div", { class: "picture" },
    make("img", { src: picture, alt: `Spectrogram of ${what}`, draggable: "false" }), make("i", { class: "head-line" }));
  let last = -1;
  for (const [text, height] of item.ticks) {
    if (height - last < 0.16) continue;
    last = height;
    const tick = make("span", { text, "aria-hidden": "true" });
    tick.style.bottom = `${height * 100}%`;
    box.append(tick);
  }
  return make("div", { class: "track" }, make("label", {}, make("span", {}, input, key), label), box);
}

function timeAxis(item) {
  const axis = make("div", { class: "times", "aria-hidden": "true" });
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((s) => item.seconds / s <= 8) ?? 3600;
  for (let k = 0; k * step <= item.seconds * 0.98; k++) {
    const tick = make("span", { text: `${Number((k * step).toFixed(1))}${k ? "" : " s"}` });
    tick.style.left = `${((k * step) / item.seconds) * 100}%`;
    axis.append(tick);
  }
  return axis;
}

function colourScale() {
  const bar = make("i", { "aria-hidden": "true" });
  bar.style.background = overview.gradient;
  return make("div", { class: "scale" }, `−${overview.range} dB`, bar, "0 dB, the loudest point of the original");
}

// Keys go to the player with the focus, or else to the last one used.
function playerKeys(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const { target } = event;
  const card = target.closest?.(".player");
  if (!card && target.closest?.("input, select, textarea, button, summary, a, [tabindex]")) return;
  const player = card ? players.find(({ element }) => element === card) : lastUsed;
  if (!player?.deck || !player.element.open) return;
  const { deck } = player;
  const count = player.item.tracks.length;
  const isPress = target.closest?.("button, summary, input[type=checkbox]");
  const { key } = event;
  if (key === " " && !isPress) deck.toggle();
  else if (key === "ArrowUp") choose(player, (deck.active + count - 1) % count);
  else if (key === "ArrowDown") choose(player, (deck.active + 1) % count);
  else if (key === "ArrowLeft") deck.seek(deck.position - 1);
  else if (key === "ArrowRight") deck.seek(deck.position + 1);
  else if (key >= "1" && key <= "9" && Number(key) <= count) choose(player, Number(key) - 1);
  else return;
  event.preventDefault();
}

function choose(player, index) {
  player.deck.select(index);
  const input = player.element.querySelectorAll(".track input")[index];
  if (document.activeElement?.matches(".track input")) input.focus();
}
