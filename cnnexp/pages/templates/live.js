"use strict";
// Of a page that `cnnexp report --serve` shows: when it has changed, it is loaded again as the reader left it. Loading
// anew frees all memory of the old page. What the reader does is not interrupted, and a hidden page waits.
const live = { key: `cnnexp ${location.pathname}`, active: 0, changed: 0, every: 2000, wait: 1200, longest: 15000 };
history.scrollRestoration = "manual";

// Every element of a kind with a name that the next page has too: its section, its words, and its place among equals.
live.named = (selector, words = () => "") => {
  const counts = new Map();
  return find(selector).map((element) => {
    const section = element.closest("section[id], [id]:not(main)")?.id ?? "";
    const name = element.id ? `#${element.id}` : `${section}|${words(element)}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
    return [`${name}|${counts.get(name)}`, element];
  });
};
live.label = (element) => element.getAttribute("aria-label");
live.isCheckbox = (field) => field.type === "checkbox";
live.setField = (field, value) => {
  const property = live.isCheckbox(field) ? "checked" : "value";
  if (field[property] === value) return;
  if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) return;
  field[property] = value;
  for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
};
live.kinds = {
  details: {
    elements: () => live.named("details", (details) => details.querySelector("summary").textContent),
    read: (details) => details.open,
    write: (details, open) => {
      details.open = open;
    },
  },
  fields: {
    elements: () => live.named("input, select", (field) => live.label(field) ?? field.closest("label")?.textContent),
    read: (field) => (live.isCheckbox(field) ? field.checked : field.value),
    write: live.setField,
  },
  pressed: {
    elements: () => live.named("[aria-pressed]", (button) => button.dataset.arm ?? button.textContent),
    read: (button) => button.getAttribute("aria-pressed"),
    write: (button, pressed) => {
      if (button.getAttribute("aria-pressed") !== pressed) button.click();
    },
  },
  sorts: {
    elements: () => live.named("thead th:has(> .sort)", (head) => head.textContent),
    read: (head) => head.getAttribute("aria-sort"),
    write: (head, order) => {
      for (let click = 0; order && click < 2 && head.getAttribute("aria-sort") !== order; click += 1) {
        head.firstElementChild.click();
      }
    },
  },
  heights: {
    elements: () => live.named(".plot"),
    read: (plot) => plot.offsetHeight,
    write: (plot, height) => {
      if (height) plot.style.minHeight = `${height}px`;
    },
  },
  places: {
    elements: () => live.named(".scroll, .forest, .switches, .menu", live.label),
    read: (box) => [box.scrollLeft, box.scrollTop],
    write: (box, [left, top]) => {
      if (left || top) box.scrollTo(left, top);
    },
  },
};
live.focusable = () =>
  live.named("a, button, input, select, summary, [tabindex]", (element) => element.textContent.slice(0, 80));
live.save = () => {
  const state = { theme: document.documentElement.dataset.theme ?? "", scroll: [scrollX, scrollY] };
  for (const [kind, { elements, read }] of Object.entries(live.kinds)) {
    state[kind] = Object.fromEntries(elements().map(([name, element]) => [name, read(element)]));
  }
  const active = document.activeElement;
  state.focus = live.focusable().find(([, element]) => element === active)?.[0];
  if (/^(search|text)$/.test(active?.type)) state.caret = [active.selectionStart, active.selectionEnd];
  sessionStorage.setItem(live.key, JSON.stringify(state));
};
live.restore = () => {
  if (performance.getEntriesByType("navigation")[0]?.type !== "reload") return;
  const state = JSON.parse(sessionStorage.getItem(live.key) ?? "null");
  if (!state) return;
  if (state.theme) page.setTheme(state.theme);
  for (const [kind, { elements, write }] of Object.entries(live.kinds)) {
    for (const [name, element] of elements()) if (name in state[kind]) write(element, state[kind][name]);
  }
  if (state.focus) {
    const element = new Map(live.focusable()).get(state.focus);
    element?.focus({ preventScroll: true });
    if (state.caret) element?.setSelectionRange?.(...state.caret);
  }
  scrollTo(...state.scroll);
};
addEventListener("pagehide", () => {
  try {
    live.save();
  } catch {
    /* a full or forbidden storage: the page opens as new */
  }
});
try {
  live.restore();
} catch {
  /* likewise */
}
addEventListener("load", () => {
  try {
    live.restore();
  } catch {
    /* likewise */
  }
});

for (const name of ["pointerdown", "pointermove", "keydown", "input", "wheel", "scroll"]) {
  addEventListener(
    name,
    () => {
      live.active = Date.now();
    },
    { passive: true, capture: true },
  );
}
live.state = make("span", { class: "soft", text: `live, updated ${new Date().toLocaleTimeString("en-GB")}` });
document.querySelector(".bar > span")?.after(live.state);
live.look = async () => {
  try {
    const answer = await fetch(location.pathname, { method: "HEAD", cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    if (live.ended) live.state.textContent = "live again";
    live.ended = false;
    if (answer.headers.get("ETag") !== `"${document.documentElement.dataset.version}"`) live.changed ||= Date.now();
  } catch {
    live.ended = true;
    live.state.textContent = "not live: the server has ended";
  }
  const now = Date.now(),
    reads = now - live.active < live.wait || String(getSelection());
  if (live.changed && !live.ended && (!reads || now - live.changed > live.longest)) location.reload();
};
live.loop = async () => {
  clearTimeout(live.timer);
  if (!document.hidden) await live.look();
  live.timer = setTimeout(live.loop, live.every);
};
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) live.loop();
});
live.timer = setTimeout(live.loop, live.every);
