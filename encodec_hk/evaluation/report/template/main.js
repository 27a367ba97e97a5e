// Draws the page.

function drawGroup(group) {
  drawCurves(group);
  drawMeans(group);
}

const groupNames = Object.keys(overview.files).filter((group) => group === "all" || overview.means[group]);
for (const group of groupNames) {
  const count = overview.files[group];
  const text = `${group === "all" ? "all files" : group} (${count})`;
  byId("group").append(make("option", { value: group, text }));
}
byId("group-choice").hidden = groupNames.length < 3;  // a single group has all files
byId("group").addEventListener("change", () => drawGroup(byId("group").value));
drawLegend();
drawGroup("all");
drawCodebooks();
drawPlayers();
drawTest();
