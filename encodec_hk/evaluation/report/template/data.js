// The data of the page, and helpers that make elements.

const overview = JSON.parse(document.getElementById("overview").textContent);
const itemScripts = [...document.querySelectorAll("script.item")];
const items = itemScripts.map((script) => JSON.parse(script.textContent));
const byId = (id) => document.getElementById(id);

// Makes an HTML element from attributes, `text`, handlers such as `onclick`, and children.
function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// A name that may wrap after _, / and -.
const breakable = (name) => (name.match(/[^_/-]*[_/-]?/g) ?? []).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace("-", "−");
const fixed = (value, digits) => (isNumber(value) ? minus(value.toFixed(digits)) : "–");
const kilobits = (value) => `${Number(value.toPrecision(3))} kbps`;
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const seconds = (value) => `${Math.floor(value / 60)}:${(value % 60).toFixed(1).padStart(4, "0")}`;

// Each codec has a colour, a shape and a dash, so that colour alone never tells codecs apart.
const SHAPES = ["circle", "square", "triangle", "diamond"];
const DASHES = { encodec: "", "": "", opus: "7 4", mp3: "2 4" };
const codecIndex = new Map(overview.codecs.map((codec, index) => [codec.name, index]));
const colourOf = (codec) => `var(--s${(codecIndex.get(codec) ?? 7) % 8})`;
const dashOf = (codec) => DASHES[overview.codecs[codecIndex.get(codec)]?.kind] ?? "7 4";

function marker(codec, x, y, size = 4.5) {
  const style = { fill: colourOf(codec), stroke: "var(--card)", "stroke-width": 1.5, class: "point" };
  const shape = SHAPES[(codecIndex.get(codec) ?? 0) % SHAPES.length];
  const points = (list) => list.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ");
  if (shape === "circle") return draw("circle", { cx: x, cy: y, r: size, ...style });
  if (shape === "square") {
    return draw("polygon", { points: points([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]), ...style });
  }
  if (shape === "triangle") return draw("polygon", { points: points([[0, -1.2], [1.1, 0.8], [-1.1, 0.8]]), ...style });
  return draw("polygon", { points: points([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]), ...style });
}

function mark(codec) {
  const svg = draw("svg", { class: "mark", width: 14, height: 14, "aria-hidden": "true" });
  svg.append(marker(codec, 7, 7, 5));
  return svg;
}

// "of 2 files" if a measure covers fewer files than the group has.
function fewerFiles(group, key) {
  const counts = overview.codecs.flatMap(({ name }) => pointsOf(group, name).map(({ means }) => means[key]?.count ?? 0));
  const most = Math.max(0, ...counts);
  return most && most < overview.files[group] ? `of ${plural(most, "file")}` : "";
}

// The points of a codec in a group, by bitrate: kbps asked for, kbps measured, means.
function pointsOf(group, codec) {
  const rates = overview.means[group]?.[codec] ?? {};
  return Object.entries(rates)
    .map(([asked, means]) => {
      const kbps = Number(asked);
      const measured = means.payload_kbps?.mean;
      return { asked: kbps, rate: isNumber(measured) && measured > 0 ? measured : kbps, means };
    })
    .filter((point) => point.rate > 0)
    .sort((a, b) => a.rate - b.rate);
}
