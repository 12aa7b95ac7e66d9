// Draws with uPlot, in the colours of the style sheet. Knows series, marks and layers; no holes.
/* global uPlot */
import { clock } from "./format.js";

/** uPlot is there. It is a classic script, and not needed before something is drawn. */
export const ready = new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = new URL("uplot/uPlot.min.js", import.meta.url);
  script.addEventListener("load", resolve);
  script.addEventListener("error", () => reject(new Error("the charts can't be loaded")));
  document.head.append(script);
});

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const WINDOW_S = 300; // of the rates
const LEAST_TOP = 0.02; // the height that a dead channel is given

export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function axis(more) {
  const line = colour("line");
  return { stroke: colour("muted"), font: FONT, labelFont: FONT, labelSize: 18, gap: 4,
    grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, ...more };
}

/** Keeps a chart as wide as its place, and the place of the cursor last in its legend. */
function keepWide(chart, place, height) {
  const first = place.querySelector(".u-series");
  first.parentElement.append(first);
  let width = place.clientWidth;
  const observer = new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== width) {
      width = place.clientWidth;
      chart.setSize({ width, height: height() });
    }
  });
  observer.observe(place);
  return () => { observer.disconnect(); chart.destroy(); };
}

/** The values that stand between two places of an axis that never falls. */
function between(at, values, low, high) {
  let first = at.findIndex((place) => place >= low);
  if (first < 0) first = at.length;
  let end = at.length;
  while (end > first && at[end - 1] > high) end -= 1;
  return values.slice(Math.max(first - 1, 0), end + 1); // and those next to them: lines lead there
}

/** Limits that show all of both currents, with one common zero. */
function limits(series) {
  const tops = series.map((values) => values.reduce((a, b) => Math.max(a, b), LEAST_TOP));
  const lows = series.map((values, i) => values.reduce((a, b) => Math.min(a, b), 0) / tops[i]);
  const foot = Math.max(Math.min(...lows), -1) - 0.07;
  return tops.map((top) => [foot * top, 1.2 * top]);
}

/** One hole: its series over a view, with layers, steps and marks. */
export class HoleChart {
  constructor(place, picture) {
    this.place = place;
    this.picture = picture;
    this.view = 0;
    this.shown = [];
    this.height = () => (window.innerWidth < 600 ? 300 : 400);
    this.draw();
  }

  draw() {
    this.end?.();
    this.place.replaceChildren();
    const view = this.picture.views[this.view];
    const { series } = this.picture;
    const isNarrow = window.innerWidth < 600;
    let ranges = [];
    const fit = (low, high) => { // in height to what is seen of the length
      ranges = limits(series.map((each) => between(view.at, each.values, low, high)));
      return [low, high];
    };
    fit(-Infinity, Infinity);
    const colours = ["torque", "thrust", "third"].map(colour);
    const scales = { x: { time: false, range: (_, low, high) => fit(low, high) } };
    series.forEach((_, i) => { scales[`y${i}`] = { range: () => ranges[i] }; });
    const axes = [axis({ label: `${view.name} in ${view.unit}`, size: 34 })];
    series.slice(0, 2).forEach((each, i) => axes.push(axis({
      scale: `y${i}`, side: i ? 1 : 3, stroke: colours[i], size: isNarrow ? 44 : 52,
      label: isNarrow ? undefined : `${each.name} in ${each.unit}`,
      grid: i ? { show: false } : { stroke: colour("line"), width: 1 },
    })));
    const options = {
      width: this.place.clientWidth, height: this.height(), scales, axes, padding: [8, 0, 0, 0],
      cursor: { drag: { x: true, y: false, dist: 4 }, points: { size: 7 } },
      legend: { live: true },
      series: [
        { label: view.name, value: (_, v) => (v === null ? "–" : `${v.toFixed(2)} ${view.unit}`) },
        ...series.map((each, i) => ({
          label: each.name, scale: `y${i}`, stroke: colours[i], width: 1.25, points: { show: false },
          value: (_, v) => (v === null ? "–" : `${v.toFixed(3)} ${each.unit}`),
        })),
      ],
      hooks: { drawAxes: [(chart) => this.below(chart, view)], draw: [(chart) => this.above(chart, view)] },
    };
    const chart = new uPlot(options, [view.at, ...series.map((each) => each.values)], this.place);
    this.chart = chart;
    this.end = keepWide(chart, this.place, this.height);
  }

  show(view) {
    this.view = view;
    this.draw();
  }

  /** All of it, or the surroundings of a mark. */
  zoom(mark) {
    const view = this.picture.views[this.view];
    const [low, high] = [view.at[0], view.at[view.at.length - 1]];
    if (!mark) {
      this.chart.setScale("x", { min: low, max: high });
      return;
    }
    const span = view.unit === "mm" ? 2 : (high - low) / 8;
    this.chart.setScale("x", { min: Math.max(low, mark.at - span), max: Math.min(high, mark.at + span) });
  }

  below(chart, view) {
    const { ctx, bbox } = chart;
    ctx.save();
    clip(ctx, bbox);
    view.layers.forEach((layer, i) => {
      const [left, right] = [layer.low, layer.high].map((at) => chart.valToPos(at, "x", true));
      ctx.fillStyle = colour(i ? "layer-b" : "layer-a");
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
    });
    ctx.strokeStyle = colour("muted");
    ctx.setLineDash([2 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    for (const step of view.steps.slice(1)) line(ctx, bbox, chart.valToPos(step.low, "x", true));
    ctx.restore();
  }

  above(chart, view) {
    const { ctx, bbox } = chart;
    const ratio = devicePixelRatio;
    ctx.save();
    clip(ctx, bbox);
    ctx.font = FONT.replace("12px", `${11 * ratio}px`);
    ctx.textBaseline = "top";
    ctx.textAlign = "center";
    for (const mark of view.marks) this.mark(chart, mark);
    ctx.fillStyle = colour("muted");
    for (const step of view.steps) {
      this.word(chart, step.low, step.high, bbox.top + 5 * ratio, [step.name, step.name.replace(/\D+/, "")]);
    }
    ctx.font = FONT.replace("12px", `600 ${12 * ratio}px`);
    ctx.fillStyle = colour("text");
    for (const layer of view.layers) {
      this.word(chart, layer.low, layer.high, bbox.top + bbox.height - 18 * ratio, [layer.name]);
    }
    ctx.restore();
  }

  mark(chart, mark) {
    const { ctx, bbox } = chart;
    const ratio = devicePixelRatio;
    const at = chart.valToPos(mark.at, "x", true);
    const tone = colour(`mark-${mark.name}`) || colour("text");
    if (mark.low !== null) {
      const [left, right] = [mark.low, mark.high].map((edge) => chart.valToPos(edge, "x", true));
      ctx.globalAlpha = 0.25;
      ctx.fillStyle = tone;
      ctx.fillRect(left, bbox.top, Math.max(right - left, 1), bbox.height);
      ctx.globalAlpha = 1;
    }
    ctx.strokeStyle = tone;
    ctx.setLineDash([]);
    ctx.lineWidth = 1.5 * ratio;
    line(ctx, bbox, at);
    // upright beside its line, on the side where the torque is low
    ctx.save();
    const isLast = mark.name === "exit" && at + 20 * ratio < bbox.left + bbox.width;
    ctx.translate(at + (isLast ? 4 : -4) * ratio, bbox.top + 26 * ratio);
    ctx.rotate(-Math.PI / 2);
    ctx.textAlign = "right";
    ctx.textBaseline = isLast ? "top" : "bottom";
    ctx.lineWidth = 3 * ratio;
    ctx.strokeStyle = colour("card");
    ctx.lineJoin = "round";
    ctx.strokeText(mark.name, 0, 0);
    ctx.fillStyle = tone;
    ctx.fillText(mark.name, 0, 0);
    ctx.restore();
  }

  /** The longest of some words that fits between two places. */
  word(chart, low, high, top, words) {
    const { ctx, bbox } = chart;
    const left = Math.max(chart.valToPos(low, "x", true), bbox.left);
    const right = Math.min(chart.valToPos(high, "x", true), bbox.left + bbox.width);
    const fitting = words.find((word) => ctx.measureText(word).width + 6 < right - left);
    if (!fitting) return;
    ctx.save(); // a line of a mark may pass behind it
    ctx.strokeStyle = colour("card");
    ctx.lineWidth = 3 * devicePixelRatio;
    ctx.lineJoin = "round";
    ctx.strokeText(fitting, (left + right) / 2, top);
    ctx.restore();
    ctx.fillText(fitting, (left + right) / 2, top);
  }
}

function clip(ctx, bbox) {
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
}

function line(ctx, bbox, at) {
  ctx.beginPath();
  ctx.moveTo(Math.round(at) + 0.5, bbox.top);
  ctx.lineTo(Math.round(at) + 0.5, bbox.top + bbox.height);
  ctx.stroke();
}

const TONES = ["torque", "thrust", "third"];

/** Some courses over time, that grow: `put` gives the rows anew. */
export class RateChart {
  constructor(place, names, { unit = "", height = 180 } = {}) {
    this.place = place;
    this.names = names;
    this.unit = unit;
    this.height = () => height;
    this.rows = [];
    this.draw();
  }

  draw() {
    this.end?.();
    this.place.replaceChildren();
    this.place.classList.toggle("single", this.names.length === 1);
    const options = {
      width: this.place.clientWidth, height: this.height(), padding: [8, 8, 0, 0],
      scales: { x: { time: true, range: (_, low, high) => [(high || 0) - WINDOW_S, high || 0] }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [axis({ space: 80, size: 28, values: (_, places) => places.map((at) => clock(at)) }), axis({ size: 44 })],
      cursor: { drag: { x: false, y: false } },
      series: [
        { label: "at", value: (_, v) => (v === null ? "" : clock(v)) },
        ...this.names.map((name, i) => ({
          label: name, stroke: colour(TONES[i]), width: 1.5, points: { show: false },
          dash: i ? [6, 3] : undefined,
          value: (_, v) => (v === null || v === undefined ? "–" : `${v.toFixed(this.unit ? 1 : 0)}${this.unit}`),
        })),
      ],
    };
    this.chart = new uPlot(options, this.columns(), this.place);
    this.end = keepWide(this.chart, this.place, this.height);
  }

  columns() {
    return Array.from({ length: this.names.length + 1 }, (_, i) => this.rows.map((row) => row[i]));
  }

  put(rows) {
    this.rows = rows;
    this.chart.setData(this.columns());
  }
}

/** A number of each of the last holes, in their order; a click tells which one. */
export class TrendChart {
  constructor(place, { series, labels, unit, decimals, onClick, top = null }) {
    this.place = place;
    Object.assign(this, { series, labels, unit, decimals, onClick, top });
    this.height = () => 170;
    this.draw();
  }

  draw() {
    this.end?.();
    this.place.replaceChildren();
    const { labels, series } = this;
    this.place.classList.toggle("single", series.length === 1);
    const data = [labels.map((_, i) => i), ...series.map((each) => each.values)];
    const show = (v) => (v === null || v === undefined ? "–" : `${v.toFixed(this.decimals)} ${this.unit}`);
    const options = {
      width: this.place.clientWidth, height: this.height(), padding: [10, 10, 0, 0],
      scales: { x: { time: false, range: (_, low, high) => [low - 0.5, Math.max(high, low + 1) + 0.5] },
        y: { range: (_, low, high) => this.range(low, high) } },
      axes: [
        axis({ space: 64, size: 28, values: (_, places) => named(places.map((at) => labels[at]?.axis ?? "")) }),
        axis({ size: 52, values: (_, places) => places.map((at) => trimmed(at)) }),
      ],
      cursor: { drag: { x: false, y: false }, points: { size: 8 } },
      series: [
        { label: "hole", value: (_, v) => (v === null || !labels[v] ? "–" : labels[v].name) },
        ...series.map((each, i) => ({
          label: each.name, stroke: colour(TONES[i]), width: 1, dash: i ? [6, 3] : undefined,
          points: { show: true, size: 4.5, fill: colour(TONES[i]) }, value: (_, v) => show(v),
        })),
      ],
    };
    this.chart = new uPlot(options, data, this.place);
    this.chart.over.addEventListener("click", () => {
      const at = this.chart.cursor.idx;
      if (at !== null && at !== undefined) this.onClick?.(at);
    });
    this.end = keepWide(this.chart, this.place, this.height);
  }

  range(low, high) {
    if (low === null || high === null) return [0, 1];
    const least = 10 ** -this.decimals * 20; // so that noise of the last digit is no mountain
    const middle = (low + high) / 2;
    const half = Math.max((high - low) / 2, least) * 1.15;
    const top = this.top === null ? Infinity : this.top;
    return [Math.max(middle - half, low < 0 ? -Infinity : 0), Math.min(middle + half, top)];
  }
}

/** The same time is written once. */
const named = (words) => words.map((word, i) => (word === words[i - 1] ? "" : word));

const trimmed = (value) => String(parseFloat(value.toPrecision(6)));
