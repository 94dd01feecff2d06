"use strict";
// The page is complete without this. Where it runs, a click on a table's heading sorts by that
// column, and the curves of a figure show the values under the pointer.

const numeric = cell => Number((cell.title || cell.textContent).trim().replaceAll(",", "").replace(/\s*%$/, ""));

function compare(column, sign) {
  return (a, b) => {
    const [p, q] = [a.cells[column], b.cells[column]];
    const [x, y] = [numeric(p), numeric(q)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? p.textContent.localeCompare(q.textContent) : x - y;
    return sign * order;
  };
}

for (const table of document.querySelectorAll("table")) {
  const heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
  for (const [column, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare(column, descending ? -1 : 1)));
    });
  }
}

// From a place between the ends of an axis to the value there.
function valueAt({ends: [low, high], log}, share) {
  if (log) return low * (high / low) ** share;
  const value = low + (high - low) * share;
  return Math.abs(value) < 1e-4 * Math.abs(high - low) ? 0 : value; // what drawing has rounded
}

const shown = value => String(Number(value.toPrecision(3)));

function curvesOf(svg, panel) {
  return panel.curves.map(([id, label]) => {
    const path = svg.querySelector(`#${CSS.escape(id)} path`);
    const numbers = (path ? path.getAttribute("d").match(/-?[\d.]+(?:e-?\d+)?/g) : []) || [];
    const points = [];
    for (let i = 0; i + 1 < numbers.length; i += 2) points.push([Number(numbers[i]), Number(numbers[i + 1])]);
    return {label, points};
  });
}

function nearest(curves, x, y) {
  let found = null;
  for (const {label, points} of curves) for (const [px, py] of points) {
    const distance = Math.hypot(px - x, py - y);
    if (distance < 20 && (!found || distance < found.distance)) found = {distance, label, px, py};
  }
  return found;
}

for (const svg of document.querySelectorAll("svg[data-panels]")) {
  const panels = JSON.parse(svg.dataset.panels).map(panel => ({...panel, curves: curvesOf(svg, panel)}));
  const tip = document.createElement("p");
  tip.className = "tip";
  tip.hidden = true;
  svg.after(tip);
  const dot = document.createElementNS(svg.namespaceURI, "circle");
  dot.setAttribute("r", 4);
  dot.setAttribute("class", "dot");
  svg.addEventListener("pointermove", event => {
    const {x, y} = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const panel = panels.find(({box: [left, top, right, bottom]}) => left <= x && x <= right && top <= y && y <= bottom);
    const found = panel && nearest(panel.curves, x, y);
    tip.hidden = !found;
    if (!found) return dot.remove();
    const {box: [left, top, right, bottom]} = panel;
    const across = valueAt(panel.x, (found.px - left) / (right - left));
    const up = valueAt(panel.y, (bottom - found.py) / (bottom - top));
    dot.setAttribute("cx", found.px);
    dot.setAttribute("cy", found.py);
    svg.append(dot);
    tip.textContent = `${found.label ? `${found.label}: ` : ""}${panel.x.label} ${shown(across)}, ${panel.y.label} ${shown(up)}`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; dot.remove(); });
}
