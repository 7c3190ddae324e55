"use strict";
// What a report shows: its arms and options, which act on all figures and matrices, and how an arm is marked.
const data = JSON.parse(document.getElementById("data").textContent);
const byKey = new Map(data.arms.map((arm) => [arm.key, arm]));
const state = { shown: new Set(byKey.keys()), seeds: false, training: false, log: false, cost: "seconds" };
const shownArms = () => data.arms.filter((arm) => state.shown.has(arm.key));
const colourOf = (arm) => arm.colour[page.isDark() ? 1 : 0];
const RUNS = data.folds ? "runs" : "seeds"; // what single points are
const MAX_BANDS = 12; // arms: more bands hide the curves
const fixed = (value, digits = 2) => (value == null ? "-" : value.toFixed(digits));

function showArms() {
  for (const button of find("#arm-switches [data-arm]"))
    button.setAttribute("aria-pressed", state.shown.has(button.dataset.arm));
  redraw();
  drawMatrices();
}

// The legend of all figures: a button switches an arm off or on in all of them.
function armSwitches() {
  const holder = document.getElementById("arm-switches");
  const set = (arms) => {
    state.shown = new Set(arms.map((arm) => arm.key));
    showArms();
  };
  const flip = (arm) => {
    state.shown[state.shown.has(arm.key) ? "delete" : "add"](arm.key);
    showArms();
  };
  const look = { type: "button", class: "switch", title: "Show or hide this arm in all figures" };
  for (const arm of data.arms) {
    const name = make("span", { text: shortened(arm.label, 34) });
    holder.append(make("button", { ...look, "data-arm": arm.key, onclick: () => flip(arm) }, mark(arm), name));
  }
  document.getElementById("all-arms").addEventListener("click", () => set(data.arms));
  document.getElementById("no-arms").addEventListener("click", () => set(data.arms.filter((arm) => arm.baseline)));
  const options = { "single-seeds": "seeds", "training-curves": "training", "log-axis": "log" };
  for (const [id, name] of Object.entries(options))
    document.getElementById(id).addEventListener("change", (event) => {
      state[name] = event.target.checked;
      redraw();
    });
  showArms();
}

const SHAPES = {
  circle: "M6 1a5 5 0 1 0 .01 0z",
  square: "M1.5 1.5h9v9h-9z",
  diamond: "M6 0l6 6-6 6-6-6z",
  "triangle-up": "M6 1l5.5 10H.5z",
  "triangle-down": "M6 11L.5 1h11z",
  cross: "M4 0h4v4h4v4H8v4H4V8H0V4h4z",
  x: "M2 0l4 4 4-4 2 2-4 4 4 4-2 2-4-4-4 4-2-2 4-4-4-4z",
  star: "M6 0l1.6 4.2L12 4.4 8.5 7.2 9.8 12 6 9.2 2.2 12l1.300-4.8L0 4.400l4.400-.2z",
};
const paint = (path) => {
  path.style.fill = colourOf(byKey.get(path.dataset.of));
};
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
