// Light or dark, before anything is drawn. A classic script: modules come too late for that.
"use strict";
(() => {
  const KEY = "farm-theme";
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  let chosen = "auto";
  try { chosen = localStorage.getItem(KEY) || "auto"; } catch { /* storage is shut off */ }
  if (!(chosen in NEXT)) chosen = "auto";
  const apply = () => { document.documentElement.dataset.theme = chosen; };
  apply();
  window.farmTheme = {
    get chosen() { return chosen; },
    turn() {
      chosen = NEXT[chosen];
      try { localStorage.setItem(KEY, chosen); } catch { /* as above */ }
      apply();
      return chosen;
    },
  };
})();
