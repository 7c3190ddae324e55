"use strict";
// The figures of a report: each function returns the traces and the layout of the arms that are switched on.

// Mean over the runs of the epochs that all of them reached, and a standard deviation to each side (of two: both).
function meanCurve(curves, metric) {
  const maps = curves.map(
    (curve) => new Map(curve.epoch.map((epoch, i) => [epoch, curve[metric][i]]).filter(([, value]) => value != null)),
  );
  if (!maps.length) return { epoch: [], mean: [], low: [], high: [] };
  const epoch = [...maps[0].keys()].filter((e) => maps.every((map) => map.has(e)));
  const found = { epoch, mean: [], low: [], high: [] };
  for (const e of epoch) {
    const values = maps.map((map) => map.get(e)),
      mean = values.reduce((a, b) => a + b) / values.length;
    const std =
      values.length > 2 ? Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1)) : NaN;
    found.mean.push(mean);
    found.low.push(values.length > 2 ? mean - std : Math.min(...values));
    found.high.push(values.length > 2 ? mean + std : Math.max(...values));
  }
  return found;
}

function curveTraces(arm, split, metric) {
  const colour = colourOf(arm),
    dash = split === "train" ? "dot" : arm.dash,
    name = label(arm.label),
    unit = metric === "accuracy" ? " %" : "";
  const what = split === "train" ? "training" : "validation",
    digits = metric === "accuracy" ? 2 : 4;
  const line = (x, y, words, width, opacity = 1, pattern = dash) =>
    scatter(x.length < 2 ? "markers" : "lines+markers", x, y, {
      opacity,
      ...HOVER,
      line: { color: colour, width, dash: pattern },
      marker: { color: colour, symbol: arm.symbol, size: split === "val" ? 6 : 0.1, maxdisplayed: 9 },
      text: x.map((epoch, i) => `${name}, ${what}<br>epoch ${epoch}: ${fixed(y[i], digits)}${unit}${words(i)}`),
    });
  const having = arm.runs.filter((run) => run[split].epoch.length),
    done = having.filter((run) => run.done),
    traces = [];
  const words = (run) => () => `<br>seed ${run.seed}${run.done ? "" : " (not finished)"}`;
  const single = (run, width) =>
    line(run[split].epoch, run[split][metric], words(run), width, 0.75, run.done ? dash : "dot");
  if (state.seeds) return having.map((run) => single(run, 1.3));
  const { epoch, mean, low, high } = meanCurve(done.map((run) => run[split]), metric);
  if (done.length > 1 && split === "val" && state.shown.size <= MAX_BANDS) {
    const band = { fill: "toself", fillcolor: faded(colour, 0.14), line: { width: 0 }, hoverinfo: "skip" };
    traces.push(scatter("lines", [...epoch, ...epoch.toReversed()], [...high, ...low.toReversed()], band));
  }
  const of = (i) => `<br>mean of ${done.length} ${RUNS}, ${fixed(low[i], digits)} to ${fixed(high[i], digits)}`;
  if (epoch.length) traces.push(line(epoch, mean, done.length > 1 ? of : words(done[0]), split === "val" ? 2.4 : 1.4));
  return [...traces, ...having.filter((run) => !run.done).map((run) => single(run, 1.6))];
}

function curves(metric) {
  const traces = shownArms().flatMap((arm) => [
    ...(state.training ? curveTraces(arm, "train", metric) : []),
    ...curveTraces(arm, "val", metric),
  ]);
  const title = { text: metric === "accuracy" ? "accuracy (%)" : "loss (nats)" };
  const yaxis = { title, type: state.log ? "log" : "linear" };
  return { data: traces, layout: { height: 420, xaxis: counted("epoch", traces), yaxis } };
}

function accuracy() {
  const arms = shownArms().filter((arm) => arm.n),
    traces = [];
  const names = arms.map((arm) => label(shortened(arm.label, 30)));
  arms.forEach((arm, place) => {
    const [mean, low, high] = arm.test,
      colour = colourOf(arm),
      name = label(arm.label),
      interval = low == null ? "" : `<br>95 % interval ${fixed(Math.max(low, 0))} to ${fixed(Math.min(high, 100))}`;
    const done = arm.runs.filter((run) => run.done);
    if (low != null)
      traces.push(
        scatter("lines", [Math.max(low, 0), Math.min(high, 100)], [place, place], {
          line: { color: faded(colour, 0.45), width: 7 },
          hoverinfo: "skip",
        }),
      );
    const places = done.map(() => place + 0.24);
    traces.push(
      scatter("markers", done.map((run) => run.test), places, {
        marker: { color: colour, symbol: `${arm.symbol}-open`, size: 6 },
        text: done.map((run) => `${name}, seed ${run.seed}: ${fixed(run.test)} %`),
        ...HOVER,
      }),
      scatter("markers", [mean], [place], {
        marker: { color: colour, symbol: arm.symbol, size: 11 },
        text: [`${name}: mean ${fixed(mean)} %, n = ${arm.n}${interval}`],
        ...HOVER,
      }),
    );
  });
  const base = arms.find((arm) => arm.baseline);
  const dotted = base && { line: { dash: "dot", width: 1, color: colourOf(base) } };
  const shapes = base ? [{ ...upright(base.test[0]), yref: "paper", ...dotted }] : [];
  const range = [arms.length - 0.45, -0.55];
  const yaxis = { tickvals: arms.map((_, i) => i), ticktext: names, range, showgrid: false };
  const height = 90 + 36 * Math.max(arms.length, 2);
  return { data: traces, layout: { height, shapes, xaxis: { title: { text: "test accuracy (%)" } }, yaxis } };
}

function cost() {
  const name = state.cost,
    arms = shownArms().filter((arm) => arm.n && arm.costs[name] != null);
  const shownCost = (value) => (name === "seconds" ? `${fixed(value, 1)} s` : Intl.NumberFormat("en").format(value));
  const order = [...arms].sort((a, b) => a.costs[name] - b.costs[name]);
  const front = data.fronts[name].map((key) => byKey.get(key));
  const accuracies = front.map((arm) => arm.test[0]);
  const traces = [dashed(front.map((arm) => arm.costs[name]), accuracies, { width: 1.4, shape: "hv" })];
  for (const arm of arms) {
    const colour = colourOf(arm),
      text = label(arm.label),
      done = arm.runs.filter((run) => run.done && run.costs[name] != null);
    if (state.seeds || name === "seconds")
      traces.push(
        scatter("markers", done.map((run) => run.costs[name]), done.map((run) => run.test), {
          opacity: 0.55,
          marker: { color: colour, symbol: `${arm.symbol}-open`, size: 6 },
          text: done.map((run) => `${text}, seed ${run.seed}<br>${fixed(run.test)} %, ${shownCost(run.costs[name])}`),
          ...HOVER,
        }),
      );
    const on = front.includes(arm);
    const line = { width: on ? 2 : 0, color: colours().ink };
    const words = `${text}<br>mean ${fixed(arm.test[0])} %, ${shownCost(arm.costs[name])}`;
    traces.push(
      scatter("markers", [arm.costs[name]], [arm.test[0]], {
        marker: { color: colour, symbol: arm.symbol, size: 12, line },
        text: [`${words}${on ? "<br>on the Pareto front" : ""}`],
        ...HOVER,
        cliponaxis: false,
      }),
    );
  }
  const margin = { l: 56, r: 40, t: 26, b: 48 },
    height = 430,
    across = (value) => (state.log ? Math.log10(value) : value);
  const shown = traces.flatMap((trace) => trace.x.map((x, i) => [across(x), trace.y[i]])).filter(([x]) => isFinite(x));
  const rangeX = shown.length ? widened(shown.map(([x]) => x), 0.05, 1e-3) : [0, 1],
    rangeY = shown.length ? widened(shown.map(([, y]) => y), 0.08, 0.5) : [0, 1];
  if (!state.log) rangeX[0] = 0;
  const width = (document.getElementById("plot-cost").clientWidth || 700) - margin.l - margin.r,
    high = height - margin.t - margin.b;
  const placed = order.filter((arm) => isFinite(across(arm.costs[name])));
  const points = placed.map((arm) => ({
    x: across(arm.costs[name]),
    y: arm.test[0],
    left: ((across(arm.costs[name]) - rangeX[0]) / (rangeX[1] - rangeX[0])) * width,
    top: ((rangeY[1] - arm.test[0]) / (rangeY[1] - rangeY[0])) * high,
    text: shortened(arm.label, 22),
  }));
  return {
    data: traces,
    layout: {
      height,
      margin,
      annotations: arms.length > 14 || innerWidth < 600 ? [] : namesBeside(points, width, high),
      xaxis: { title: { text: data.costs[name] }, type: state.log ? "log" : "linear", range: rangeX },
      yaxis: { title: { text: "test accuracy (%)" }, range: rangeY },
    },
  };
}

function reliability() {
  const traces = [dashed([0, 100], [0, 100], { width: 1 })];
  for (const arm of shownArms().filter((one) => data.reliability[one.key])) {
    const bins = data.reliability[arm.key],
      name = label(arm.label);
    const words = ([sure, right, images]) =>
      `${name}<br>confidence ${fixed(sure, 1)} %, ` +
      `accuracy ${fixed(right, 1)} %<br>${images} images a ${RUNS.slice(0, -1)}`;
    const size = bins.map(([, , images]) => 5 + Math.min(9, Math.sqrt(images) / 3));
    traces.push(
      scatter("lines+markers", bins.map(([sure]) => sure), bins.map(([, right]) => right), {
        line: { color: colourOf(arm), dash: arm.dash, width: 1.6 },
        marker: { color: colourOf(arm), symbol: arm.symbol, size },
        text: bins.map(words),
        ...HOVER,
      }),
    );
  }
  return {
    data: traces,
    layout: { height: 430, xaxis: { title: { text: "confidence (%)" } }, yaxis: { title: { text: "accuracy (%)" } } },
  };
}
