"use strict";
// The figures of a data set: images of each class, and how often each pixel value occurs.
const data = JSON.parse(document.getElementById("data").textContent);
const SPLITS = { train: "blue", val: "purple", test: "best" }; // and their colours
const CHANNELS = {
  red: ["#c0392b", "#ff7b6b"],
  green: ["#1e8449", "#4fd08a"],
  blue: ["#0072b2", "#5ab0f0"],
  gray: ["#4d4d4d", "#b9bec7"],
};

// A panel for each split, side by side or, on a narrow page, below each other.
function classes() {
  const splits = data.counts,
    named = data.classes.length <= data.named;
  const order = data.classes.map((_, k) => k);
  if (!named) order.sort((a, b) => splits[0][1][b] - splits[0][1][a]);
  const columns = document.getElementById("plot-classes").clientWidth < 600 ? 1 : splits.length,
    rows = Math.ceil(splits.length / columns);
  const height = named ? 22 * Math.max(order.length, 3) : 420;
  const layout = {
    height: 50 + (height + 60) * rows,
    grid: { rows, columns, pattern: "independent", xgap: 0.06, ygap: 0.2 },
    shapes: [],
  };
  const places = order.map((_, place) => place);
  const ticks = named
    ? { tickvals: places, ticktext: order.map((k) => label(shortened(data.classes[k], 26))) }
    : { nticks: 6, title: { text: "class, by its size" } };
  const traces = splits.map(([split, counts], panel) => {
    const axis = panel ? panel + 1 : "",
      total = counts.reduce((a, b) => a + b, 0),
      inner = panel % columns > 0;
    const title = { text: `${split} images (${total.toLocaleString("en")})` };
    layout[`xaxis${axis}`] = { title, nticks: 4, rangemode: "tozero" };
    layout[`yaxis${axis}`] = {
      ...ticks,
      ...(inner ? { title: { text: "" } } : {}),
      range: [order.length - 0.4, -0.6],
      showgrid: false,
      showticklabels: !inner,
      ticks: "",
    };
    const mean = total / order.length,
      line = { color: colours().ink, dash: "dot", width: 1 };
    layout.shapes.push({ ...upright(mean), xref: `x${axis}`, yref: `y${axis} domain`, line });
    const colour = colours()[SPLITS[split]];
    const look = named
      ? { type: "bar", orientation: "h", marker: { color: colour }, textposition: "none" }
      : { type: "scatter", mode: "lines", fill: "tozerox", line: { color: colour, shape: "vh", width: 1 } };
    const text = order.map((k) => `${label(data.classes[k])}: ${counts[k].toLocaleString("en")} ${split} images`);
    return { ...look, x: order.map((k) => counts[k]), y: places, text, ...HOVER, xaxis: `x${axis}`, yaxis: `y${axis}` };
  });
  return { data: traces, layout };
}

function pixels() {
  const step = 256 / data.pixels[0].shares.length;
  const traces = data.pixels.map(({ name, shares }) => {
    const places = [...shares.map((_, bin) => bin * step), 256]; // to the end of the last bin
    return scatter("lines", places, [...shares, shares.at(-1)], {
      text: shares.map((share, bin) => `${name}, ${bin * step} to ${(bin + 1) * step - 1}: ${share} %`),
      ...HOVER,
      name,
      line: { color: CHANNELS[name][page.isDark() ? 1 : 0], shape: "hv", width: 1.8 },
    });
  });
  const layout = {
    height: 340,
    showlegend: traces.length > 1,
    legend: { orientation: "h", y: 1.12 },
    xaxis: {
      title: { text: `pixel value as stored, ${step} values a step` },
      range: [0, 256],
      tickvals: [0, 64, 128, 192, 255],
    },
    yaxis: { title: { text: "share of the pixels (%)" }, type: data.log ? "log" : "linear", rangemode: "tozero" },
  };
  return { data: traces, layout };
}

plot("classes", classes);
plot("pixel_values", pixels);
