// What the server tells once a second. One stream a tab, none while the tab is hidden.

const AGAIN_MS = 3000;
const listeners = new Set();
let source = null;
let timer = 0;

export const state = { now: null, history: [], lostSince: null };

/** Be told of each event; returns how to stop. */
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
    state.lostSince = null;
    const { sample } = state.now;
    const last = state.history[state.history.length - 1];
    if (sample && (!last || sample[0] > last[0])) state.history.push(sample);
    while (state.history.length && state.history[0][0] < state.now.now_s - 300) state.history.shift();
    tell();
  });
  source.addEventListener("error", () => {
    state.lostSince ??= Date.now() / 1000;
    tell();
    // a browser that was refused gives up; one that was cut off tries again by itself
    if (source && source.readyState === EventSource.CLOSED) {
      close();
      timer = setTimeout(open, AGAIN_MS);
    }
  });
}

function close() {
  source?.close();
  source = null;
}

export function start() {
  open();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); close(); } else open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", () => { if (!document.hidden) open(); });
}
