// The outcome of a listening test: post-screening, means, and a file to save.

// The rule by which BS.1534 rejects a listener.
function postScreening(done) {
  const hidden = done.filter(({ condition }) => condition === HIDDEN);
  const low = hidden.filter(({ score }) => score < 90).length;
  return { trials: hidden.length, low, isKept: low <= 0.15 * hidden.length };
}

function outcome(state) {
  const { trials, low, isKept } = postScreening(state.done);
  const groups = new Map();
  for (const { condition, kbps, score } of state.done) {
    const name = kbps === null ? condition : `${condition}, ${kilobits(kbps)}`;
    groups.set(name, [...(groups.get(name) ?? []), score]);
  }
  const rows = [...groups].map(([name, scores]) => ({ name, scores, mean: scores.reduce((a, b) => a + b, 0) / scores.length }))
    .sort((a, b) => b.mean - a.mean)
    .map(({ name, scores, mean }) => {
      const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
      bar.firstChild.style.width = `${mean}%`;
      return make("tr", {}, make("th", { scope: "row", text: name }), make("td", { text: fixed(mean, 1) }),
        make("td", { text: scores.length > 1 ? `${Math.min(...scores)} to ${Math.max(...scores)}` : "–" }), make("td", {}, bar));
    });
  const head = ["Condition", "Mean score", "Range", ""].map((text) => make("th", { scope: "col", text }));
  return make("div", { class: "card setup outcome", role: "region", "aria-label": "Your test" },
    make("h3", { text: `The test by ${state.listener} is done` }),
    make("p", { class: "verdict", text: isKept ? "Keep these scores." : "Reject these scores, by the rule below." }),
    make("p", { class: "note", text: `The hidden reference scored less than 90 in ${low} of ${plural(trials, "trial")}. The post-screening of BS.1534 `
      + "rejects listeners for whom it does in more than 15 % of the trials." }),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Mean scores" },
      make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))),
    make("div", { class: "buttons" }, make("button", { type: "button", class: "main download", text: "Save the scores (CSV)", onclick: () => saveScores(state) }),
      make("button", { type: "button", text: "Delete this test", onclick: () => {
        store.write(null);
        drawTest();
      } })));
}

function saveScores(state) {
  const columns = ["listener", "trial", "file", "condition", "kbps", "score", "seed", "order", "time"];
  const quoted = (value) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = state.done.map((row) => columns.map((key) => quoted(row[key] ?? state[key])).join(","));
  const file = new Blob([`${[columns.join(","), ...rows].join("\r\n")}\r\n`], { type: "text/csv;charset=utf-8" });
  const link = make("a", { href: URL.createObjectURL(file), download: `scores_${state.listener.replace(/[^\p{L}\p{N}]+/gu, "_")}_${state.seed}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
