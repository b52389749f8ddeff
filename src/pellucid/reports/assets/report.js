"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const icicle = document.getElementById("icicle");
  const pages = new Map([...document.querySelectorAll("section.part")].map((page) => [page.id, page]));
  const cells = new Map();
  for (const link of icicle.querySelectorAll("a.cell")) {
    const box = link.querySelector("svg");
    const text = box.querySelector("text");
    cells.set(link.getAttribute("href").slice(1), {
      link, box, text, label: text.dataset.label, brief: text.dataset.brief, up: link.dataset.up, below: [],
      start: +link.dataset.start, width: +link.dataset.width, level: +link.dataset.level,
    });
  }
  for (const [id, cell] of cells) if (cell.up) cells.get(cell.up).below.push(id);
  const whole = cells.keys().next().value;
  let shown = whole;
  let focus = whole;

  const above = (id) => {
    const path = [];
    for (let at = id; at; at = cells.get(at).up) path.push(at);
    return path;
  };

  // Ancestors of the focus take the full width, its descendants share it, all others have none.
  function place() {
    const { start, width } = cells.get(focus);
    const path = new Set(above(focus));
    const pixels = icicle.clientWidth;
    for (const [id, cell] of cells) {
      const full = path.has(id);
      const x = full ? 0 : (cell.start - start) / width;
      const w = full ? 1 : cell.width / width;
      const seen = full || above(id).includes(focus);
      cell.seen = seen;
      cell.link.classList.toggle("away", !seen);
      cell.box.setAttribute("x", `${100 * Math.max(-1, Math.min(1, x))}%`);
      cell.box.setAttribute("width", `${100 * Math.min(1, seen ? w : 0)}%`);
      const room = Math.floor((w * pixels - 11) / 7.3);
      cell.text.textContent = [cell.label, cell.brief].find((text) => text.length <= room) ??
        (room >= 4 ? `${cell.label.slice(0, room - 1)}…` : "");
    }
  }

  function choose(id) {
    for (const [other, page] of pages) page.classList.toggle("on", other === id);
    for (const [other, cell] of cells) {
      if (other === id) cell.link.setAttribute("aria-current", "true");
      else cell.link.removeAttribute("aria-current");
      cell.link.setAttribute("tabindex", other === id ? "0" : "-1");
    }
    shown = id;
    const cell = cells.get(id);
    focus = cell.below.length ? id : cell.up || id;
    place();
  }

  function open(id) {
    history.pushState(null, "", `#${id}`);
    choose(id);
  }

  function route() {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { id = ""; }
    if (pages.has(id)) {
      choose(id);
      pages.get(id).scrollIntoView();
    }
  }

  // A page is scrolled to so that the drawing above it stays in sight.
  function margin() {
    const gap = document.getElementById("pages").offsetTop - document.getElementById("hierarchy").offsetTop;
    root.style.setProperty("--above", `${Math.min(gap, 0.6 * innerHeight)}px`);
  }

  icicle.addEventListener("click", (event) => {
    const link = event.target.closest("a.cell");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(link.getAttribute("href").slice(1));
    link.focus({ preventScroll: true });
  });

  icicle.addEventListener("keydown", (event) => {
    const link = event.target.closest("a.cell");
    if (!link) return;
    const id = link.getAttribute("href").slice(1);
    const cell = cells.get(id);
    const level = [...cells.keys()].filter((other) => cells.get(other).level === cell.level && cells.get(other).seen);
    const next = {
      ArrowRight: () => level[level.indexOf(id) + 1],
      ArrowLeft: () => level[level.indexOf(id) - 1],
      ArrowDown: () => cell.below.find((other) => cells.get(other).seen),
      ArrowUp: () => cell.up,
      Home: () => whole,
      Escape: () => { open(whole); return whole; },
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const target = next();
    if (!target) return;
    for (const other of cells.values()) other.link.setAttribute("tabindex", "-1");
    cells.get(target).link.setAttribute("tabindex", "0");
    cells.get(target).link.focus();
  });

  const filter = document.getElementById("filter");
  const rows = [...document.querySelectorAll("#parts tbody tr")];
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    const kept = new Set();
    let matches = 0;
    for (const row of rows) {
      const hit = row.textContent.toLowerCase().includes(wanted);
      row.hidden = !hit;
      matches += hit;
      if (hit) above(row.querySelector("a").getAttribute("href").slice(1)).forEach((id) => kept.add(id));
    }
    for (const [id, cell] of cells) cell.link.classList.toggle("dim", !kept.has(id));
    document.getElementById("matches").textContent = wanted ? `${matches} of ${rows.length}` : "";
  });

  addEventListener("hashchange", route);
  addEventListener("resize", () => { place(); margin(); });
  choose(whole);
  margin();
  route();
  requestAnimationFrame(() => root.classList.add("ready"));
})();
