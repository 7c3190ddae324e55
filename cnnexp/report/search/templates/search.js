"use strict";
// The figures of a search. All of them show the same trials: those that the filter of their table leaves, of these
// those in a box that was drawn over points. Plotly's own parallel coordinates need WebGL, cannot be printed sharply
// and are not read by keyboard, so they are lines here.
const data = JSON.parse(document.getElementById("data").textContent);
const rowOf = new Map(find("#trials tbody tr").map((row) => [Number(row.cells[0].textContent), row]));
let kept = new Set(rowOf.keys());
const shownTrials = () => data.trials.filter((trial) => kept.has(trial.number) && !rowOf.get(trial.number).hidden);
const completeTrials = () => shownTrials().filter((trial) => trial.complete);
const drawnLast = (trials) => [...trials].sort((a, b) => a.best - b.best); // the best one lies above the others

const values = data.trials
  .filter((trial) => trial.complete)
  .map((trial) => trial.value)
  .sort((a, b) => a - b);
const share = (trial) => {
  // 1: as good as the best, 0: as bad as the worst tenth
  const [worst, best] = data.lower
    ? [values.at(-1 - Math.floor(values.length / 10)), values[0]]
    : [values[Math.floor(values.length / 10)], values.at(-1)];
  return best === worst ? 1 : Math.min(Math.max((trial.value - worst) / (best - worst), 0), 1);
};
const colourOf = (trial) => (trial.best ? colours().best : faded(colours().blue, 0.3 + 0.6 * share(trial)));
const words = (trial) =>
  [`trial ${trial.number} (${trial.best ? "the best" : trial.state})`, ...trial.words].map(label).join("<br>");
const markers = (trials, x, y, marker = {}) =>
  scatter("markers", trials.map(x), trials.map(y), {
    text: trials.map(words),
    customdata: trials.map((trial) => trial.number),
    ...HOVER,
    marker: {
      color: trials.map((trial) => (trial.best ? colours().best : colours().blue)),
      opacity: 0.8,
      size: trials.map((trial) => (trial.best ? 14 : 8)),
      symbol: trials.map((trial) => (trial.best ? "star" : "circle")),
      ...marker,
    },
  });
const valueAxis = () => ({ title: { text: label(data.name) } });

function progress() {
  const trials = shownTrials();
  const complete = completeTrials();
  const pruned = trials.filter((trial) => trial.state === "pruned");
  const others = trials.filter((trial) => trial.value == null || (!trial.complete && trial.state !== "pruned"));
  const number = (trial) => trial.number;
  const value = (trial) => trial.value;
  const better = data.lower ? Math.min : Math.max;
  const best = []; // so far
  for (const trial of complete) best.push(better(trial.value, best.at(-1) ?? trial.value));
  const low = Math.min(...trials.map(value).filter((one) => one != null));
  const line = { color: colours().ink, width: 1.2, shape: "hv" };
  const traces = [
    scatter("lines", complete.map(number), best, { line, hoverinfo: "skip" }),
    markers(pruned, number, value, { color: colours().purple, symbol: "x", size: 8 }),
    markers(others, number, () => low, { color: colours().soft, symbol: "triangle-down-open", size: 9 }),
    markers(drawnLast(complete), number, value),
  ];
  return { data: traces, layout: { height: 380, xaxis: counted("trial", traces), yaxis: valueAxis() } };
}

function curves() {
  const looks = { pruned: [colours().purple, "dot"], open: [colours().ink, "dash"] };
  const traces = drawnLast(shownTrials().filter((trial) => trial.epochs.length > 1)).map((trial) => {
    const [color, dash] = trial.complete
      ? [colourOf(trial), "solid"]
      : (looks[trial.state] ?? [colours().soft, "dashdot"]);
    const size = trial.epochs.map((_, i) => (trial.state === "pruned" && i === trial.epochs.length - 1 ? 8 : 0.1));
    return scatter("lines+markers", trial.epochs, trial.curve, {
      ...HOVER,
      line: { color, dash, width: trial.best ? 3 : 1.3 },
      marker: { color, symbol: "x", size },
      text: trial.epochs.map((epoch, i) => `${words(trial)}<br>epoch ${epoch}: ${trial.curve[i]}`),
    });
  });
  return { data: traces, layout: { height: 380, xaxis: counted("epoch", traces), yaxis: valueAxis() } };
}

function importances() {
  const [names, shares, lows, highs] = [0, 1, 2, 3].map((place) => data.importances.map((one) => one[place]));
  const text = names.map((name, i) => `${label(name)}: ${shares[i]} %<br>95 % interval ${lows[i]} to ${highs[i]} %`);
  const error_x = {
    type: "data",
    symmetric: false,
    color: colours().ink,
    thickness: 1.6,
    array: highs.map((high, i) => high - shares[i]),
    arrayminus: lows.map((low, i) => shares[i] - low),
  };
  const y = names.map((_, i) => i);
  const bars = { type: "bar", orientation: "h", x: shares, y, width: 0.55, marker: { color: colours().blue }, error_x };
  const trace = { ...bars, text, textposition: "none", ...HOVER };
  const ticktext = names.map((name) => label(shortened(name, 30)));
  const yaxis = { tickvals: y, ticktext, showgrid: false, range: [names.length - 0.4, -0.6] };
  const xaxis = { title: { text: "importance (%)" }, range: [0, 102] };
  return { data: [trace], layout: { height: 90 + 40 * names.length, xaxis, yaxis } };
}

// Where a setting's values are: numbers from end to end, words at whole numbers.
function settingAxis(setting) {
  const [low, high] = setting.ends,
    margin = setting.words ? 0.5 : (high - low) * 0.04;
  const ticks = setting.words
    ? { tickvals: setting.words.map((_, i) => i), ticktext: setting.words.map((word) => label(shortened(word, 16))) }
    : setting.log
      ? { dtick: high - low < 1 ? "D2" : 1, exponentformat: "none" }
      : { nticks: 5 };
  return {
    title: { text: label(setting.name) },
    type: setting.log ? "log" : "linear",
    range: [low - margin, high + margin],
    ...ticks,
  };
}
function settings() {
  const trials = drawnLast(completeTrials());
  const space = Math.floor(document.getElementById("plot-settings").clientWidth / 230);
  const columns = Math.max(1, Math.min(4, data.settings.length, space));
  const rows = Math.ceil(data.settings.length / columns);
  const layout = { height: 40 + 290 * rows, grid: { rows, columns, pattern: "independent", xgap: 0.12, ygap: 0.3 } };
  const traces = data.settings.map((setting, place) => {
    const axis = place ? place + 1 : "";
    layout[`xaxis${axis}`] = settingAxis(setting);
    const inner = place % columns > 0;
    layout[`yaxis${axis}`] = { ...(inner ? {} : valueAxis()), matches: "y", showticklabels: !inner };
    const points = markers(trials, (trial) => trial.at[place], (trial) => trial.value);
    return { ...points, xaxis: `x${axis}`, yaxis: `y${axis}` };
  });
  delete layout.yaxis.matches;
  return { data: traces, layout };
}

function parallel() {
  const [low, high] = [values[0], values.at(-1)];
  const ink = colours();
  const heightOf = (trial) => (high > low ? (trial.value - low) / (high - low) : 0.5);
  const traces = completeTrials()
    .sort((a, b) => a.best - b.best || share(a) - share(b))
    .map((trial) => {
      const y = [...trial.heights, heightOf(trial)],
        color = colourOf(trial);
      return scatter("lines+markers", y.map((_, i) => i), y, {
        text: y.map(() => words(trial)),
        customdata: y.map(() => trial.number),
        ...HOVER,
        line: { color, width: trial.best ? 3 : 1.4 },
        marker: { color, size: trial.best ? 8 : 5 },
      });
    });
  const ends = [low, high].map((value, y) => [y, Number(value.toPrecision(4))]);
  const ticks = [...data.settings.map((setting) => setting.ticks), ends];
  const look = { showarrow: false, xanchor: "left", xshift: 5, font: { size: 11 }, bgcolor: faded(ink.paper, 0.75) };
  const annotations = ticks.flatMap((texts, x) =>
    texts.map(([y, text]) => ({ x, y, text: label(shortened(String(text), 14)), ...look })),
  );
  const shapes = ticks.map((_, x) => ({ ...upright(x), line: { color: ink.soft, width: 1 } }));
  const names = [...data.settings.map((setting) => setting.name), data.name].map((name) =>
    label(shortened(name, 26)).replace(" (", "<br>("),
  );
  const plain = { showgrid: false, showline: false, ticks: "" };
  const xaxis = {
    ...plain,
    tickvals: ticks.map((_, x) => x),
    ticktext: names,
    range: [-0.15, data.settings.length + 0.35],
    ...(innerWidth < 600 ? { tickangle: -35 } : {}),
  };
  return {
    data: traces,
    layout: {
      height: 420,
      margin: { l: 30, r: 16, t: 40, b: 48 },
      annotations,
      shapes,
      xaxis,
      yaxis: { ...plain, showticklabels: false, range: [-0.06, 1.06] },
      dragmode: coarse ? false : "select",
    },
  };
}

function show(numbers) {
  kept = numbers;
  for (const [number, row] of rowOf) row.classList.toggle("out", !kept.has(number));
  const count = shownTrials().length;
  document.getElementById("kept").textContent =
    count < rowOf.size ? `${count} of ${rowOf.size} trials` : `${rowOf.size} trials`;
  redraw();
}
const select = (event) => {
  const chosen = new Set(event?.points.flatMap((point) => point.customdata ?? []));
  if (chosen.size) setTimeout(() => show(chosen));
};
document.getElementById("all-trials").addEventListener("click", () => show(new Set(rowOf.keys())));
document.getElementById("trials").addEventListener("filter", () => show(kept));
const figures = { history: progress, curves, importances, settings, parallel_coordinates: parallel };
for (const [name, build] of Object.entries(figures)) plot(name, build, select);
show(kept);
