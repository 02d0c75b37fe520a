// What a page adds for those who point or use the keyboard; without it everything can still be read.
"use strict";
const words = JSON.parse(document.getElementById("words").textContent);

function added(parent, name, properties, before = null) {
  const element = Object.assign(document.createElement(name), properties);
  return parent.insertBefore(element, before);
}

// Charts: the nearest point, or the one that the arrow keys reach, tells its value; an arm can be hidden.
for (const figure of document.querySelectorAll("figure.chart")) {
  const { series, places } = JSON.parse(figure.querySelector("script").textContent);
  const drawings = [...figure.querySelectorAll("svg")];
  const hidden = new Set();
  const there = series.filter(({ points }) => points.length);
  if (!there.length) continue;
  const tip = added(figure, "output", { className: "tip", hidden: true });
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 6);
  let shown = null; // [series, index of the point]

  const visible = () => Math.max(0, drawings.findIndex((svg) => svg.getClientRects().length));
  const shownSeries = () => there.filter(({ owner }) => !hidden.has(owner));
  const at = ({ panel }, [x, y]) => {
    const [a, b, logX, c, d, logY] = places[visible()][panel];
    return [a + b * (logX ? Math.log(x) : x), c + d * (logY ? Math.log(y) : y)];
  };
  const filled = (text, values) =>
    text.replace(/\{(\w+)(?::(\d))?\}/g, (_, name, decimals) => {
      const value = decimals === undefined ? String(values[name]) : values[name].toFixed(decimals);
      return value.replace(/^-(?=[0.]*$)/, "").replace("-", "−");
    });

  function clear() {
    shown = null;
    tip.hidden = true;
    ring.remove();
  }
  function show(one, index) {
    shown = [one, index];
    const [x, y, lo, hi] = one.points[index];
    const text = filled(one.text + (lo === undefined ? "" : one.interval), { x, y, lo, hi });
    tip.textContent = text ? `${one.name}: ${text}` : one.name;
    tip.hidden = false;
    const svg = drawings[visible()];
    const [px, py] = at(one, one.points[index]);
    ring.setAttribute("cx", px);
    ring.setAttribute("cy", py);
    svg.append(ring);
    const point = new DOMPoint(px, py).matrixTransform(svg.getScreenCTM());
    const box = figure.getBoundingClientRect();
    const left = point.x - box.left + (point.x - box.left > box.width / 2 ? -12 - tip.offsetWidth : 12);
    tip.style.left = `${Math.max(0, Math.min(left, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${point.y - box.top - tip.offsetHeight - 10}px`;
  }
  function point(event) {
    const svg = drawings[visible()];
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let [nearest, distance] = [null, 30];
    for (const one of shownSeries())
      one.points.forEach((values, index) => {
        const [px, py] = at(one, values);
        const far = Math.hypot(px - x, py - y);
        if (far < distance) [nearest, distance] = [[one, index], far];
      });
    if (nearest) show(...nearest);
    else clear();
  }
  function step(event) {
    const all = shownSeries();
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -Infinity], End: [0, Infinity] };
    if (event.key === "Escape") return clear();
    const move = moves[event.key];
    if (!move || !all.length || event.target !== figure) return;
    event.preventDefault();
    if (!shown) return show(all[0], 0);
    const [one, index] = shown;
    const next = all[(all.indexOf(one) + move[0] + all.length) % all.length];
    const along = move[0] ? nearestBy(next, one.points[index][0]) : index + move[1];
    show(next, Math.max(0, Math.min(along, next.points.length - 1)));
  }
  // In the series above or below, the point at the same place of the horizontal axis.
  function nearestBy({ points }, x) {
    return points.reduce((best, values, index) => (Math.abs(values[0] - x) < Math.abs(points[best][0] - x) ? index : best), 0);
  }

  figure.tabIndex = 0;
  figure.setAttribute("role", "group");
  figure.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent} ${words.keys}`);
  figure.addEventListener("pointermove", point);
  figure.addEventListener("pointerdown", point);
  figure.addEventListener("pointerleave", clear);
  figure.addEventListener("keydown", step);
  figure.addEventListener("blur", clear);

  const owners = [...new Set(there.map(({ owner }) => owner).filter(Boolean))];
  if (owners.length < 2) continue;
  const buttons = added(figure, "div", { className: "owners" }, figure.querySelector("figcaption"));
  buttons.setAttribute("role", "group");
  buttons.setAttribute("aria-label", words.hide);
  for (const owner of owners) {
    const button = added(buttons, "button", { type: "button", textContent: owner });
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const off = !hidden.delete(owner);
      if (off) hidden.add(owner);
      button.setAttribute("aria-pressed", String(!off));
      for (const part of figure.querySelectorAll("[data-owner]"))
        if (part.dataset.owner === owner) part.style.display = off ? "none" : "";
      clear();
    });
  }
}

// Tables: sorted by a column, filtered by words.
for (const table of document.querySelectorAll("table:not(.fixed)")) {
  const [body] = table.tBodies;
  const rows = [...body.rows];
  if (rows.length < 3 || !table.tHead) continue;
  // The first number of a cell, before its interval in small print; NaN if it doesn't begin with one.
  const number = (text) => parseFloat(/^(?:[<>]\s*)?([+−-]?\d[\d,]*(?:\.\d+)?)/.exec(text)?.[1].replace("−", "-").replaceAll(",", ""));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: words.sort });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const text = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const numeric = rows.some((row) => !isNaN(number(text(row))));
      const sign = descending ? -1 : 1;
      const order = (a, b) => {
        if (!numeric) return sign * text(a).localeCompare(text(b), document.documentElement.lang);
        const [x, y] = [number(text(a)), number(text(b))];
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y); // empty cells last
      };
      body.append(...[...rows].sort(order));
    });
  });
  if (rows.length < 12) continue;
  const field = added(table.parentNode, "input", { type: "search", placeholder: words.filter, className: "filter" }, table);
  field.setAttribute("aria-label", words.filter);
  field.addEventListener("input", () => {
    const sought = field.value.toLocaleLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLocaleLowerCase().includes(sought);
  });
}

for (const line of document.querySelectorAll(".command")) {
  const button = added(line, "button", { type: "button", textContent: words.copy });
  button.addEventListener("click", async () => {
    const code = line.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = words.copied;
    } catch {
      // Some browsers keep the clipboard from pages on disk.
      getSelection().selectAllChildren(code);
      button.textContent = words.select;
    }
    setTimeout(() => (button.textContent = words.copy), 2000);
  });
}
