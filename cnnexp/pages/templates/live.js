"use strict";
// Of a page that `cnnexp report --serve` shows: when it has changed, it is loaded again as the reader left it. Loading
// anew frees all memory of the old page. What the reader does is not interrupted, and a hidden page waits.
const live = { key: `cnnexp ${location.pathname}`, active: 0, changed: 0, every: 2000, wait: 1200, longest: 15000 };
history.scrollRestoration = "manual";

// Every element of a kind with a name that the next page has too: its section, its own words, and its place among equals.
live.named = (selector, words = () => "") => {
  const counts = new Map();
  return find(selector).map((element) => {
    const name = element.id ? `#${element.id}` : `${element.closest("section[id], [id]:not(main)")?.id ?? ""}|${words(element)}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
    return [`${name}|${counts.get(name)}`, element];
  });
};
live.kinds = {
  details: [() => live.named("details", (e) => e.querySelector("summary").textContent), (e) => e.open, (e, open) => { e.open = open; }],
  fields: [() => live.named("input, select", (e) => e.getAttribute("aria-label") ?? e.closest("label")?.textContent), (e) => (e.type === "checkbox" ? e.checked : e.value), (e, value) => {
    if (e.type === "checkbox" ? e.checked === value : e.value === value) return;
    if (e.tagName === "SELECT" && ![...e.options].some((option) => option.value === value)) return;
    if (e.type === "checkbox") e.checked = value; else e.value = value;
    for (const name of ["input", "change"]) e.dispatchEvent(new Event(name, { bubbles: true }));
  }],
  pressed: [() => live.named("[aria-pressed]", (e) => e.dataset.arm ?? e.textContent), (e) => e.getAttribute("aria-pressed"), (e, value) => { if (e.getAttribute("aria-pressed") !== value) e.click(); }],
  sorts: [() => live.named("thead th:has(> .sort)", (e) => e.textContent), (e) => e.getAttribute("aria-sort"), (e, value) => {
    for (let click = 0; value && click < 2 && e.getAttribute("aria-sort") !== value; click += 1) e.firstElementChild.click();
  }],
  heights: [() => live.named(".plot"), (e) => e.offsetHeight, (e, height) => { if (height) e.style.minHeight = `${height}px`; }],
  places: [() => live.named(".scroll, .forest, .switches, .menu", (e) => e.getAttribute("aria-label")), (e) => [e.scrollLeft, e.scrollTop], (e, [x, y]) => { if (x || y) e.scrollTo(x, y); }],
};
live.save = () => {
  const state = { theme: document.documentElement.dataset.theme ?? "", scroll: [scrollX, scrollY] };
  for (const [kind, [named, read]] of Object.entries(live.kinds)) state[kind] = Object.fromEntries(named().map(([name, e]) => [name, read(e)]));
  const at = document.activeElement;
  state.focus = live.named("a, button, input, select, summary, [tabindex]", (e) => e.textContent.slice(0, 80)).find(([, e]) => e === at)?.[0];
  if (/^(search|text)$/.test(at?.type)) state.caret = [at.selectionStart, at.selectionEnd];
  sessionStorage.setItem(live.key, JSON.stringify(state));
};
live.restore = () => {
  if (performance.getEntriesByType("navigation")[0]?.type !== "reload") return;
  const state = JSON.parse(sessionStorage.getItem(live.key) ?? "null");
  if (!state) return;
  if (state.theme) page.setTheme(state.theme);
  for (const [kind, [named, , write]] of Object.entries(live.kinds)) for (const [name, e] of named()) if (name in state[kind]) write(e, state[kind][name]);
  if (state.focus) {
    const e = new Map(live.named("a, button, input, select, summary, [tabindex]", (one) => one.textContent.slice(0, 80))).get(state.focus);
    e?.focus({ preventScroll: true });
    if (state.caret) e?.setSelectionRange?.(...state.caret);
  }
  scrollTo(...state.scroll);
};
addEventListener("pagehide", () => { try { live.save(); } catch { /* a full or forbidden storage: the page opens as new */ } });
try { live.restore(); } catch { /* likewise */ }
addEventListener("load", () => { try { live.restore(); } catch { /* likewise */ } });

for (const name of ["pointerdown", "pointermove", "keydown", "input", "wheel", "scroll"]) addEventListener(name, () => { live.active = Date.now(); }, { passive: true, capture: true });
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
  const now = Date.now(), reads = now - live.active < live.wait || String(getSelection());
  if (live.changed && !live.ended && (!reads || now - live.changed > live.longest)) location.reload();
};
live.loop = async () => {
  clearTimeout(live.timer);
  if (!document.hidden) await live.look();
  live.timer = setTimeout(live.loop, live.every);
};
document.addEventListener("visibilitychange", () => { if (!document.hidden) live.loop(); });
live.timer = setTimeout(live.loop, live.every);
