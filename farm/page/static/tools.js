// The tools: all of them in a table, and one with the course of its last holes.
import { about, get } from "./api.js";
import { TrendChart, ready } from "./charts.js";
import { Walk, el, fill, put, section } from "./dom.js";
import { clock, duration, holeLink, moment, number, outcome, plural, time, tool, toolLink } from "./format.js";

const AGAIN_MS = 2000;
const ORDER = new Intl.Collator(undefined, { numeric: true }); // UNIT-2 before UNIT-11

const share = (part, whole) => (whole ? `${number((100 * part) / whole, part && part < whole ? 1 : 0)} %` : "–");

export const all = {
  async show(root, context) {
    document.title = "Tools · farm";
    const body = el("tbody");
    const count = el("p.count-line");
    const filter = el("input", { type: "search", placeholder: "Tool", "aria-label": "Tool", oninput: () => draw() });
    const names = ["Tool", "Last hole", "Holes", "Published", "Dead", "Quality", "Unpaired", "Skew"];
    const minor = [1, 4, 7];
    const headings = el("tr", {}, names.map((name, i) =>
      el(`th${i > 1 ? ".num" : ""}${minor.includes(i) ? ".minor" : ""}`, { scope: "col" }, name)));
    let data = await get("/api/tools", {}, context.signal);
    const known = new Map(); // rows by tool: the same ones for as long as they are shown
    const row = (each) => {
      if (!known.has(each.source)) known.set(each.source, toolRow(each.source, context));
      const made = known.get(each.source);
      const told = [time(each.last_s), number(each.holes), share(each.outcomes.published || 0, each.holes), number(each.outcomes.dead || 0),
        number(each.quality, 3), share(each.unpaired_parts, each.parts), duration(each.skew_s)];
      told.forEach((value, i) => {
        const cell = made.children[i + 1];
        if (cell.textContent !== (value.textContent ?? value)) fill(cell, value);
      });
      return made;
    };
    const draw = () => {
      const wanted = filter.value.trim().toLowerCase();
      // by name: in the order of their last holes they would move under the mouse
      const rows = data.tools.filter((each) => each.source.toLowerCase().includes(wanted))
        .sort((a, b) => ORDER.compare(a.source, b.source)).map(row);
      put(body, rows);
      const some = data.total > data.tools.length ? `, the ${number(data.tools.length)} heard of last` : "";
      fill(count, `${plural(data.total, "tool")}${some}, by name`);
    };
    fill(root, el("h1.unseen", {}, "Tools"), el("form.filters", { role: "search", onsubmit: (e) => e.preventDefault() }, filter), count,
      el("table.holes.tools", {}, el("thead", {}, headings), body));
    draw();
    const walk = new Walk(body, (chosen) => context.go(toolLink(chosen.dataset.source)));
    let next = Date.now() + AGAIN_MS;
    let edition = -1;
    return {
      keys: (event) => {
        if (event.key !== "/") return walk.keys(event);
        filter.focus();
        return true;
      },
      onNow: ({ now }) => {
        if (Date.now() < next || now.journal.edition === edition) return;
        next = Date.now() + AGAIN_MS;
        edition = now.journal.edition;
        get("/api/tools", {}, context.signal).then((after) => { data = after; draw(); }).catch(() => {});
      },
    };
  },
};

function toolRow(source, context) {
  const open = (event) => { if (!event.target.closest("a") && !getSelection().toString()) context.go(toolLink(source)); };
  return el("tr", { "data-source": source, tabindex: "-1", onclick: open },
    el("td", {}, el("a", { href: toolLink(source), tabindex: "-1" }, tool(source))),
    ["td.time.minor", "td.num", "td.num", "td.num.minor", "td.num", "td.num", "td.num.minor"].map((what) => el(what)));
}

export const one = {
  async show(root, context) {
    const source = new URLSearchParams(location.search).get("source") || "";
    document.title = `${source} · farm`;
    const levelling = get("/api/levels", { source }, context.signal).catch(() => ({}));
    const [data] = await Promise.all([get("/api/tool", { source }, context.signal), ready]);
    const charts = [];
    const { trend } = data;
    const labels = trend.map((hole) => ({ axis: clock(hole.first_s).slice(0, 5), name: `${hole.id}, ${clock(hole.first_s)}` }));
    const grid = el("div.trends");
    const open = (at) => context.go(holeLink(trend[at].hole));
    const add = (title, options) => {
      const place = el("div.chart");
      grid.append(section(title, place));
      charts.push(new TrendChart(place, { labels, onClick: open, ...options }));
    };
    fill(root, el("div.head", {}, el("h1", {}, tool(data.source)),
      el("p.sub", {}, "last heard of ", moment(data.last_s), " · ", el("a", { href: `/?tool=${encodeURIComponent(data.source)}` }, "all its holes"))),
    facts(data), el("p.sub", {}, `Its last ${plural(trend.length, "hole")}, oldest first; a click opens one.`), grid);
    for (const column of about.columns) {
      const values = trend.map((hole) => hole.figures[column.key] ?? null);
      if (values.some((value) => value !== null)) {
        add(column.unit ? `${column.name} in ${column.unit}` : column.name, { series: [{ name: column.name, values }],
          unit: column.unit, decimals: column.decimals, top: column.key === "quality" ? 1.02 : null });
      }
    }
    const skews = trend.map((hole) => (hole.is_paired ? 1000 * hole.skew_s : null));
    add("Skew between the parts in ms", { series: [{ name: "skew", values: skews }], unit: "ms", decimals: 1 });
    // one chart a unit: what is measured in the raw messages, with the names that the viewer gives
    const units = [...new Set(about.levels.map((level) => level.unit))];
    const places = units.map(() => el("div.chart", {}, el("p.empty", {}, "The messages are read …")));
    grid.prepend(...units.map((unit, i) => section(unit ? `Levels in ${unit}` : "Levels", places[i])));
    levelling.then((levels) => {
      if (context.signal.aborted) return;
      units.forEach((unit, i) => {
        const here = about.levels.filter((level) => level.unit === unit);
        const series = here.map((level) => ({ name: level.name, values: trend.map((hole) => levels[hole.hole]?.[level.key] ?? null) }))
          .filter(({ values }) => values.some((value) => value !== null));
        if (!series.length) fill(places[i], el("p.empty", {}, "Nothing could be measured in these holes, or their messages are no longer kept."));
        else charts.push(new TrendChart(places[i], { labels, onClick: open, series, unit, decimals: here[0].decimals }));
      });
    });
    return {
      leave: () => charts.forEach((chart) => chart.end()),
      onTheme: () => charts.forEach((chart) => chart.draw()),
      keys: (event) => { if (event.key !== "Escape") return false; context.go("/tools"); return true; },
    };
  },
};

function facts(data) {
  const outcomes = Object.entries(data.outcomes).filter(([, count]) => count);
  const fact = (name, value, title) => el("div.fact", { title }, el("span", {}, name), el("b", {}, value));
  return el("div.facts", {},
    fact("holes", el("span.outcomes", {}, outcomes.map(([name, count]) => el("span", {}, outcome(name), ` ${number(count)}`)))),
    fact("unpaired parts", `${share(data.unpaired_parts, data.parts)}`, `${data.unpaired_parts} of ${data.parts} parts: their hole's others never came`),
    fact("skew of the parts", `${duration(data.skew_s)}`, "median of the time between the first and the last part of a hole"),
    fact("largest skew", duration(data.skew_max_s)),
    fact("quality", number(data.quality, 3), "median"));
}
