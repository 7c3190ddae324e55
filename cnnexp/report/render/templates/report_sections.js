"use strict";
// What a report shows besides figures: time to accuracy, confusion matrices, mistakes, settings. Then all is started.

// Time to accuracy: training seconds until the first epoch whose validation accuracy is as high as the level.
function timeToAccuracy() {
  const field = document.getElementById("level"),
    holder = document.getElementById("time-to-accuracy");
  if (!field) return;
  const thinned =
    `The page holds one in ${data.every} epochs of these curves: a run may have reached the level up to ` +
    `${data.every - 1} epochs earlier.`;
  const validated = (arm) => arm.runs.filter((run) => run.done).map((run) => run.val);
  const best = data.arms
    .map((arm) => Math.max(...meanCurve(validated(arm), "accuracy").mean))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  field.value = best.length ? Math.floor(best[Math.floor((best.length - 1) / 2)]) : 50;
  const fill = () => {
    const level = Number(field.value),
      rows = data.arms
        .map((arm) => {
          const done = arm.runs.filter((run) => run.done && run.val.epoch.length);
          const reached = done
            .map((run) => run.val.epoch[run.val.accuracy.findIndex((value) => value >= level - 1e-9)])
            .map((epoch, i) => [epoch, done[i].seconds[epoch]])
            .filter(([epoch]) => epoch != null);
          const mean = (place) => {
            const values = reached.map((one) => one[place]).filter((value) => value != null);
            return values.length ? values.reduce((a, b) => a + b) / values.length : null;
          };
          return { arm, n: done.length, reached: reached.length, epochs: mean(0), seconds: mean(1) };
        })
        .filter((row) => row.n);
    const cells = (row) =>
      [fixed(row.seconds, 1), fixed(row.epochs, 1), `${row.reached} of ${row.n}`].map((text) =>
        make("td", { class: "number", text }),
      );
    const heads = ["Arm", "Training (s)", "Epochs", "Runs that reach it"];
    const lines = rows.map((row) => make("tr", {}, make("th", { scope: "row", text: row.arm.label }), ...cells(row)));
    const table = tableOf("Time to accuracy", heads, lines, 1);
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
  const shown = having.filter((arm, i) => {
    cells += data.matrices[arm.key].names.length ** 2;
    return i < 1 || cells <= MAX_CELLS;
  });
  document.getElementById("matrices-note").textContent =
    shown.length < having.length
      ? `The first ${shown.length} of ${having.length} arms are shown. Switch others off, above, to see the rest.`
      : "";
  holder.replaceChildren(...shown.map(matrix));
}
function matrix(arm) {
  const { names, counts } = data.matrices[arm.key],
    wide = names.length > 15;
  const rows = counts.map((row, t) => {
    const total = row.reduce((a, b) => a + b) || 1;
    const cells = row.map((count, p) => {
      const share = count / total,
        words = `${names[t]} classified as ${names[p]}: ${count} (${(100 * share).toFixed(1)} %)`;
      const button = make("button", {
        type: "button",
        title: words,
        "aria-label": words,
        class: t === p ? "right" : "wrong",
        text: wide || !count ? "" : String(Math.round(100 * share)),
        onclick: () => showCell(arm, t, p, words),
      });
      button.style.setProperty("--share", `${Math.round(100 * Math.sqrt(share))}%`);
      if (share > 0.45) button.classList.add("full");
      return make("td", {}, button);
    });
    return make("tr", {}, make("th", { scope: "row", title: names[t], text: shortened(names[t], 14) }), ...cells);
  });
  const headOf = (name) => make("th", { scope: "col", title: name }, make("span", { text: shortened(name, 14) }));
  const head = make("thead", {}, make("tr", {}, make("td"), ...names.map(headOf)));
  const title = make("h4", {}, mark(arm), make("span", { text: arm.label }));
  const scroll = make("div", { class: "scroll" }, make("table", {}, head, make("tbody", {}, ...rows)));
  return make("div", { class: wide ? "matrix wide" : "matrix" }, title, scroll);
}
function showCell(arm, t, p, words) {
  const images = data.cells[arm.key]?.[`${t},${p}`] || [],
    holder = document.getElementById("cell");
  const none =
    t === p ? "These are the correct ones; images are kept of mistakes only." : "No images of this cell are kept.";
  holder.replaceChildren(
    make("h4", { text: `${arm.label}: ${words}` }),
    images.length ? gallery(images) : make("p", { class: "soft", text: none }),
  );
  holder.scrollIntoView({ block: "nearest" });
  say(`${arm.label}: ${words}. ${images.length} images.`);
}
function gallery(examples) {
  const cards = examples.map((one) => {
    const alt = `${one.true}, predicted ${one.predicted}`;
    const picture =
      one.image == null
        ? make("div", { class: "picture soft", text: "no image" })
        : make("img", { class: "picture", src: data.images[one.image], alt });
    const seeds = one.seeds > 1 ? `${one.wrong} of ${one.seeds} ${RUNS}` : "";
    return make(
      "li",
      {},
      picture,
      make("b", { text: one.true }),
      make("span", { text: `→ ${one.predicted}` }),
      make("span", { class: "soft", text: `${fixed(one.probability, 1)} % ${seeds}` }),
      make("code", { text: one.file }),
    );
  });
  return make("ul", { class: "gallery" }, ...cards);
}

function choose(id, arms, picked) {
  const field = document.getElementById(id);
  field.append(...arms.map((arm) => make("option", { value: arm.key, text: arm.label })));
  if (picked) field.value = picked.key;
  return field;
}
function mistakes() {
  const holder = document.getElementById("mistakes-shown"),
    having = data.arms.filter((arm) => data.mistakes[arm.key]?.length);
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
  const first = choose("settings-first", arms, arms[0]),
    second = choose("settings-second", arms, arms[1] || arms[0]);
  const fill = () => {
    const rows = Object.entries(data.settings).filter(([, values]) => values[first.value] !== values[second.value]);
    const heads = ["Setting", byKey.get(first.value).label, byKey.get(second.value).label];
    const body = rows.map(([key, values]) => {
      const cellOf = (field) => make("td", { class: "words" }, make("code", { text: values[field.value] ?? "" }));
      return make("tr", {}, make("th", { scope: "row" }, make("code", { text: key })), cellOf(first), cellOf(second));
    });
    const table = tableOf("Settings in which the two arms differ", heads, body);
    improve(table);
    const none = make("p", { class: "soft", text: "These two have the same settings." });
    holder.replaceChildren(rows.length ? table : none);
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
document.getElementById("cost-axis")?.addEventListener("change", (event) => {
  state.cost = event.target.value;
  redraw();
});
document.getElementById("matrices")?.closest("details.part").addEventListener("toggle", drawMatrices);
page.beforePrint.push(drawMatrices);
armSwitches();
timeToAccuracy();
mistakes();
settings();
