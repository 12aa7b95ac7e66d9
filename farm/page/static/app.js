// Strings the views together: which path shows which, the keys that work everywhere, the feed.
import { el, fill } from "./dom.js";
import * as feed from "./feed.js";
import * as holes from "./holes.js";
import { isStale } from "./stale.js";
import * as strip from "./strip.js";

// The list is what most come for first: all else is fetched when it is asked for, or when there is time.
const VIEWS = [
  [/^\/$/, async () => holes],
  [/^\/hole\/([^/]+)$/, () => import("./hole.js")],
  [/^\/tools$/, async () => (await import("./tools.js")).all],
  [/^\/tool$/, async () => (await import("./tools.js")).one],
  [/^\/dead$/, () => import("./dead.js")],
  [/^\/live$/, () => import("./live.js")],
];
const PLACES = ["/", "/tools", "/dead", "/live"];
const THEME_WORDS = { auto: "◐", light: "☀", dark: "☾" };

const root = document.getElementById("view");
let current = null; // {keys, leave, stop}
let turn = 0;

/** Shows what the address says. */
async function show({ isBack = false } = {}) {
  const mine = ++turn;
  const found = VIEWS.find(([path]) => path.test(location.pathname));
  const before = current;
  current = null;
  before?.stop?.();
  before?.leave?.();
  nav();
  if (!found) {
    fill(root, el("p.empty", {}, "There is no such page. ", el("a", { href: "/" }, "To the holes")));
    return;
  }
  const [path, load] = found;
  const control = new AbortController();
  const context = { go, isBack, signal: control.signal, parameters: path.exec(location.pathname).slice(1) };
  const shown = { stop: () => control.abort() };
  current = shown;
  try {
    const view = await load();
    if (mine !== turn) return;
    const made = await view.show(root, context);
    if (mine !== turn) { made?.leave?.(); return; }
    Object.assign(shown, made);
    if (made?.onNow) {
      const quit = feed.listen((state) => { if (state.now) made.onNow(state); });
      const { leave } = shown;
      shown.leave = () => { quit(); leave?.(); };
    }
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    if (error.status === undefined && await isStale()) {
      location.reload();
      return;
    }
    if (mine !== turn) return;
    document.title = "farm";
    fill(root, el("p.empty", {}, `${error.message}.`), el("p.empty", {},
      el("button", { type: "button", onclick: () => show() }, "Try again")));
    if (!error.status && error.name !== "Error") console.error(error);
  }
}

/**
 * To another place; `isSame`: the same page with other settings, not worth a step back; `isBack`: to
 * where one came from.
 */
function go(address, { isSame = false, isBack = false } = {}) {
  history[isSame ? "replaceState" : "pushState"](null, "", address);
  if (!isSame) {
    window.scrollTo(0, 0);
    show({ isBack });
  }
}

function nav() {
  for (const link of document.querySelectorAll("nav a")) {
    const path = link.getAttribute("href");
    const isHere = path === location.pathname
      || (path === "/tools" && location.pathname === "/tool")
      || (path === "/" && location.pathname.startsWith("/hole/"));
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("a[href]");
  const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  if (event.defaultPrevented || !link || !isPlain || link.origin !== location.origin || link.hasAttribute("download")) return;
  if (link.hash && link.pathname === location.pathname && link.search === location.search) {
    event.preventDefault(); // to a place of this page: it is not shown anew for that
    document.getElementById(link.hash.slice(1))?.focus();
    return;
  }
  if (!VIEWS.some(([path]) => path.test(link.pathname)) || link.hash) return;
  event.preventDefault();
  go(link.pathname + link.search);
});

const help = document.getElementById("help");
const themeButton = document.getElementById("theme");

function turnTheme() {
  window.farmTheme.turn();
  showTheme();
  current?.onTheme?.();
}

function showTheme() {
  const { chosen } = window.farmTheme;
  themeButton.textContent = THEME_WORDS[chosen];
  themeButton.setAttribute("aria-label", `Colours: ${chosen}`);
}

document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || help.open) return;
  const isTyping = event.target instanceof Element && event.target.closest("input, select, textarea");
  if (isTyping) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (current?.keys?.(event)) {
    event.preventDefault();
    return;
  }
  if (event.key === "?") help.showModal();
  else if (event.key === "t") turnTheme();
  else if (event.key in { 1: 0, 2: 0, 3: 0, 4: 0 }) go(PLACES[event.key - 1]);
  else return;
  event.preventDefault();
});

themeButton.addEventListener("click", turnTheme);
document.getElementById("help-button").addEventListener("click", () => help.showModal());
help.addEventListener("click", (event) => { if (event.target === help) help.close(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current?.onTheme?.());
window.addEventListener("popstate", () => show({ isBack: true }));
const place = [document.getElementById("strip"), document.getElementById("banner")];
feed.listen((state) => strip.draw(...place, state));
showTheme();
// after a wrong token the browser keeps this for where the form leads to
if (location.hash === "#wrong") history.replaceState(null, "", location.pathname + location.search);
feed.start();
show().then(() => {
  const whenIdle = window.requestIdleCallback || setTimeout;
  whenIdle(() => VIEWS.forEach(([, load]) => load().catch(() => {})), { timeout: 200 });
});
