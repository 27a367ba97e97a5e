// Tables of means, and the use of codebooks.

function drawLegend() {
  const kinds = { encodec: "EnCodec model", opus: "Opus", mp3: "MP3" };
  byId("legend").replaceChildren(...overview.codecs.map(({ name, kind }) => {
    const line = draw("svg", { class: "mark", width: 34, height: 14, "aria-hidden": "true" });
    line.append(draw("line", {
      x1: 0, x2: 34, y1: 7, y2: 7, stroke: colourOf(name), "stroke-width": 2.25, "stroke-dasharray": dashOf(name),
    }), marker(name, 17, 7, 5));
    const what = kinds[kind] && kinds[kind].toLowerCase() !== name.toLowerCase() ? ` (${kinds[kind]})` : "";
    return make("li", {}, line, `${name}${what}`);
  }));
  for (const card of document.querySelectorAll("[data-codec]")) card.querySelector("h3").prepend(mark(card.dataset.codec));
}

function drawMeans(group) {
  const columns = overview.measures.filter(({ key }) =>
    overview.codecs.some(({ name }) => pointsOf(group, name).some(({ means }) => isNumber(means[key]?.mean))));
  const head = make("tr", {}, make("th", { scope: "col", text: "Codec" }), make("th", { scope: "col" },
    "Asked for", make("span", { class: "unit", text: "kbps" })));
  for (const { key, label, unit, is_higher_better } of columns) {
    const arrow = { true: " ↑", false: " ↓" }[is_higher_better] ?? "";
    head.append(make("th", { scope: "col" }, label.replace(/(\d) (?=s\b)/, "$1\u00a0"), make("span", { class: "unit", text: unit + arrow }),
      make("span", { class: "unit", text: fewerFiles(group, key) })));
  }
  const bodies = overview.codecs.map(({ name }) => {
    const points = pointsOf(group, name);
    const rows = points.map(({ asked, means }, index) => make("tr", {},
      index ? null : make("th", { scope: "rowgroup", rowspan: points.length }, mark(name), ...breakable(name)),
      make("td", { text: Number(asked.toPrecision(4)) }),
      ...columns.map(({ key, digits }) => meanCell(means[key], digits))));
    return make("tbody", { class: "start" }, ...rows);
  });
  const count = overview.files[group];
  const caption = `${plural(count, "file")}. ↑ higher is better, ↓ lower is better. Intervals need at least two files.`;
  byId("means").replaceChildren(make("table", {}, make("caption", { text: caption }), make("thead", {}, head), ...bodies));
}

function meanCell(found, digits) {
  if (!isNumber(found?.mean)) return make("td", { text: "–" });
  const { mean, low, high, count } = found;
  const cell = make("td", { text: fixed(mean, digits), title: count ? plural(count, "file") : null });
  if (isNumber(low) && isNumber(high) && high > low) {
    cell.append(make("small", { text: `${fixed(low, digits)} to ${fixed(high, digits)}` }));
  }
  return cell;
}

function drawCodebooks() {
  const models = Object.entries(overview.codebooks).filter(([, rates]) => Object.keys(rates ?? {}).length);
  if (!models.length) return;
  byId("codebooks").hidden = false;
  byId("books").replaceChildren(...models.map(([codec, rates]) => make("div", { class: "model" },
    make("h3", {}, codec),
    make("div", { class: "bars" }, ...Object.entries(rates)
      .filter(([, books]) => books?.length)
      .sort(([a], [b]) => Number(a) - Number(b))
      .map(([kbps, books]) => bookCard(codec, kbps, books))))));
}

function bookCard(codec, kbps, books) {
  const sizes = books.map(({ used, dead }) => (used ?? 0) + (dead ?? 0));
  const bits = Math.log2(Math.max(2, ...sizes));
  const mean = books.reduce((sum, { entropy }) => sum + (entropy ?? 0), 0) / books.length;
  const dead = books.reduce((sum, book) => sum + (book.dead ?? 0), 0) / Math.max(1, sizes.reduce((a, b) => a + b, 0));
  const summary = `${fixed(mean, 2)} of ${Number(bits.toFixed(2))} bits, ${fixed(100 * dead, 1)}\u00a0%\u00a0dead`;
  const svg = draw("svg", {
    role: "img", viewBox: `0 0 ${books.length * 10} 64`, preserveAspectRatio: "none",
    "aria-label": `Entropy of ${books.length} codebooks at ${kbps} kbps: ${summary}`,
  });
  books.forEach(({ entropy }, index) => {
    const height = 64 * Math.min(1, Math.max(0, (entropy ?? 0) / bits));
    svg.append(draw("rect", { class: "full", x: index * 10 + 1, width: 8, y: 0, height: 64 }),
      draw("rect", { class: "used", x: index * 10 + 1, width: 8, y: 64 - height, height }));
  });
  const rows = books.map(({ entropy, perplexity, used, dead: unused }, index) => make("tr", {},
    make("th", { scope: "row", text: index + 1 }), make("td", { text: fixed(entropy, 2) }),
    make("td", { text: fixed(perplexity, 0) }), make("td", { text: used ?? "–" }), make("td", { text: unused ?? "–" })));
  const head = ["No.", "Entropy, bits", "Perplexity", "Used", "Dead"].map((text) => make("th", { scope: "col", text }));
  return make("div", { class: "card" },
    make("h4", { text: `${kbps} kbps, ${plural(books.length, "codebook")}` }), svg,
    make("p", { class: "small", text: summary }),
    make("details", {}, make("summary", { text: "Numbers" }),
      make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))));
}
