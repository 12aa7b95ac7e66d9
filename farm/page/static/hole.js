// One hole: its trace, its answer, its life, where all of that comes from.
import { about, get } from "./api.js";
import { HoleChart, ready } from "./charts.js";
import { el, fill, section } from "./dom.js";
import { listAddress } from "./holes.js";
import { bytes, duration, holeLink, moment, number, outcome, time, tool, toolLink, withUnit } from "./format.js";

export async function show(root, context) {
  const [name] = context.parameters;
  const path = `/api/holes/${encodeURIComponent(decoded(name))}`;
  // both at once; that of the picture is looked at below, and its failure costs the picture alone
  const drawing = get(`${path}/picture`, {}, context.signal).catch((error) => ({ problem: error.message }));
  const hole = await get(path, {}, context.signal);
  document.title = `${hole.source} ${hole.id} · farm`;
  const place = el("div.chart");
  const tools = el("div.chart-tools");
  const marks = el("ul.marks");
  const fields = el("div");
  fill(root,
    heading(hole),
    el("section.card.trace", { "aria-label": "Trace" }, el("div.chart-head", {}, marks, tools), place),
    el("div.columns", {},
      el("div", {}, section("Life", timeline(hole)), section("What the trace says", fields)),
      section("Where it comes from", provenance(hole))),
    section("What was published", publications(hole)),
    section("Messages", messages(hole)));
  const [picture] = await Promise.all([drawing, ready]);
  fill(fields, table(picture.fields?.length ? picture.fields : hole.fields));
  const chart = draw(picture, place, tools, marks);
  let isOpen = hole.state === "open";
  return {
    leave: () => chart?.end(),
    onTheme: () => chart?.draw(),
    keys: (event) => {
      const to = { j: hole.older, ArrowDown: null, k: hole.newer }[event.key];
      if (event.key === "Escape") context.go(listAddress(), { isBack: true });
      else if (to) context.go(holeLink(to));
      else return false;
      return true;
    },
    onNow: ({ now }) => { // a hole that was open is shown anew once it has ended
      if (!isOpen || now.journal.edition === hole.edition) return;
      hole.edition = now.journal.edition;
      get(path, {}, context.signal).then((after) => {
        if (after.state === "open" || !isOpen) return;
        isOpen = false;
        context.go(holeLink(hole.hole), { isSame: true });
        window.dispatchEvent(new PopStateEvent("popstate"));
      }).catch(() => {});
    },
  };
}

function decoded(name) {
  try { return decodeURIComponent(name); } catch { return name; } // no UTF-8: told as none
}

function heading(hole) {
  // what an answer has is its viewer's to say: names, units, and which comes first
  const words = about.columns.filter(({ key }) => key in hole.figures).map((column, i) =>
    el("span.figure", { title: column.note || null }, column.name, " ",
      el(i ? "b" : "b.answer", {}, withUnit(hole.figures[column.key], column.decimals, column.unit))));
  return el("div.head", {},
    el("div.crumbs", {}, el("a", { href: toolLink(hole.source) }, ...tool(hole.source)),
      el("span.neighbours", {},
        hole.older ? el("a", { href: holeLink(hole.older), title: "The one before, of this tool (j)" }, "← older") : el("span", {}, "← older"),
        hole.newer ? el("a", { href: holeLink(hole.newer), title: "The next one, of this tool (k)" }, "newer →") : el("span", {}, "newer →"))),
    el("h1", {}, "Hole ", hole.id, " ", outcome(hole.terminal || "open")),
    el("p.sub", {}, moment(hole.first_part_s)),
    words.length ? el("p.answer-line", {}, words) : "",
    hole.reason && el("p.reason", {}, hole.reason),
    hole.refusals && el("p.reason", {}, `MQTT refused: ${hole.refusals}`),
    hole.is_dead_letter && el("p.hint", {}, "It waits for a decision: ",
      el("code", {}, `farm dead retry ${hole.hole}`), " or ", el("code", {}, `farm dead drop ${hole.hole}`)),
    (hole.twins.length || hole.retry_of || hole.resolved) && el("p.hint", {},
      hole.resolved && `${hole.resolved} by an operator. `,
      hole.retry_of && ["A retry of ", el("a", { href: holeLink(hole.retry_of) }, hole.retry_of), ". "],
      hole.twins.length && ["The same id came more than once: ",
        hole.twins.map((twin, i) => [i ? ", " : "", el("a", { href: holeLink(twin) }, twin)]), "."]));
}

function draw(picture, place, tools, marks) {
  if (picture.problem || !picture.views?.length) {
    const words = picture.problem ? `There is no trace to draw: ${picture.problem}.`
      : "This kind of traffic has no picture: its adapter has no viewer.";
    fill(place, el("p.empty", {}, words));
    return null;
  }
  const chart = new HoleChart(place, picture);
  const drawTools = () => {
    const view = picture.views[chart.view];
    fill(tools,
      el("span.switch", { role: "group", "aria-label": "Drawn over" }, picture.views.map((each, i) =>
        el("button", { type: "button", "aria-pressed": String(i === chart.view),
          onclick: () => { chart.show(i); drawTools(); } }, each.name))),
      el("button", { type: "button", title: "Draw over the chart to zoom; here or by a double click back", onclick: () => chart.zoom(null) }, "all of it"));
    fill(marks, view.marks.map((mark) => el("li", {}, el("button.mark", {
      type: "button", "data-mark": mark.name, title: "Zoom there", onclick: () => chart.zoom(picture.views[chart.view].marks.find((m) => m.name === mark.name)),
    }, mark.label))));
  };
  drawTools();
  return chart;
}

const table = (rows) => (rows && rows.length
  ? el("dl.fields", {}, rows.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]))
  : el("p.empty", {}, "Nothing."));

const WORDS = {
  paired: "all parts are there", "given up": "parts are missing, and no longer waited for",
  dispatched: "sent to a worker", claimed: "a worker has begun", computed: "the model has answered",
  answered: "worded and written to the journal", bounced: "the worker was busy", unclaimed: "nobody took it: sent again",
  recovered: "taken up after the broker's start", "worker lost": "its worker is gone",
};

function timeline(hole) {
  const { timeline: events } = hole;
  if (!events.length) return el("p.empty", {}, "Nothing is told of it yet.");
  const first = events[0].at_s;
  const total = Math.max(events[events.length - 1].at_s - first, 1e-6);
  const lives = new Set(events.map((event) => event.life));
  return [
    el("ol.timeline", {}, events.map((event, i) => {
      const since = i ? event.at_s - events[i - 1].at_s : 0;
      const bar = el("span.bar", { "aria-hidden": "true" }, el("i"));
      const from = ((event.at_s - since - first) / total) * 100;
      bar.firstChild.style.left = `${from}%`;
      bar.firstChild.style.width = `max(2px, ${(since / total) * 100}%)`;
      const meaning = WORDS[event.what];
      return el("li", { "data-what": event.what }, el("span.when", {}, time(event.at_s, true)),
        el("span.since.num", {}, i ? `+${duration(since)}` : ""),
        el("span.what", {}, el("b", {}, event.what), event.detail ? ` ${event.detail}` : meaning ? ` ${meaning}` : "",
          lives.size > 1 ? el("span.life", {}, ` life ${event.life + 1}`) : ""), bar);
    })),
    el("p.sub", {}, `${duration(total)} in all`,
      hole.answered_s !== null && `, answered ${duration(hole.answered_s - hole.last_part_s)} after its last part`),
  ];
}

function provenance(hole) {
  const claimed = [...hole.timeline].reverse().find((event) => event.what === "computed");
  const rows = [
    ["model", hole.model_version || "none has answered"],
    ["weights", hole.model_hash],
    ["worker", claimed ? claimed.detail.replace(/,.*$/, "").replace(/^worker /, "") : ""],
    ["computed in", claimed ? claimed.detail.replace(/^.*, /, "") : ""],
    ...(hole.origin || []),
    ...Object.entries(hole.provenance).map(([name, value]) => [name, value === null ? "" : String(value)]),
    ["hole", hole.hole],
  ];
  return table(rows.filter(([, value]) => value));
}

function publications(hole) {
  if (!hole.publications.length) {
    return el("p.empty", {}, hole.state === "open" ? "Not yet." : "Nothing.");
  }
  return el("div.publications", {}, hole.publications.map((each) =>
    el("div", {}, el("p.topic", {}, each.topic), el("pre", { tabIndex: 0 }, pretty(each.payload)))));
}

function pretty(payload) {
  try {
    // one field a line, lists as they are: for people; the bytes themselves are in the title
    return JSON.stringify(JSON.parse(payload), null, 1).replace(/\n\s+(?=[-\d\]])/g, " ").replace(/\[ /g, "[").replace(/ \]/g, "]");
  } catch { return payload; }
}

function messages(hole) {
  const missing = about.needs.filter((kind) => !hole.messages.some((message) => message.kind === kind));
  const base = `/api/holes/${encodeURIComponent(hole.hole)}/parts/`;
  return [
    el("div.scroll", {}, el("table", {}, el("thead", {}, el("tr", {}, ["Kind", "Arrived", "Size", "Topic", ""].map((name, i) =>
      el(["th", "th", "th.num", "th.minor", "th"][i], { scope: "col" }, name)))),
    el("tbody", {}, hole.messages.map((message) => el("tr", {}, el("td", {}, message.kind), el("td.time", {}, time(message.at_s, true)),
      el("td.num", {}, bytes(message.bytes)), el("td.topic.minor", {}, message.topic),
      el("td", {}, el("a", { href: base + encodeURIComponent(message.kind), download: "" }, "download"))))))),
    hole.gone_messages ? el("p.hint", {}, `${hole.gone_messages} no longer kept (journal.keep_s, journal.keep_bytes).`)
      : missing.length ? el("p.hint", {}, `Never came: ${missing.join(", ")}.`) : "",
  ];
}
