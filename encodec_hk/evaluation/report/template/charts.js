// Curves of quality by bitrate: a chart per measure, all with the same bitrate axis.

const KBPS = [0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320, 512];  // ticks
const HEIGHT = 270;

function drawCurves(group) {
  const box = byId("curves");
  const lines = overview.codecs.map(({ name }) => ({ codec: name, points: pointsOf(group, name) }));
  const rates = lines.flatMap((line) => line.points.map((point) => point.rate));
  const cards = overview.measures
    .filter((measure) => measure.has_curve)
    .map((measure) => ({ measure, lines: withMeasure(lines, measure.key) }))
    .filter((chart) => chart.lines.length)
    .map((chart) => curveCard(chart, rates, group));
  box.replaceChildren(...cards.map((card) => card.element));
  for (const card of cards) card.paint();
  if (!cards.length) box.append(make("p", { class: "note", text: "These files have no measure of quality." }));
}

function withMeasure(lines, key) {
  return lines
    .map(({ codec, points }) => ({
      codec,
      points: points
        .filter((point) => isNumber(point.means[key]?.mean))
        .map((point) => {
          const { mean, low, high, count } = point.means[key];
          const has = isNumber(low) && isNumber(high);
          return { ...point, mean, low: has ? low : mean, high: has ? high : mean, count };
        }),
    }))
    .filter((line) => line.points.length);
}

function curveCard({ measure, lines }, rates, group) {
  const arrow = { true: "↑ higher is better", false: "↓ lower is better" }[measure.is_higher_better] ?? "";
  const title = make("h3", { text: measure.label });
  const about = [measure.unit, fewerFiles(group, measure.key)].filter(Boolean).join(", ");
  title.append(make("span", { class: "small", text: ` ${about}` }));
  const svg = draw("svg", { role: "img", height: HEIGHT, "aria-label": inWords(measure, lines) });
  const tip = make("div", { class: "tip", hidden: true });
  const element = make("div", { class: "card curve", "data-measure": measure.key },
    make("div", { class: "head" }, title, make("span", { class: "better", text: arrow })), svg, tip);
  let spots = [];
  const paint = () => {
    const width = svg.getBoundingClientRect().width;
    if (width < 50) return;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    spots = paintCurves(svg, width, measure, lines, rates);
  };
  svg.addEventListener("pointermove", (event) => showTip(event, svg, tip, spots, measure));
  svg.addEventListener("pointerleave", () => (tip.hidden = true));
  new ResizeObserver(paint).observe(svg);
  return { element, paint };
}

function inWords(measure, lines) {
  const parts = lines.map(({ codec, points }) => {
    const values = points.map((p) => `${fixed(p.mean, measure.digits)} at ${kilobits(p.rate)}`);
    return `${codec}: ${values.join(", ")}`;
  });
  return `${measure.label} by bitrate. ${parts.join(". ")}.`;
}

function paintCurves(svg, width, measure, lines, rates) {
  svg.replaceChildren();
  const longest = Math.max(...lines.map((line) => textWidth(svg, line.codec)));
  const right = Math.min(longest + 12, width * 0.36);
  const area = { left: 44, right: width - right, top: 10, bottom: HEIGHT - 40 };
  const low = Math.min(...rates) / 1.12, high = Math.max(...rates) * 1.12;
  const x = (rate) => area.left + (Math.log(rate / low) / Math.log(high / low)) * (area.right - area.left);
  const steps = niceSteps(lines.flatMap((line) => line.points.flatMap((p) => [p.mean, p.low, p.high])));
  const y = (value) => area.bottom - ((value - steps.low) / (steps.high - steps.low)) * (area.bottom - area.top);

  for (const value of steps.ticks) {
    svg.append(draw("line", { class: "grid", x1: area.left, x2: area.right, y1: y(value), y2: y(value) }));
    const text = fixed(value, steps.digits);
    svg.append(draw("text", { x: area.left - 8, y: y(value) + 4, "text-anchor": "end", text }));
  }
  let last = -Infinity;
  for (const rate of KBPS.filter((r) => r >= low && r <= high)) {
    if (x(rate) - last < 30) continue;
    last = x(rate);
    svg.append(draw("line", { class: "axis", x1: last, x2: last, y1: area.bottom, y2: area.bottom + 5 }));
    svg.append(draw("text", { x: last, y: area.bottom + 19, "text-anchor": "middle", text: String(rate) }));
  }
  svg.append(draw("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }));
  const middle = (area.left + area.right) / 2;
  svg.append(draw("text", { x: middle, y: HEIGHT - 5, "text-anchor": "middle", text: "measured payload, kbps" }));

  const spots = [];
  for (const { codec, points } of lines) {
    const colour = colourOf(codec);
    const along = (edge) => points.map((p) => `${x(p.rate)},${y(p[edge])}`);
    const band = [...along("high"), ...along("low").reverse()].join(" ");
    svg.append(draw("polygon", { points: band, fill: colour, opacity: Math.min(0.12, 0.3 / lines.length) }));
  }
  for (const { codec, points } of lines) {
    const colour = colourOf(codec);
    const line = points.map((p) => `${x(p.rate)},${y(p.mean)}`).join(" ");
    svg.append(draw("polyline", {
      points: line, fill: "none", stroke: colour, "stroke-width": 2.25, "stroke-dasharray": dashOf(codec), "stroke-linejoin": "round",
    }));
    for (const point of points) {
      const at = x(point.rate);
      if (point.high > point.low) {
        const top = y(point.high), end = y(point.low);
        const d = `M${at - 3},${top}h6M${at},${top}V${end}M${at - 3},${end}h6`;
        svg.append(draw("path", { d, stroke: colour, "stroke-width": 1.25, opacity: 0.75, fill: "none" }));
      }
      svg.append(marker(codec, at, y(point.mean)));
      spots.push({ x: at, y: y(point.mean), codec, point });
    }
  }
  nameLines(svg, lines, x, y, area, right);
  return spots;
}

function textWidth(svg, text) {
  const element = draw("text", { class: "name", text });
  svg.append(element);
  const width = element.getComputedTextLength();
  element.remove();
  return width;
}

// Writes names to the right of the last points, moved apart if they would overlap.
function nameLines(svg, lines, x, y, area, room) {
  const names = lines
    .map(({ codec, points }) => ({ codec, x: x(points.at(-1).rate), y: y(points.at(-1).mean) }))
    .map((name) => ({ ...name, at: name.y }))
    .sort((a, b) => a.y - b.y);
  const gap = 16;
  for (let i = 1; i < names.length; i++) names[i].at = Math.max(names[i].at, names[i - 1].at + gap);
  let limit = area.bottom - 2;
  for (let i = names.length - 1; i >= 0; i--, limit -= gap) names[i].at = Math.min(names[i].at, limit);
  for (const { codec, x: from, y: height, at } of names) {
    let short = codec;
    while (short.length > 2 && textWidth(svg, short) > room - 10) short = `${short.slice(0, -2)}…`;
    if (area.right + 6 - from > 26 || Math.abs(at - height) > 8) {
      svg.append(draw("path", {
        d: `M${from + 8},${height}L${area.right + 6},${at}`, stroke: colourOf(codec), "stroke-width": 1, opacity: 0.35, fill: "none",
      }));
    }
    const text = draw("text", { class: "name", x: area.right + 10, y: at + 4, text: short });
    text.style.fill = colourOf(codec);
    text.append(draw("title", { text: codec }));
    svg.append(text);
  }
}

function showTip(event, svg, tip, spots, measure) {
  const box = svg.getBoundingClientRect();
  const [px, py] = [event.clientX - box.left, event.clientY - box.top];
  const distance = (spot) => Math.hypot(spot.x - px, spot.y - py);
  const near = spots.reduce((best, spot) => (distance(spot) < distance(best) ? spot : best), spots[0]);
  tip.hidden = !near || distance(near) > 40;
  if (tip.hidden) return;
  const { point, codec } = near;
  const value = `${fixed(point.mean, measure.digits)} ${measure.unit}`.trim();
  const interval = point.high > point.low
    ? ` (${fixed(point.low, measure.digits)} to ${fixed(point.high, measure.digits)})` : "";
  const files = point.count ? `, ${plural(point.count, "file")}` : "";
  tip.replaceChildren(make("b", { text: codec }), `${value}${interval}${files}`, make("br"),
    `asked for ${kilobits(point.asked)}, measured ${kilobits(point.rate)}`);
  const edge = tip.parentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(near.x + 24, edge))}px`;
  tip.style.top = `${near.y - tip.offsetHeight + 30}px`;
}

function niceSteps(values) {
  let low = Math.min(...values), high = Math.max(...values);
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  low -= room;
  high += room;
  const rough = (high - low) / 5.5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push(k * step);
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (/2\.?5/.test(step.toPrecision(2)) ? 1 : 0));
  return { low, high, ticks, digits: Math.min(digits, 6) };
}
