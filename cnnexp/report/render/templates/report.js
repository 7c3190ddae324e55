"use strict";
// The figures, matrices, mistakes and settings of a report, from the data of the page.
const data = JSON.parse(document.getElementById("data").textContent);
const byKey = new Map(data.arms.map((arm) => [arm.key, arm]));
const state = { shown: new Set(data.arms.map((arm) => arm.key)), seeds: false, training: false, log: false, cost: "seconds" };
const shownArms = () => data.arms.filter((arm) => state.shown.has(arm.key));
const colourOf = (arm) => arm.colour[page.isDark() ? 1 : 0];
const RUNS = data.folds ? "runs" : "seeds"; // what single points are
const fixed = (value, digits = 2) => (value == null ? "-" : value.toFixed(digits));

function showArms() {
  for (const button of find("#arm-switches [data-arm]")) button.setAttribute("aria-pressed", state.shown.has(button.dataset.arm));
  redraw();
  drawMatrices();
}

// The legend of all figures: a button switches an arm off or on in all of them.
function armSwitches() {
  const holder = document.getElementById("arm-switches");
  const set = (keys) => { state.shown = new Set(keys); showArms(); };
  const every = data.arms.map((arm) => arm.key), base = data.arms.filter((arm) => arm.baseline).map((arm) => arm.key);
  const flip = (arm) => { state.shown[state.shown.has(arm.key) ? "delete" : "add"](arm.key); showArms(); };
  holder.append(...data.arms.map((arm) => make("button", { type: "button", class: "switch", "data-arm": arm.key, title: "Show or hide this arm in all figures", onclick: () => flip(arm) }, mark(arm), make("span", { text: shortened(arm.label, 34) }))));
  document.getElementById("all-arms").addEventListener("click", () => set(every));
  document.getElementById("no-arms").addEventListener("click", () => set(base));
  for (const [id, name] of [["single-seeds", "seeds"], ["training-curves", "training"], ["log-axis", "log"]]) {
    document.getElementById(id).addEventListener("change", (event) => { state[name] = event.target.checked; redraw(); });
  }
  showArms();
}

const SHAPES = { circle: "M6 1a5 5 0 1 0 .01 0z", square: "M1.5 1.5h9v9h-9z", diamond: "M6 0l6 6-6 6-6-6z", "triangle-up": "M6 1l5.5 10H.5z", "triangle-down": "M6 11L.5 1h11z",
  cross: "M4 0h4v4h4v4H8v4H4V8H0V4h4z", x: "M2 0l4 4 4-4 2 2-4 4 4 4-2 2-4-4-4 4-2-2 4-4-4-4z", star: "M6 0l1.6 4.2L12 4.4 8.5 7.2 9.8 12 6 9.2 2.2 12l1.300-4.8L0 4.400l4.400-.2z" };
const paint = (path) => { path.style.fill = colourOf(byKey.get(path.dataset.of)); };
page.redraw.push(() => find(".mark path").forEach(paint));
function mark(arm) {
  const [svg, path] = ["svg", "path"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SHAPES[arm.symbol]);
  path.dataset.of = arm.key;
  paint(path);
  svg.append(path);
  return svg;
}

// Mean over the runs of the epochs that all of them reached, and a standard deviation to each side (of two: both).
function meanCurve(curves, metric) {
  const maps = curves.map((curve) => new Map(curve.epoch.map((epoch, i) => [epoch, curve[metric][i]]).filter(([, value]) => value != null)));
  if (!maps.length) return { epoch: [], mean: [], low: [], high: [] };
  const epoch = [...maps[0].keys()].filter((e) => maps.every((map) => map.has(e)));
  const found = { epoch, mean: [], low: [], high: [] };
  for (const e of epoch) {
    const values = maps.map((map) => map.get(e)), mean = values.reduce((a, b) => a + b) / values.length;
    const std = values.length > 2 ? Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1)) : NaN;
    found.mean.push(mean);
    found.low.push(values.length > 2 ? mean - std : Math.min(...values));
    found.high.push(values.length > 2 ? mean + std : Math.max(...values));
  }
  return found;
}

function curveTraces(arm, split, metric) {
  const colour = colourOf(arm), dash = split === "train" ? "dot" : arm.dash, name = label(arm.label), unit = metric === "accuracy" ? " %" : "";
  const what = split === "train" ? "training" : "validation", digits = metric === "accuracy" ? 2 : 4;
  const line = (x, y, words, width, opacity = 1, pattern = dash) => ({
    type: "scatter", mode: x.length < 2 ? "markers" : "lines+markers", x, y, opacity, hovertemplate: "%{text}<extra></extra>",
    line: { color: colour, width, dash: pattern },
    marker: { color: colour, symbol: arm.symbol, size: split === "val" ? 6 : 0.1, maxdisplayed: 9 },
    text: x.map((epoch, i) => `${name}, ${what}<br>epoch ${epoch}: ${fixed(y[i], digits)}${unit}${words(i)}`),
  });
  const having = arm.runs.filter((run) => run[split].epoch.length), done = having.filter((run) => run.done), traces = [];
  const words = (run) => () => `<br>seed ${run.seed}${run.done ? "" : " (not finished)"}`;
  const single = (run, width) =>
    line(run[split].epoch, run[split][metric], words(run), width, 0.75, run.done ? dash : "dot");
  if (state.seeds) return having.map((run) => single(run, 1.3));
  const { epoch, mean, low, high } = meanCurve(done.map((run) => run[split]), metric);
  if (done.length > 1 && split === "val") {
    traces.push({ type: "scatter", mode: "lines", x: [...epoch, ...epoch.slice().reverse()], y: [...high, ...low.slice().reverse()], fill: "toself", fillcolor: faded(colour, 0.14), line: { width: 0 }, hoverinfo: "skip" });
  }
  const of = (i) => `<br>mean of ${done.length} ${RUNS}, ${fixed(low[i], digits)} to ${fixed(high[i], digits)}`;
  if (epoch.length) traces.push(line(epoch, mean, done.length > 1 ? of : words(done[0]), split === "val" ? 2.4 : 1.4));
  return [...traces, ...having.filter((run) => !run.done).map((run) => single(run, 1.6))];
}

function curves(metric) {
  const traces = shownArms().flatMap((arm) => [...(state.training ? curveTraces(arm, "train", metric) : []), ...curveTraces(arm, "val", metric)]);
  return { data: traces, layout: { height: 420, xaxis: { title: { text: "epoch" } }, yaxis: { title: { text: metric === "accuracy" ? "accuracy (%)" : "loss (nats)" }, type: state.log ? "log" : "linear" } } };
}

function accuracy() {
  const arms = shownArms().filter((arm) => arm.n), traces = [];
  const names = arms.map((arm) => label(shortened(arm.label, 30)));
  arms.forEach((arm, place) => {
    const [mean, low, high] = arm.test, colour = colourOf(arm), name = label(arm.label), interval = low == null ? "" : `<br>95 % interval ${fixed(Math.max(low, 0))} to ${fixed(Math.min(high, 100))}`;
    const done = arm.runs.filter((run) => run.done);
    if (low != null) traces.push({ type: "scatter", mode: "lines", x: [Math.max(low, 0), Math.min(high, 100)], y: [place, place], line: { color: faded(colour, 0.45), width: 7 }, hoverinfo: "skip" });
    traces.push({ type: "scatter", mode: "markers", x: done.map((run) => run.test), y: done.map(() => place + 0.24), marker: { color: colour, symbol: `${arm.symbol}-open`, size: 6 }, text: done.map((run) => `${name}, seed ${run.seed}: ${fixed(run.test)} %`), hovertemplate: "%{text}<extra></extra>" });
    traces.push({ type: "scatter", mode: "markers", x: [mean], y: [place], marker: { color: colour, symbol: arm.symbol, size: 11 }, text: [`${name}: mean ${fixed(mean)} %, n = ${arm.n}${interval}`], hovertemplate: "%{text}<extra></extra>" });
  });
  const base = arms.find((arm) => arm.baseline);
  const shapes = base ? [{ type: "line", x0: base.test[0], x1: base.test[0], y0: 0, y1: 1, yref: "paper", line: { dash: "dot", width: 1, color: colourOf(base) } }] : [];
  const yaxis = { tickvals: arms.map((_, i) => i), ticktext: names, range: [arms.length - 0.45, -0.55], showgrid: false };
  return { data: traces, layout: { height: 90 + 36 * Math.max(arms.length, 2), shapes, xaxis: { title: { text: "test accuracy (%)" } }, yaxis } };
}

function cost() {
  const name = state.cost, arms = shownArms().filter((arm) => arm.n && arm.costs[name] != null), traces = [];
  const shownCost = (value) => (name === "seconds" ? `${fixed(value, 1)} s` : Intl.NumberFormat("en").format(value));
  const order = [...arms].sort((a, b) => a.costs[name] - b.costs[name]);
  const front = data.fronts[name].map((key) => byKey.get(key));
  traces.push({ type: "scatter", mode: "lines", x: front.map((arm) => arm.costs[name]), y: front.map((arm) => arm.test[0]), line: { color: colours().soft, dash: "dash", width: 1.4, shape: "hv" }, hoverinfo: "skip" });
  for (const arm of arms) {
    const colour = colourOf(arm), text = label(arm.label), done = arm.runs.filter((run) => run.done && run.costs[name] != null);
    if (state.seeds || name === "seconds") traces.push({ type: "scatter", mode: "markers", x: done.map((run) => run.costs[name]), y: done.map((run) => run.test), opacity: 0.55, marker: { color: colour, symbol: `${arm.symbol}-open`, size: 6 }, text: done.map((run) => `${text}, seed ${run.seed}<br>${fixed(run.test)} %, ${shownCost(run.costs[name])}`), hovertemplate: "%{text}<extra></extra>" });
    const on = front.includes(arm) ? "<br>on the Pareto front" : "";
    traces.push({ type: "scatter", mode: arms.length > 14 || innerWidth < 600 ? "markers" : "markers+text", x: [arm.costs[name]], y: [arm.test[0]], marker: { color: colour, symbol: arm.symbol, size: 12, line: { width: front.includes(arm) ? 2 : 0, color: colours().ink } }, text: [`${text}<br>mean ${fixed(arm.test[0])} %, ${shownCost(arm.costs[name])}${on}`], texttemplate: label(shortened(arm.label, 22)), textposition: ["top center", "bottom center"][order.indexOf(arm) % 2], hovertemplate: "%{text}<extra></extra>", cliponaxis: false });
  }
  return { data: traces, layout: { height: 430, margin: { l: 56, r: 40, t: 26, b: 48 }, xaxis: { title: { text: data.costs[name] }, type: state.log ? "log" : "linear", rangemode: "tozero" }, yaxis: { title: { text: "test accuracy (%)" } } } };
}

function reliability() {
  const traces = [{ type: "scatter", mode: "lines", x: [0, 100], y: [0, 100], line: { color: colours().soft, dash: "dash", width: 1 }, hoverinfo: "skip" }];
  for (const arm of shownArms().filter((one) => data.reliability[one.key])) {
    const bins = data.reliability[arm.key], name = label(arm.label);
    const words = ([sure, right, images]) =>
      `${name}<br>confidence ${fixed(sure, 1)} %, accuracy ${fixed(right, 1)} %<br>${images} images a ${RUNS.slice(0, -1)}`;
    const size = bins.map(([, , images]) => 5 + Math.min(9, Math.sqrt(images) / 3));
    traces.push({
      type: "scatter", mode: "lines+markers", x: bins.map(([sure]) => sure), y: bins.map(([, right]) => right),
      line: { color: colourOf(arm), dash: arm.dash, width: 1.6 }, marker: { color: colourOf(arm), symbol: arm.symbol, size },
      text: bins.map(words), hovertemplate: "%{text}<extra></extra>",
    });
  }
  return { data: traces, layout: { height: 430, xaxis: { title: { text: "confidence (%)" } }, yaxis: { title: { text: "accuracy (%)" } } } };
}

// Time to accuracy: training seconds until the first epoch whose validation accuracy is as high as the level.
function timeToAccuracy() {
  const field = document.getElementById("level"), holder = document.getElementById("time-to-accuracy");
  if (!field) return;
  const thinned = `The page holds one in ${data.every} epochs of these curves: a run may have reached the level up to `
    + `${data.every - 1} epochs earlier.`;
  const best = data.arms.map((arm) => Math.max(...meanCurve(arm.runs.filter((run) => run.done).map((run) => run.val), "accuracy").mean)).filter(Number.isFinite).sort((a, b) => a - b);
  field.value = best.length ? Math.floor(best[Math.floor((best.length - 1) / 2)]) : 50;
  const fill = () => {
    const level = Number(field.value), rows = data.arms.map((arm) => {
      const done = arm.runs.filter((run) => run.done && run.val.epoch.length);
      const reached = done.map((run) => run.val.epoch[run.val.accuracy.findIndex((value) => value >= level - 1e-9)]).map((epoch, i) => [epoch, done[i].seconds[epoch]]).filter(([epoch]) => epoch != null);
      const mean = (place) => { const values = reached.map((one) => one[place]).filter((value) => value != null); return values.length ? values.reduce((a, b) => a + b) / values.length : null; };
      return { arm, n: done.length, reached: reached.length, epochs: mean(0), seconds: mean(1) };
    }).filter((row) => row.n);
    const cells = (row) => [fixed(row.seconds, 1), fixed(row.epochs, 1), `${row.reached} of ${row.n}`].map((text) => make("td", { class: "number", text }));
    const heads = ["Arm", "Training (s)", "Epochs", "Runs that reach it"]
      .map((text, i) => make("th", { scope: "col", class: i ? "number" : "", text }));
    const table = make("div", { class: "table" }, make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Time to accuracy" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows.map((row) => make("tr", {}, make("th", { scope: "row", text: row.arm.label }), ...cells(row)))))));
    improve(table);
    holder.replaceChildren(table, ...(data.every > 1 ? [make("p", { class: "soft", text: thinned })] : []));
  };
  field.addEventListener("input", fill);
  fill();
}

// Confusion matrices as tables of buttons, side by side; a cell shows its images.
const MAX_CELLS = 2600;
function drawMatrices() {
  const holder = document.getElementById("matrices");
  if (!holder || !holder.closest("details").open) return;
  const having = shownArms().filter((arm) => data.matrices[arm.key]);
  let cells = 0;
  const shown = having.filter((arm, i) => { cells += data.matrices[arm.key].names.length ** 2; return i < 1 || cells <= MAX_CELLS; });
  document.getElementById("matrices-note").textContent = shown.length < having.length ? `The first ${shown.length} of ${having.length} arms are shown. Switch others off, above, to see the rest.` : "";
  holder.replaceChildren(...shown.map(matrix));
}
function matrix(arm) {
  const { names, counts } = data.matrices[arm.key], wide = names.length > 15;
  const rows = counts.map((row, t) => {
    const total = row.reduce((a, b) => a + b) || 1;
    return make("tr", {}, make("th", { scope: "row", title: names[t], text: shortened(names[t], 14) }), ...row.map((count, p) => {
      const share = count / total, words = `${names[t]} classified as ${names[p]}: ${count} (${(100 * share).toFixed(1)} %)`;
      const button = make("button", { type: "button", title: words, "aria-label": words, class: t === p ? "right" : "wrong", text: wide || !count ? "" : String(Math.round(100 * share)), onclick: () => showCell(arm, t, p, words) });
      button.style.setProperty("--share", `${Math.round(100 * Math.sqrt(share))}%`);
      if (share > 0.45) button.classList.add("full");
      return make("td", {}, button);
    }));
  });
  const head = make("tr", {}, make("td"), ...names.map((name) => make("th", { scope: "col", title: name }, make("span", { text: shortened(name, 14) }))));
  return make("div", { class: wide ? "matrix wide" : "matrix" }, make("h4", {}, mark(arm), make("span", { text: arm.label })), make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}
function showCell(arm, t, p, words) {
  const images = data.cells[arm.key]?.[`${t},${p}`] || [], holder = document.getElementById("cell");
  const none = t === p ? "These are the correct ones; images are kept of mistakes only." : "No images of this cell are kept.";
  holder.replaceChildren(make("h4", { text: `${arm.label}: ${words}` }), images.length ? gallery(images) : make("p", { class: "soft", text: none }));
  holder.scrollIntoView({ block: "nearest" });
  say(`${arm.label}: ${words}. ${images.length} images.`);
}
function gallery(examples) {
  return make("ul", { class: "gallery" }, ...examples.map((one) => {
    const picture = one.image == null ? make("div", { class: "picture soft", text: "no image" }) : make("img", { class: "picture", src: data.images[one.image], alt: `${one.true}, predicted ${one.predicted}` });
    const seeds = one.seeds > 1 ? `${one.wrong} of ${one.seeds} ${RUNS}` : "";
    return make("li", {}, picture, make("b", { text: one.true }), make("span", { text: `→ ${one.predicted}` }), make("span", { class: "soft", text: `${fixed(one.probability, 1)} % ${seeds}` }), make("code", { text: one.file }));
  }));
}

function choose(id, arms, picked) {
  const field = document.getElementById(id);
  field.append(...arms.map((arm) => make("option", { value: arm.key, text: arm.label })));
  if (picked) field.value = picked.key;
  return field;
}
function mistakes() {
  const holder = document.getElementById("mistakes-shown"), having = data.arms.filter((arm) => data.mistakes[arm.key]?.length);
  if (!holder || !having.length) return;
  const field = choose("mistakes-arm", having, having.find((arm) => !arm.baseline));
  const fill = () => holder.replaceChildren(gallery(data.mistakes[field.value]));
  field.addEventListener("change", fill);
  fill();
}

// The settings in which two arms differ.
function settings() {
  const holder = document.getElementById("settings-shown");
  if (!holder) return;
  const arms = data.arms.filter((arm) => Object.values(data.settings).some((values) => arm.key in values));
  const first = choose("settings-first", arms, arms[0]), second = choose("settings-second", arms, arms[1] || arms[0]);
  const fill = () => {
    const rows = Object.entries(data.settings).filter(([, values]) => values[first.value] !== values[second.value]);
    const heads = ["Setting", byKey.get(first.value).label, byKey.get(second.value).label].map((text) => make("th", { scope: "col", text }));
    const body = rows.map(([key, values]) => make("tr", {}, make("th", { scope: "row" }, make("code", { text: key })), ...[first, second].map((field) => make("td", { class: "words" }, make("code", { text: values[field.value] ?? "" })))));
    const table = make("div", { class: "table" }, make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Settings in which the two arms differ" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body))));
    improve(table);
    holder.replaceChildren(rows.length ? table : make("p", { class: "soft", text: "These two have the same settings." }));
  };
  first.addEventListener("change", fill);
  second.addEventListener("change", fill);
  fill();
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-settings]");
    if (!link) return;
    second.value = link.dataset.settings;
    fill();
  });
}

plot("accuracy", accuracy);
plot("curves-accuracy", () => curves("accuracy"));
plot("curves-loss", () => curves("loss"));
plot("cost", cost);
plot("calibration", reliability);
document.getElementById("cost-axis")?.addEventListener("change", (event) => { state.cost = event.target.value; redraw(); });
document.getElementById("matrices")?.closest("details.part").addEventListener("toggle", drawMatrices);
page.beforePrint.push(drawMatrices);
armSwitches();
timeToAccuracy();
mistakes();
settings();
