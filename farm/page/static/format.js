// Numbers with units, times in this browser's zone, outcomes in words and signs.
import { el } from "./dom.js";

export const NONE = "–";

/** With fixed decimals; thousands apart from five digits on. Intl would take most of a list's time. */
export function number(value, decimals = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const text = value.toFixed(decimals);
  return Math.abs(value) < 10000 ? text : text.replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ",");
}

export const withUnit = (value, decimals, unit) =>
  number(value, decimals) === NONE ? NONE : `${number(value, decimals)}${unit ? ` ${unit}` : ""}`;

/** A length of time in the unit that suits it. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const s = Math.abs(seconds);
  if (s < 0.001) return `${number(seconds * 1000, 2)} ms`;
  if (s < 0.1) return `${number(seconds * 1000, 1)} ms`;
  if (s < 1) return `${number(seconds * 1000)} ms`;
  if (s < 100) return `${number(seconds, s < 10 ? 2 : 1)} s`;
  if (s < 5400) return `${Math.floor(s / 60)} min ${number(s % 60)} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${number((s % 3600) / 60)} min`;
  return `${number(s / 86400, 1)} days`;
}

export function bytes(count) {
  if (count === null || count === undefined) return NONE;
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${number(count / 1e3, 1)} kB`;
  return count < 1e9 ? `${number(count / 1e6, 1)} MB` : `${number(count / 1e9, 2)} GB`;
}

const two = (n) => String(n).padStart(2, "0");

export function clock(utcS, withMillis = false) {
  const at = new Date(utcS * 1000);
  const text = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return withMillis ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

export function day(utcS) {
  const at = new Date(utcS * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export const utc = (utcS) =>
  `${new Date(utcS * 1000).toISOString().replace("T", " ").replace("Z", "")} UTC`;

/** A time of day here, with the date where it is not today, and UTC to hover. */
export function time(utcS, withMillis = false) {
  if (utcS === null || utcS === undefined) return el("span", {}, NONE);
  const isToday = day(utcS) === day(Date.now() / 1000);
  const attributes = { datetime: new Date(utcS * 1000).toISOString(), title: utc(utcS) };
  return el("time", attributes,
    !isToday && el("span.date", {}, `${day(utcS).slice(5)} `), clock(utcS, withMillis));
}

/** The whole date and time, for a heading. */
export const moment = (utcS) =>
  el("time", { datetime: new Date(utcS * 1000).toISOString(), title: utc(utcS) },
    `${day(utcS)} ${clock(utcS)}`);

const SIGNS = {
  published: "●", insufficient: "◐", skipped: "○", shed: "▽", dead: "✕", open: "…",
};

/** An outcome as sign and word: never by colour alone. */
export const outcome = (name) =>
  el("span.outcome", { "data-outcome": name, title: name },
    el("span.sign", { "aria-hidden": "true" }, SIGNS[name] || "?"), el("span.word", {}, name));

/** "toolbox/tool" with the tool's own name in front. */
export function tool(source) {
  const at = source.lastIndexOf("/");
  if (at < 0) return [el("span.tool-name", {}, source)];
  return [el("span.tool-box", {}, source.slice(0, at + 1)),
    el("span.tool-name", {}, source.slice(at + 1))];
}

export const toolLink = (source) => `/tool?source=${encodeURIComponent(source)}`;
export const holeLink = (hole) => `/hole/${encodeURIComponent(hole)}`;

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
