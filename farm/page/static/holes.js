// The list of holes: filters in the address, pages of a hundred, new ones as they come.
import { about, get } from "./api.js";
import { el, fill } from "./dom.js";
import { state as fed } from "./feed.js";
import { NONE, holeLink, number, outcome, plural, time, tool } from "./format.js";

const ROWS = 100;
const TYPING_MS = 200;
const HOLD_MS = 2500; // nothing moves under a mouse that moves
const COUNT_EVERY_MS = 2000;
const QUALITIES = ["0.5", "0.8", "0.9", "0.95", "0.99"];
const FIELDS = ["q", "tool", "outcome", "quality"];

let last = { address: "/", hole: "", upto: "" }; // where one was, to come back to

/** The list as it was when a hole of it was opened. */
export const listAddress = () => last.address;

export async function show(root, context) {
  document.title = "Holes · farm";
  const list = new List(root, context);
  await list.load();
  list.enter();
  return list;
}

const hasJournal = () => fed.now?.farm?.journal.durability !== "off";

class List {
  constructor(root, context) {
    this.context = context;
    this.about = about;
    const given = new URLSearchParams(location.search);
    this.filter = Object.fromEntries(FIELDS.map((name) => [name, given.get(name) || ""]));
    this.page = Math.max(0, (parseInt(given.get("page"), 10) || 1) - 1);
    this.upto = given.get("upto") || "";
    this.selected = "";
    this.rows = new Map();
    this.data = null;
    this.edition = -1;
    this.heldUntil = 0;
    this.nextCount = 0;
    this.isLoading = false;
    this.isFollowing = !this.page && !this.upto;
    this.isBack = context.isBack && last.hole !== "" && last.address === location.pathname + location.search;
    if (this.isBack) { // the very rows of before, though new ones have come
      this.upto = last.upto;
      this.isFollowing = false;
    }
    this.build(root);
  }

  build(root) {
    const columns = this.about.columns;
    this.head = el("tr", {}, el("th", { scope: "col" }, "Time"), el("th", { scope: "col" }, "Tool"),
      el("th.id", { scope: "col" }, "Id"),
      columns.map((column, i) => el(i && column.key !== "quality" ? "th.num.minor" : "th.num",
        { scope: "col", title: column.note || null }, column.name, column.unit && el("span.unit", {}, ` ${column.unit}`))),
      el("th.outcome-cell", { scope: "col" }, "Outcome"));
    this.body = el("tbody", { onclick: (event) => this.clicked(event),
      onpointermove: (event) => {
        if (event.pointerType === "mouse") this.heldUntil = Date.now() + HOLD_MS;
      } });
    this.table = el("table.holes", { "aria-label": "Holes, newest first" }, el("thead", {}, this.head), this.body);
    this.note = el("p.empty", { hidden: true });
    this.pager = el("div.pager");
    this.count = el("p.count-line", { role: "status" });
    fill(root, el("h1.unseen", {}, "Holes"), this.filters(), this.count, this.table, this.note, this.pager);
    this.onScroll = () => { if (window.scrollY > 80 && this.isFollowing) this.pause(); };
    window.addEventListener("scroll", this.onScroll, { passive: true });
  }

  filters() {
    let timer = 0;
    this.text = el("input", { type: "search", name: "q", value: this.filter.q, maxlength: 200,
      placeholder: "Tool, or how an id begins", "aria-label": "Tool, or how an id begins",
      oninput: () => {
        clearTimeout(timer);
        timer = setTimeout(() => this.change("q", this.text.value.trim()), TYPING_MS);
      } });
    this.chips = el("div.chips", { role: "group", "aria-label": "Outcomes" });
    const hasQuality = this.about.columns.some((column) => column.key === "quality");
    const chosen = this.filter.quality;
    const steps = QUALITIES.includes(chosen) || !chosen ? QUALITIES : [...QUALITIES, chosen];
    const quality = hasQuality && el("select", { name: "quality", "aria-label": "Quality",
      onchange: (event) => this.change("quality", event.target.value) },
    el("option", { value: "" }, "any quality"),
    steps.map((step) => el("option", { value: step, selected: step === chosen }, `quality below ${step}`)));
    const only = this.filter.tool && el("span.only", {}, ...tool(this.filter.tool), " ",
      el("button", { type: "button", title: "All tools", "aria-label": "All tools",
        onclick: () => { this.filter.tool = ""; this.context.go(this.address()); } }, "✕"));
    return el("form.filters", { role: "search", onsubmit: (event) => {
      event.preventDefault();
      this.text.blur();
    } }, only, this.text, quality, this.chips);
  }

  drawChips() {
    const chosen = new Set(this.filter.outcome.split(",").filter(Boolean));
    const counts = this.data.outcomes;
    const names = this.about.outcomes.filter((name) => counts[name] || chosen.has(name));
    fill(this.chips, names.map((name) => el("button.chip", {
      type: "button", "aria-pressed": String(chosen.has(name)), "data-name": name,
      onclick: () => {
        if (!chosen.delete(name)) chosen.add(name);
        this.change("outcome", [...chosen].join(","));
      },
    }, outcome(name), el("span.count", {}, number(counts[name] || 0)))));
  }

  change(name, value) {
    if (this.filter[name] === value) return;
    this.filter[name] = value;
    this.page = 0;
    this.upto = "";
    this.selected = "";
    this.isFollowing = true;
    this.context.go(this.address(), { isSame: true });
    this.load();
  }

  address() {
    const given = new URLSearchParams();
    for (const name of FIELDS) if (this.filter[name]) given.set(name, this.filter[name]);
    if (this.page) {
      given.set("page", this.page + 1);
      if (this.upto) given.set("upto", this.upto);
    }
    const query = given.toString();
    return query ? `/?${query}` : "/";
  }

  async load() {
    this.isLoading = true;
    const asked = JSON.stringify([this.filter, this.page, this.isFollowing]);
    try {
      const data = await get("/api/holes", { ...this.filter, offset: this.page * ROWS, limit: ROWS,
        upto: this.page || !this.isFollowing ? this.upto : "" }, this.context.signal);
      // meanwhile something else is wanted, or a row was chosen: nothing moves under it
      if (this.data && asked !== JSON.stringify([this.filter, this.page, this.isFollowing])) return;
      const pages = Math.max(1, Math.ceil(data.total / ROWS));
      if (this.page >= pages) { // an old address: the last page there is
        this.page = pages - 1;
        this.context.go(this.address(), { isSame: true });
        await this.load();
        return;
      }
      this.data = data;
      this.upto = data.upto;
      this.edition = data.edition;
      this.draw();
    } finally {
      this.isLoading = false;
    }
  }

  draw() {
    const kept = new Map();
    for (const row of this.data.holes) {
      const before = this.rows.get(row.hole);
      kept.set(row.hole, before && before.outcome === row.outcome
        ? before : { outcome: row.outcome, element: this.row(row) });
    }
    // of those that stay, the elements stay: what has the focus keeps it
    const wanted = [...kept.values()].map((each) => each.element);
    const focused = document.activeElement;
    const hadFocus = this.body.contains(focused);
    if (wanted.length !== this.body.children.length || wanted.some((each, i) => each !== this.body.children[i])) {
      this.body.replaceChildren(...wanted);
      if (hadFocus && focused.isConnected) focused.focus({ preventScroll: true });
    }
    this.rows = kept;
    this.drawChips();
    this.drawCount();
    this.drawPager();
    const isEmpty = !this.data.holes.length;
    this.note.hidden = !isEmpty;
    this.table.hidden = isEmpty;
    if (isEmpty) fill(this.note, this.emptiness());
  }

  emptiness() {
    if (FIELDS.some((name) => this.filter[name])) {
      return ["No hole fits. ", el("a", { href: "/" }, "Show all")];
    }
    this.hasJournal = hasJournal();
    if (!this.hasJournal) {
      return ["This farm keeps no journal (journal.durability is off), so there are no holes to list. ",
        el("a", { href: "/live" }, "Live"), " shows its figures."];
    }
    return "No holes yet: they appear as they arrive.";
  }

  row(hole) {
    const link = el("a", { href: holeLink(hole.hole), tabindex: "-1" }, hole.id);
    const below = [el("bdi", {}, hole.id), hole.reason && [" · ", el("bdi", {}, hole.reason)]];
    return el("tr", { "data-hole": hole.hole, tabindex: "-1", title: hole.reason || null },
      el("td.time", {}, time(hole.first_s)),
      el("td.tool", {}, el("span.tool-line", {}, tool(hole.source)), el("span.id-below", {}, below)),
      el("td.id", {}, link), this.figures(hole), el("td.outcome-cell", {}, outcome(hole.outcome)));
  }

  /** The numbers; where there are none, the reason in their place, on a phone below the tool. */
  figures(hole) {
    const { columns } = this.about;
    const isMinor = (i) => i && columns[i].key !== "quality";
    if (hole.reason && columns.length && !Object.keys(hole.figures).length) {
      return [el("td.why", { colspan: columns.length }, el("span", {}, hole.reason)),
        columns.filter((_, i) => !isMinor(i)).map(() => el("td.num.in-its-place", {}, NONE))];
    }
    return columns.map((column, i) =>
      el(isMinor(i) ? "td.num.minor" : "td.num", {}, number(hole.figures[column.key], column.decimals)));
  }

  drawCount() {
    const { total, kept } = this.data;
    const isAll = FIELDS.every((name) => !this.filter[name]);
    const first = this.page * ROWS + 1;
    const shown = total > ROWS ? `${number(first)} to ${number(Math.min(first + ROWS - 1, total))} of ` : "";
    const of = isAll ? `the last ${plural(total, "hole")}` : `${number(total)} that fit, of the last ${plural(kept, "hole")}`;
    fill(this.count, total ? shown + of : "",
      this.isFollowing ? total > 0 && el("span.following", {}, "live") : this.paused(this.data.newer));
  }

  paused(newer) {
    return el("button.newer", { type: "button", title: "To the newest (Esc)", onclick: () => this.follow() },
      newer ? `↑ ${number(newer)} new` : "↑ newest");
  }

  drawPager() {
    const pages = Math.max(1, Math.ceil(this.data.total / ROWS));
    fill(this.pager, pages > 1 && [
      el("button", { type: "button", disabled: !this.page, onclick: () => this.turn(-1) }, "← newer"),
      el("span", {}, `page ${number(this.page + 1)} of ${number(pages)}`),
      el("button", { type: "button", disabled: this.page + 1 >= pages, onclick: () => this.turn(1) }, "older →"),
    ]);
  }

  async turn(by, at = "first") {
    const pages = Math.ceil(this.data.total / ROWS);
    if (this.page + by < 0 || this.page + by >= pages) return;
    this.isFollowing = false;
    this.page += by;
    this.selected = "";
    history.pushState(null, "", this.address());
    await this.load();
    window.scrollTo(0, 0);
    if (at) this.select(at === "last" ? this.data.holes.length - 1 : 0);
  }

  pause() {
    this.isFollowing = false;
    this.drawCount();
  }

  follow() {
    this.page = 0;
    this.upto = "";
    this.selected = "";
    this.isFollowing = true;
    this.mark();
    window.scrollTo(0, 0);
    this.context.go(this.address(), { isSame: true });
    this.load();
  }

  select(place) {
    const hole = this.data.holes[place];
    if (!hole) return;
    this.selected = hole.hole;
    if (this.isFollowing) this.pause();
    this.mark();
    const { element } = this.rows.get(hole.hole);
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
  }

  mark() {
    for (const [hole, { element }] of this.rows) {
      element.classList.toggle("selected", hole === this.selected);
    }
  }

  open(hole) {
    last = { address: this.address(), hole, upto: this.upto };
    this.context.go(holeLink(hole));
  }

  clicked(event) {
    const row = event.target.closest("tr[data-hole]");
    const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    const isLink = event.target.closest("a") !== null; // the row's own: a new tab is the browser's matter
    if (!row || (isLink ? !isPlain : getSelection().toString())) return;
    event.preventDefault();
    this.open(row.dataset.hole);
  }

  enter() {
    if (this.isBack) {
      const place = this.data.holes.findIndex((hole) => hole.hole === last.hole);
      if (place >= 0) this.select(place);
    }
  }

  onNow = ({ now }) => {
    if (!this.note.hidden && this.hasJournal !== hasJournal()) fill(this.note, this.emptiness());
    if (now.journal.edition === this.edition || this.isLoading || Date.now() < this.heldUntil) return;
    if (this.isFollowing) {
      this.load().catch(() => {});
    } else if (Date.now() >= this.nextCount) {
      this.nextCount = Date.now() + COUNT_EVERY_MS;
      this.edition = now.journal.edition;
      get("/api/holes", { ...this.filter, limit: 0, upto: this.upto }, this.context.signal)
        .then(({ newer }) => { this.data.newer = newer; if (!this.isFollowing) this.drawCount(); })
        .catch(() => {});
    }
  };

  keys = (event) => {
    const at = this.data ? this.data.holes.findIndex((hole) => hole.hole === this.selected) : -1;
    const count = this.data ? this.data.holes.length : 0;
    switch (event.key) {
      case "j": case "ArrowDown":
        if (at + 1 < count) this.select(at + 1); else this.turn(1);
        return true;
      case "k": case "ArrowUp":
        if (at > 0) this.select(at - 1); else if (this.page) this.turn(-1, "last");
        return at >= 0 || event.key === "k";
      case "Home": if (count) this.select(0); return true;
      case "End": if (count) this.select(count - 1); return true;
      case "Enter":
        if (event.target instanceof Element && event.target.closest("a, button")) return false;
        if (at >= 0) this.open(this.selected);
        return at >= 0;
      case "n": this.turn(1); return true;
      case "p": this.turn(-1); return true;
      case "/": this.text.focus(); this.text.select(); return true;
      case "Escape": if (!this.isFollowing) this.follow(); return true;
      default: return false;
    }
  };

  leave = () => {
    window.removeEventListener("scroll", this.onScroll);
  };
}

