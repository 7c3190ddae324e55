"use strict";
// Cost against accuracy across studies, of those that the filters of the table leave.
const data = JSON.parse(document.getElementById("data").textContent);
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
const COLOURS = [
  ["#0072b2", "#4ba3e3"],
  ["#d55e00", "#f08a4b"],
  ["#009e73", "#35c79a"],
  ["#882255", "#d0709f"],
  ["#4d4d4d", "#b9bec7"],
  ["#e69f00", "#e69f00"],
  ["#56b4e9", "#56b4e9"],
];
const field = (id) => document.getElementById(id);
const shownCost = (value) =>
  field("cost-axis").value === "seconds" ? `${value.toFixed(1)} s` : Intl.NumberFormat("en").format(value);

function shownPoints() {
  const rows = find("#studies tr[data-study]").filter((row) => !row.hidden);
  const shown = new Set(rows.map((row) => Number(row.dataset.study)));
  const group = field("group").value,
    name = field("cost-axis").value;
  return data.points.filter((point) => shown.has(point.study) && point.group === group && point.costs[name] != null);
}

// Those that no other beats in one and equals in the other, the cheapest first, as in report/analysis/cost.py.
function paretoFront(points, cost) {
  const found = [];
  for (const point of [...points].sort((a, b) => a.costs[cost] - b.costs[cost] || b.test - a.test)) {
    const last = found.at(-1);
    if (!last || point.test > last.test || (point.test === last.test && point.costs[cost] === last.costs[cost]))
      found.push(point);
  }
  return found;
}

function cost() {
  const name = field("cost-axis").value,
    points = shownPoints(),
    front = paretoFront(points, name),
    dark = page.isDark() ? 1 : 0;
  const across = (points) => points.map((p) => p.costs[name]),
    tests = (points) => points.map((p) => p.test);
  const traces = [dashed(across(front), tests(front), { width: 1.4, shape: "hv" })];
  for (const study of new Set(points.map((point) => point.study))) {
    const own = points.filter((point) => point.study === study);
    const words = own.map(
      (p) =>
        `${label(p.name)}: ${label(p.arm)}<br>${p.test.toFixed(2)} %, ${shownCost(p.costs[name])}, n = ${p.n}` +
        (front.includes(p) ? "<br>on the Pareto front" : ""),
    );
    traces.push(
      scatter("markers", across(own), tests(own), {
        text: words,
        ...HOVER,
        cliponaxis: false,
        marker: {
          color: COLOURS[study % COLOURS.length][dark],
          symbol: SYMBOLS[study % SYMBOLS.length],
          size: 9,
          line: { color: colours().ink, width: own.map((p) => (front.includes(p) ? 2 : 0)) },
        },
      }),
    );
  }
  const log = field("log-axis").checked,
    along = (p) => (log ? Math.log10(p.costs[name]) : p.costs[name]),
    placed = points.filter((p) => isFinite(along(p))),
    margin = { l: 56, r: 60, t: 26, b: 48 },
    height = 430;
  const rangeX = placed.length ? widened(placed.map(along), 0.05, 1e-3) : [0, 1],
    rangeY = placed.length ? widened(tests(placed), 0.08, 0.5) : [0, 1];
  if (!log) rangeX[0] = 0;
  const width = (field("plot-cost").clientWidth || 700) - margin.l - margin.r,
    high = height - margin.t - margin.b,
    isNamed = (p) => front.length < 9 && innerWidth >= 600 && front.includes(p);
  const marks = placed.map((p) => ({
    x: along(p),
    y: p.test,
    left: ((along(p) - rangeX[0]) / (rangeX[1] - rangeX[0])) * width,
    top: ((rangeY[1] - p.test) / (rangeY[1] - rangeY[0])) * high,
    text: isNamed(p) ? shortened(`${p.name}: ${p.arm}`, 30) : "",
  }));
  return {
    data: traces,
    layout: {
      height,
      margin,
      annotations: namesBeside(marks, width, high),
      xaxis: { title: { text: data.costs[name] }, type: log ? "log" : "linear", range: rangeX },
      yaxis: { title: { text: "test accuracy (%)" }, range: rangeY },
    },
  };
}

function frontTable() {
  const name = field("cost-axis").value,
    rows = paretoFront(shownPoints(), name);
  const heads = ["Study", "Arm", data.costs[name], "Test (%)", "n"];
  const lines = rows.map((p) => {
    const numbers = [shownCost(p.costs[name]), p.test.toFixed(2), p.n];
    const cells = [make("th", { scope: "row", text: p.name }), make("td", { class: "words", text: p.arm })];
    return make("tr", {}, ...cells, ...numbers.map((text) => make("td", { class: "number", text })));
  });
  field("front").replaceChildren(tableOf("Arms on the Pareto front", heads, lines, 2));
}

if (data.points.length) {
  const show = () => {
    frontTable();
    if (typeof redraw === "function") redraw();
  };
  for (const id of ["group", "cost-axis", "log-axis"]) field(id).addEventListener("change", show);
  field("studies").addEventListener("filter", show);
  if (typeof plot === "function") plot("cost", cost);
  frontTable();
}
