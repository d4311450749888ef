"use strict";

const SVG = "http://www.w3.org/2000/svg";

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

// Range of an axis that holds all values, and round numbers in it, no closer than the closest.
function axis(values, closest = 0) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = [low - 1, high + 1];
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const round = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const step = Math.max(round, closest);
  const margin = 0.04 * (high - low), ticks = [];
  for (let tick = Math.ceil(low / step); tick <= high / step; tick++) ticks.push(tick * step);
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  return { low: low - margin, high: high + margin, ticks: ticks.map((t) => [t, t.toFixed(decimals)]) };
}

// series: [{number, points: [[x, y, title]]}]. Curves run from epoch to epoch; in scatter plots,
// marks of several series at the same place stand side by side.
function plot(svg, { x, y, series, curves }) {
  const width = svg.clientWidth, height = svg.clientHeight;
  const left = 64, right = 12, top = 12, bottom = 48;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = series.flatMap((one) => one.points);
  if (!points.length || !width) return;
  const across = axis(points.map((point) => point[0]), curves ? 1 : 0);
  const up = axis(points.map((point) => point[1]));
  const scaled = (value, range, from, to) =>
    from + ((value - range.low) / (range.high - range.low)) * (to - from);
  const h = (value) => scaled(value, across, left, width - right);
  const v = (value) => scaled(value, up, height - bottom, top);
  for (const [tick, text] of across.ticks) {
    add(svg, "line", { class: "grid", x1: h(tick), x2: h(tick), y1: top, y2: height - bottom });
    add(svg, "text", { x: h(tick), y: height - bottom + 18, "text-anchor": "middle" }, text);
  }
  for (const [tick, text] of up.ticks) {
    const kind = Number(text) === 0 ? "zero" : "grid";
    add(svg, "line", { class: kind, x1: left, x2: width - right, y1: v(tick), y2: v(tick) });
    add(svg, "text", { x: left - 8, y: v(tick) + 4, "text-anchor": "end" }, text);
  }
  add(svg, "text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, x);
  const middle = (top + height - bottom) / 2;
  add(svg, "text", { "text-anchor": "middle", transform: `translate(14 ${middle}) rotate(-90)` }, y);
  for (const [place, { number, points }] of series.entries()) {
    const aside = curves ? 0 : 7 * (place - (series.length - 1) / 2);
    const group = add(svg, "g", { class: `series-${number % 6}` });
    if (curves) {
      add(group, "polyline", { points: points.map(([px, py]) => `${h(px)},${v(py)}`).join(" ") });
    }
    for (const [px, py, title] of points) {
      const box = { x: h(px) - 5 + aside, y: v(py) - 5, width: 10, height: 10 };
      add(add(group, "use", { href: `#mark-${number % 6}`, ...box }), "title", {}, title);
    }
  }
}

function keepDrawn(svg, draw) {
  draw();
  new ResizeObserver(draw).observe(svg);
}

// Sorts by the column whose heading says so; what has no value comes last.
function sort(table) {
  const heading = table.tHead.querySelector("[aria-sort]");
  if (!heading) return;
  const sign = heading.ariaSort === "ascending" ? 1 : -1, column = heading.cellIndex;
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  table.tBodies[0].append(
    ...[...table.tBodies[0].rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      return a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b);
    }),
  );
}

for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table");
    const next = heading.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", next);
    sort(table);
  });
}

for (const scatter of document.querySelectorAll(".scatter")) {
  const { number, systems, plot: data } = JSON.parse(scatter.querySelector("script").textContent);
  const select = scatter.querySelector("select"), svg = scatter.querySelector(".plot");
  const table = scatter.querySelector("table");
  const metric = () => data.metrics[select.value];
  const draw = () => {
    const { title, decimals, gains } = metric();
    const series = systems.map((system, place) => ({
      number: place,
      points: data.snrs
        .map((snr, i) => [snr, gains[system][i], i])
        .filter(([, gain]) => gain !== null)
        .map(([snr, gain, i]) => [
          snr, gain, `${data.utterances[i]}\n${system}: ${gain.toFixed(decimals)} at ${snr} dB`,
        ]),
    }));
    plot(svg, { x: data.x, y: title, series, curves: false });
  };
  const fill = () => {
    const { decimals, gains } = metric();
    table.tBodies[0].replaceChildren(
      ...data.utterances.map((utterance, i) => {
        const row = document.createElement("tr"), name = row.insertCell();
        name.dataset.value = name.textContent = utterance;
        if (document.getElementById(`heard-${number}-${utterance}`)) {
          const link = document.createElement("a");
          link.href = `#heard-${number}-${utterance}`;
          link.textContent = utterance;
          name.replaceChildren(link);
        }
        for (const value of [data.snrs[i], ...systems.map((system) => gains[system][i])]) {
          const cell = row.insertCell();
          cell.className = "number";
          cell.dataset.value = value ?? "";
          cell.textContent = value === null ? "-" : value.toFixed(decimals);
        }
        return row;
      }),
    );
    sort(table);
  };
  select.addEventListener("change", () => { draw(); fill(); });
  fill();
  keepDrawn(svg, draw);
}

for (const curves of document.querySelectorAll(".curves")) {
  const { models, losses } = JSON.parse(curves.querySelector("script").textContent);
  const series = Object.entries(losses).map(([name, byEpoch]) => ({
    number: models.indexOf(name),
    points: Object.entries(byEpoch).map(([epoch, loss]) => [
      Number(epoch), loss, `${name}, epoch ${epoch}: ${loss.toFixed(3)}`,
    ]),
  }));
  const svg = curves.querySelector(".plot");
  keepDrawn(svg, () => plot(svg, { x: "epoch", y: "validation loss", series, curves: true }));
}

// One player at a time.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);
