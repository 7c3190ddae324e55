"use strict";
// What every page can do: light or dark, copy a command, links that open sections, tables to sort and filter, print.
// Text of records is only ever set as textContent.
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
// heads: of the columns, as texts; those after the first `words` are of numbers.
const tableOf = (name, heads, rows, words = heads.length) => {
  const head = heads.map((text, i) => make("th", { scope: "col", class: i < words ? null : "number", text }));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table);
  return make("div", { class: "table" }, scroll);
};
const find = (selector, within = document) => [...within.querySelectorAll(selector)];
const setOpen = (parts, open) =>
  parts.forEach((part) => {
    part.open = open;
  });
const say = (text) => {
  document.getElementById("live").textContent = text;
};
const shortened = (text, width) => (text.length <= width ? text : `${text.slice(0, width - 10)}…${text.slice(-9)}`);
const page = { redraw: [], beforePrint: [], remember: {} };

// Light or dark: the system's choice until the button is used.
const systemDark = matchMedia("(prefers-color-scheme: dark)");
page.isDark = () => (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
page.setTheme = (theme) => {
  document.documentElement.dataset.theme = theme;
  page.redraw.forEach((draw) => draw());
};
systemDark.addEventListener("change", () => page.redraw.forEach((draw) => draw()));
document.getElementById("theme")?.addEventListener("click", () => page.setTheme(page.isDark() ? "light" : "dark"));

// Copying a command, by its button or by a click on it.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
document.addEventListener("click", async (event) => {
  const command = event.target.closest?.(".command");
  if (!command || (!event.target.closest("button") && String(getSelection()))) return;
  const button = command.querySelector("button");
  await copy(command.querySelector("code").textContent);
  button.textContent = "Copied";
  say("The command is copied.");
  setTimeout(() => {
    button.textContent = "Copy";
  }, 2000);
});

// A link to a section opens it, and what it lies in.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  setOpen(find("details.part", target).slice(0, 1), true);
  for (let part = target; part; part = part.parentElement) if (part.matches("details")) part.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
document.addEventListener("click", (event) => {
  if (event.target.closest?.('a[href^="#"]')) setTimeout(openTarget);
});
// The button says what it does: it closes the sections if all of them are open, also from the start or one by one.
const openAll = document.getElementById("open-all");
const anyClosed = () => find("details.part").some((part) => !part.open);
const labelOpenAll = () => {
  openAll.textContent = anyClosed() ? "Open all sections" : "Close all sections";
};
if (openAll) {
  openAll.addEventListener("click", () => setOpen(find("details.part"), anyClosed()));
  document.addEventListener("toggle", labelOpenAll, true); // does not bubble
  labelOpenAll();
}

// Tables. A number sorts by its value, an interval by its lower end, a cell without one comes last. A column's head
// with data-filter gets a choice of its values; the event "filter" says what is filtered.
const SUFFIX = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
function valueOf(cell) {
  if (cell.dataset.sort) return Number(cell.dataset.sort);
  const text = cell.textContent.trim(),
    found = /^(?:< |\[)?([+\-−]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s?([kMGT])?(?![\w.])/.exec(text);
  if (text === "-" || text === "") return null;
  return found ? Number(found[1].replace(/,/g, "").replace("−", "-")) * (SUFFIX[found[2]] || 1) : text;
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
function sortBy(table, column, button) {
  const head = button.closest("th"),
    down = head.getAttribute("aria-sort") === "ascending";
  find("th[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
  rows.sort(([a], [b]) => (a === null ? 1 : b === null ? -1 : compare(a, b) * (down ? -1 : 1)));
  body.append(...rows.map(([, row]) => row));
  say(`Sorted by ${button.textContent}, ${down ? "largest" : "smallest"} first.`);
}
function filterRows(table, words, counted, chosen) {
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean),
    set = chosen.filter((one) => one.value);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden =
      !parts.every((part) => text.includes(part)) ||
      !set.every((one) => row.cells[one.dataset.column].textContent.split(", ").includes(one.value));
    shown += !row.hidden;
  }
  counted.textContent = parts.length || set.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : "";
  table.dispatchEvent(new Event("filter", { bubbles: true }));
}
function valueChooser(table, th, column) {
  const values = [
    ...new Set([...table.tBodies[0].rows].flatMap((row) => row.cells[column].textContent.split(", "))),
  ].sort();
  const name = th.textContent,
    options = values.map((text) => make("option", { value: text, text }));
  return make(
    "select",
    { "aria-label": `Only rows with this ${name}`, "data-column": column },
    make("option", { value: "", text: `${name}: all` }),
    ...options,
  );
}
function columnChooser(table, heads) {
  const boxes = heads.slice(1).map((name, index) => {
    const box = make("input", {
      type: "checkbox",
      checked: true,
      onchange: () => {
        for (const row of table.rows) row.cells[index + 1].hidden = !box.checked;
      },
    });
    return make("label", {}, box, ` ${name}`);
  });
  return make(
    "details",
    { class: "chooser" },
    make("summary", { text: "Columns" }),
    make("div", { class: "menu" }, ...boxes),
  );
}
function improve(holder) {
  const table = holder.querySelector("table"),
    rows = table.tBodies[0].rows.length;
  const heads = [...table.tHead.rows[0].cells].map((th) => th.textContent);
  if (rows < 2) return;
  const chosen = [...table.tHead.rows[0].cells].flatMap((th, column) =>
    th.hasAttribute("data-filter") ? [valueChooser(table, th, column)] : [],
  );
  [...table.tHead.rows[0].cells].forEach((th, column) => {
    const button = make("button", { type: "button", class: "sort", text: th.textContent });
    button.addEventListener("click", () => sortBy(table, column, button));
    th.replaceChildren(button);
  });
  if (rows < 4 && heads.length < 6 && !chosen.length) return;
  const counted = make("span", { class: "soft", role: "status" });
  const field = make("input", {
    type: "search",
    placeholder: "Filter rows",
    "aria-label": "Filter the rows of this table",
  });
  for (const one of [field, ...chosen])
    one.addEventListener("input", () => filterRows(table, field.value, counted, chosen));
  holder.prepend(make("div", { class: "tools" }, field, ...chosen, columnChooser(table, heads), counted));
}
find(".table:not(header *)").forEach(improve); // those of the first screen are short

// Printing: everything is open and light, and afterwards as it was.
addEventListener("beforeprint", () => {
  page.remember.open = find("details.part, details.print").filter((part) => !part.open);
  page.remember.theme = document.documentElement.dataset.theme;
  setOpen(page.remember.open, true);
  document.documentElement.dataset.theme = "light";
  page.beforePrint.forEach((draw) => draw());
});
addEventListener("afterprint", () => {
  setOpen(page.remember.open, false);
  if (page.remember.theme) document.documentElement.dataset.theme = page.remember.theme;
  else delete document.documentElement.dataset.theme;
  page.redraw.forEach((draw) => draw());
});
document.getElementById("print")?.addEventListener("click", async () => {
  await page.prepare?.();
  print();
});
addEventListener("load", openTarget);
