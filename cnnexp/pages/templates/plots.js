"use strict";
// Figures by Plotly, whose script the page carries packed. It is unpacked while the page is idle and runs when the
// first figure comes into view. Plotly reads a part of HTML in labels: every text of a record passes through `label`.
const label = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const hexadecimal = (number) => Math.round(number).toString(16).padStart(2, "0");
const faded = (colour, share) => `${colour}${hexadecimal(255 * share)}`;
const HOVER = { hovertemplate: "%{text}<extra></extra>" };
// One of Plotly's traces. mode: lines, markers, or lines+markers. more: its other settings.
const scatter = (mode, x, y, more) => ({ type: "scatter", mode, x, y, ...more });
const dashed = (x, y, line) =>
  scatter("lines", x, y, { line: { color: colours().soft, dash: "dash", ...line }, hoverinfo: "skip" });
// An axis of whole numbers, such as epochs: few of them have a mark each.
const counted = (text, traces) => {
  const last = traces.flatMap((trace) => trace.x).reduce((most, x) => Math.max(most, x), 0);
  return { title: { text }, ...(last < 12 ? { dtick: 1 } : {}) };
};
const coarse = matchMedia("(pointer: coarse)").matches; // a finger: it scrolls the page, and does not drag in a figure
const plots = new Map(); // element: {build, select}
const unpacked = new Promise((resolve) => {
  if (window.Plotly) return resolve(); // a served page has it from its server
  const start = () => {
    const packed = atob(document.getElementById("library").textContent.trim());
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    new Response(stream).text().then((text) => {
      page.library = text;
      resolve();
    });
  };
  addEventListener("load", () => setTimeout(start, 50));
});

// A line from the bottom to the top of a figure, for its `shapes`.
const upright = (x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1 });

function startLibrary() {
  if (window.Plotly || !page.library) return Boolean(window.Plotly);
  document.head.append(make("script", { text: page.library })); // the policy of the page names its hash
  page.library = "";
  return Boolean(window.Plotly);
}

// On light and on dark paper.
const COLOURS_OF_PAGE = {
  ink: ["#1b2130", "#e7eaf0"],
  soft: ["#586173", "#a3adbb"],
  grid: ["#e4e8ee", "#2b323c"],
  paper: ["#ffffff", "#12151a"],
  blue: ["#0072b2", "#4ba3e3"],
  best: ["#d55e00", "#f08a4b"],
  purple: ["#a8527f", "#d68fb5"],
};
const colours = () =>
  Object.fromEntries(Object.entries(COLOURS_OF_PAGE).map(([name, both]) => [name, both[page.isDark() ? 1 : 0]]));

function layoutOf(own) {
  const c = colours();
  const axis = {
    gridcolor: c.grid,
    zeroline: false,
    linecolor: c.soft,
    ticks: "outside",
    tickcolor: c.soft,
    automargin: true,
    title: { standoff: 12 },
  };
  const merged = {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: c.ink },
    paper_bgcolor: c.paper,
    plot_bgcolor: c.paper,
    margin: { l: 56, r: 16, t: 14, b: 48 },
    hovermode: "closest",
    showlegend: false,
    dragmode: coarse ? false : "zoom",
    hoverlabel: { align: "left", bgcolor: c.paper, bordercolor: c.soft, font: { color: c.ink } },
    ...own,
  };
  for (const [name, value] of Object.entries(own))
    if (/^[xy]axis/.test(name)) merged[name] = { ...axis, ...value, title: { ...axis.title, ...value.title } };
  return merged;
}

function draw(element) {
  if (!startLibrary()) return false;
  const { build, select } = plots.get(element),
    { data, layout } = build();
  const width = element.clientWidth || 700;
  const config = {
    showSendToCloud: false,
    plotlyServerURL: "",
    displaylogo: false,
    responsive: false,
    doubleClick: "reset",
    displayModeBar: "hover",
    modeBarButtonsToRemove: ["lasso2d", "autoScale2d", ...(select ? [] : ["select2d"])],
    toImageButtonOptions: { filename: element.id },
  };
  element.style.minHeight = `${layout.height}px`;
  Plotly.react(element, data, { ...layoutOf(layout), width }, config);
  if (select && !element.dataset.drawn) element.on("plotly_selected", select);
  element.dataset.drawn = element.clientWidth;
  return true;
}

const inView = new IntersectionObserver(
  async (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      inView.unobserve(entry.target);
      await unpacked;
      if (!entry.target.dataset.drawn) draw(entry.target);
    }
  },
  { rootMargin: "200px" },
);

// select: called with Plotly's event when the reader draws a box over points.
function plot(id, build, select) {
  const element = document.getElementById(`plot-${id}`);
  if (!element) return;
  plots.set(element, { build, select });
  inView.observe(element);
  element.addEventListener("keydown", (event) => steer(element, event));
}

// The keyboard: + and - zoom, arrows move, 0 shows everything, n and p read one point after another.
function steer(element, event) {
  if (!element.dataset.drawn || event.ctrlKey || event.metaKey || event.altKey) return;
  const ranges = (axis) => element._fullLayout[axis]?.range;
  const scaled = (range, factor, shift) => {
    const middle = (range[0] + range[1]) / 2,
      half = (range[1] - range[0]) / 2;
    return [middle - half * factor + shift * half, middle + half * factor + shift * half];
  };
  const moves = {
    "+": [0.7, 0, 0],
    "=": [0.7, 0, 0],
    "-": [1.4, 0, 0],
    ArrowLeft: [1, -0.2, 0],
    ArrowRight: [1, 0.2, 0],
    ArrowUp: [1, 0, 0.2],
    ArrowDown: [1, 0, -0.2],
  };
  if (event.key === "0" || event.key === "Home")
    Plotly.relayout(element, { "xaxis.autorange": true, "yaxis.autorange": true });
  else if (event.key === "n" || event.key === "p") readPoint(element, event.key === "n" ? 1 : -1);
  else if (moves[event.key] && ranges("xaxis") && ranges("yaxis")) {
    const [factor, x, y] = moves[event.key];
    Plotly.relayout(element, {
      "xaxis.range": scaled(ranges("xaxis"), factor, x),
      "yaxis.range": scaled(ranges("yaxis"), factor, y),
    });
  } else return;
  event.preventDefault();
}

function readPoint(element, step) {
  const points = element.data.flatMap((trace, curveNumber) =>
    trace.hoverinfo === "skip"
      ? []
      : (trace.text || []).map((text, pointNumber) => ({ curveNumber, pointNumber, text })),
  );
  if (!points.length) return;
  const at = (Number(element.dataset.at ?? (step > 0 ? -1 : 0)) + step + points.length) % points.length;
  element.dataset.at = at;
  Plotly.Fx.hover(element, [points[at]]);
  say(points[at].text.replace(/<br>/g, ", ").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&"));
}

// The names of those points that have a text, each at the nearest place beside its point where it covers no other name
// and no point. A name that is moved up or down has a line to its point. left, top: of a point, and width, height: of
// the plot, in pixels.
function namesBeside(points, width, height) {
  const pen = document.createElement("canvas").getContext("2d"),
    line = 17,
    gap = 9,
    near = 11; // above or below the height of the point, where the dashed line is
  pen.font = `12.5px ${getComputedStyle(document.body).fontFamily}`;
  const marks = points.map((p) => [p.left - 7, p.left + 7, p.top - 7, p.top + 7]),
    taken = [];
  const covers = (a, b) => a[0] < b[1] && b[0] < a[1] && a[2] < b[3] && b[2] < a[3];
  const shifts = points.flatMap((_, i) => [-near - i * line, near + i * line]);
  const places = shifts.flatMap((shift) => [1, -1].map((side) => ({ shift, side })));
  return points
    .filter((p) => p.text)
    .sort((a, b) => a.top - b.top)
    .map((p) => {
      const wide = pen.measureText(p.text).width + 6;
      const boxOf = ({ shift, side }) => {
        const start = side > 0 ? p.left + gap : p.left - gap - wide;
        return [start, start + wide, p.top + shift - line / 2, p.top + shift + line / 2];
      };
      const isInside = (box) => box[0] >= 0 && box[1] <= width + 40 && box[2] >= -26 && box[3] <= height;
      const isFree = (box) => isInside(box) && ![...marks, ...taken].some((other) => covers(box, other));
      const place = places.find((one) => isFree(boxOf(one))) || places[0];
      taken.push(boxOf(place));
      const { shift, side } = place;
      const ends = { arrowhead: 0, arrowwidth: 1, arrowcolor: colours().soft, standoff: 6 };
      const moved =
        Math.abs(shift) > near
          ? { showarrow: true, ...ends, ax: side * gap, ay: shift }
          : { showarrow: false, xshift: side * gap, yshift: -shift };
      const anchors = { xanchor: side > 0 ? "left" : "right", yanchor: "middle" };
      return { x: p.x, y: p.y, text: label(p.text), ...anchors, ...moved };
    });
}

// The smallest and the largest value, widened by a share of their distance, and by `least` at least.
function widened(values, share, least) {
  const [low, high] = [Math.min(...values), Math.max(...values)],
    more = Math.max(share * (high - low), least);
  return [low - more, high + more];
}

function redraw() {
  for (const element of plots.keys())
    if (element.dataset.drawn && element.clientWidth) {
      element.dataset.at = -1;
      draw(element);
    }
}
page.redraw.push(redraw);
page.beforePrint.push(() => {
  for (const element of plots.keys()) {
    const before = element.style.width;
    element.style.width = "660px"; // of A4 within its margins
    draw(element);
    element.style.width = before;
  }
});
page.prepare = () => unpacked;
let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if ([...plots.keys()].some((e) => e.dataset.drawn && e.clientWidth && e.clientWidth !== Number(e.dataset.drawn)))
      redraw();
  }, 150);
});
