// The dead letters: holes that ended without an answer, and why.
import { get } from "./api.js";
import { Walk, el, fill } from "./dom.js";
import { holeLink, number, outcome, plural, time, tool } from "./format.js";

const ROWS = 100;
const AGAIN_MS = 5000;

export async function show(root, context) {
  document.title = "Dead letters · farm";
  const body = el("tbody");
  const count = el("p.count-line", { role: "status" });
  const more = el("div.pager");
  const table = el("table.holes.dead", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"), el("th", { scope: "col" }, "Tool"),
    el("th", { scope: "col" }, "Id"), el("th", { scope: "col" }, "Reason"))), body);
  const hint = el("p.hint", {}, "An error was published for each. ", el("code", {}, "farm dead retry HOLE"), " computes one again, ",
    el("code", {}, "farm dead drop HOLE"), " strikes it off; this page only reads.");
  fill(root, el("h1.unseen", {}, "Dead letters"), count, hint, table, more);
  let letters = [];
  let total = 0;
  const draw = () => {
    fill(body, letters.map((letter) => el("tr", { "data-hole": letter.hole, tabindex: "-1", onclick: () => context.go(holeLink(letter.hole)) },
      el("td.time", {}, time(letter.ended_s)), el("td.tool", {}, tool(letter.source)), el("td", {}, el("a", { href: holeLink(letter.hole) }, letter.id)),
      el("td.reason-cell", {}, letter.outcome !== "dead" && [outcome(letter.outcome), " "], letter.reason || letter.refusals || "no reason was kept",
        letter.deaths ? ` (${plural(letter.deaths, "worker")} lost on it)` : ""))));
    fill(count, total ? `${number(letters.length)} of ${plural(total, "dead letter")}, newest first` : "");
    table.hidden = hint.hidden = !total;
    fill(more, letters.length < total ? el("button", { type: "button", onclick: older }, "older →") : "",
      !total && el("p.empty", {}, "No dead letters."));
  };
  const load = async (before) => {
    const found = await get("/api/dead", { limit: ROWS, before }, context.signal);
    letters = before ? [...letters, ...found.letters] : found.letters;
    total = found.total;
    draw();
  };
  const older = () => load(letters[letters.length - 1].hole);
  await load("");
  let known = null;
  let edition = "";
  let next = 0;
  const walk = new Walk(body, (row) => context.go(holeLink(row.dataset.hole)));
  return {
    onNow: ({ now }) => {
      const here = now.farm ? now.farm.dead_letters : null;
      const isOther = known !== null && here !== known;
      // one may come as another goes: their count alone does not tell
      const isDue = now.journal.edition !== edition && Date.now() >= next;
      if ((isOther || (isDue && edition)) && letters.length <= ROWS) load("").catch(() => {});
      if (isOther || isDue) {
        edition = now.journal.edition;
        next = Date.now() + AGAIN_MS;
      }
      known = here;
    },
    keys: (event) => walk.keys(event),
  };
}
