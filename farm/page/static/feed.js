// What the server tells once a second. One stream a tab, none while the tab is hidden.
import { get } from "./api.js";

const AGAIN_MS = 3000;
const GRACE_MS = 4000; // a stream that is back by then was not missed
const listeners = new Set();
let source = null;
let timer = 0;
let graceTimer = 0;

/** `lostSince`: nothing comes since then, in seconds; `problem`: why, as far as the server says. */
export const state = { now: null, history: [], lostSince: null, problem: "" };

/** Be told of each event; returns how to stop. Before the first event `now` is null. */
export function listen(listener) {
  listeners.add(listener);
  if (state.now) listener(state);
  return () => listeners.delete(listener);
}

function tell() {
  for (const listener of [...listeners]) listener(state);
}

function open() {
  clearTimeout(timer);
  if (source) return;
  source = new EventSource("/events");
  source.addEventListener("history", (event) => { state.history = JSON.parse(event.data); });
  source.addEventListener("now", (event) => {
    state.now = JSON.parse(event.data);
    found();
    const { sample } = state.now;
    const last = state.history[state.history.length - 1];
    if (sample && (!last || sample[0] > last[0])) state.history.push(sample);
    while (state.history.length && state.history[0][0] < state.now.now_s - 300) state.history.shift();
    tell();
  });
  source.addEventListener("again", () => { // its time is over, and nothing is wrong
    close();
    open();
  });
  source.addEventListener("error", () => {
    missed();
    // a browser that was refused gives up; one that was cut off tries again by itself
    if (source && source.readyState === EventSource.CLOSED) {
      close();
      whyRefused().then((problem) => {
        state.problem = problem;
        if (problem) lost();
        if (!document.hidden) timer = setTimeout(open, AGAIN_MS);
      });
    }
  });
}

function found() {
  clearTimeout(graceTimer);
  graceTimer = 0;
  state.lostSince = null;
  state.problem = "";
}

function missed() {
  const since = Date.now() / 1000;
  if (state.lostSince === null && !graceTimer) graceTimer = setTimeout(() => lost(since), GRACE_MS);
}

function lost(since = Date.now() / 1000) {
  clearTimeout(graceTimer);
  graceTimer = 0;
  state.lostSince ??= since;
  tell();
}

/** What the server says to one that it refuses; "" where it says nothing. Without a token: to the form. */
async function whyRefused() {
  const control = new AbortController();
  try {
    await get("/events", {}, control.signal, (response) => { control.abort(); return response; });
    return "";
  } catch (error) {
    return error.status ? error.message : "";
  }
}

function close() {
  source?.close();
  source = null;
}

function rest() {
  clearTimeout(timer);
  clearTimeout(graceTimer);
  graceTimer = 0;
  close();
}

export function start() {
  open();
  document.addEventListener("visibilitychange", () => { if (document.hidden) rest(); else open(); });
  window.addEventListener("pagehide", rest);
  window.addEventListener("pageshow", () => { if (!document.hidden) open(); });
}
