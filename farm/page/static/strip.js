// The line below the head: how the farm is, in a glance; and the banner where it does not answer.
import { el, fill } from "./dom.js";
import { clock, day, number, plural } from "./format.js";

const READY = ["idle", "busy"];

export function draw(strip, banner, state) {
  const { now, lostSince } = state;
  const words = trouble(state);
  banner.hidden = !words;
  if (banner.textContent !== words) banner.textContent = words;
  document.documentElement.classList.toggle("lost", lostSince !== null); // nothing is "live" then
  if (!now) return;
  const { farm } = now;
  fill(strip, ...(farm ? items(now, farm) : [el("span.item", {}, "no farm has answered yet")]));
  strip.classList.toggle("stale", now.is_silent || lostSince !== null);
  document.getElementById("instance").textContent = farm ? ` ${farm.instance}` : "";
  const count = document.getElementById("dead-count");
  count.hidden = !farm || !farm.dead_letters;
  count.textContent = farm ? String(farm.dead_letters) : "";
}

function items(now, farm) {
  const ready = farm.workers.filter((worker) => READY.includes(worker.state)).length;
  const isBehind = farm.throughput.pace !== "HEALTHY";
  const state = now.is_silent ? "SILENT" : farm.state;
  return [
    el("span.state", { "data-state": state, title: farm.problems.join("\n") || "all is well" },
      state.replaceAll("_", " ").toLowerCase()),
    item(`${number(now.sample ? now.sample[1] : 0, 1)}/s`, "in"),
    item(`${number(now.sample ? now.sample[2] : 0, 1)}/s`, "out"),
    item(number(farm.throughput.backlog), "backlog", isBehind),
    item(`${ready}/${farm.workers_expected}`, "workers", ready < farm.workers_expected),
    item(farm.mqtt.state, "MQTT", farm.mqtt.state !== "connected"),
    farm.journal.durability === "off" && el("span.item", { title: "journal.durability: off" }, el("span.name", {}, "no journal is kept")),
  ];
}

const item = (value, name, isBad = false) =>
  el(isBad ? "span.item.bad" : "span.item", {}, el("span.name", {}, name), " ", el("b", {}, value));

function trouble({ now, lostSince, problem }) {
  if (lostSince !== null && problem) {
    return `No live figures since ${clock(lostSince)}: ${problem}. What is shown is from then; it is tried again.`;
  }
  if (lostSince !== null) {
    return `The page's own process does not answer since ${clock(lostSince)}; what is shown is from `
      + "then. It is tried again.";
  }
  if (!now) return "";
  if (now.is_silent && now.problem) return `The farm's figures can't be shown: ${now.problem}.`;
  if (now.is_silent) {
    if (now.answered_s === null) {
      return now.journal.problem
        ? `No farm answers, and ${now.journal.problem}`
        : "No farm answers here: this is the journal of one that has stopped.";
    }
    const since = day(now.answered_s) === day(now.now_s)
      ? clock(now.answered_s) : `${day(now.answered_s)} ${clock(now.answered_s)}`;
    return `The farm does not answer since ${since}. Its journal is shown; this ends by itself `
      + "when it is back.";
  }
  // without a journal by intention there is nothing to read, and nothing wrong
  if (now.journal.problem && now.farm.journal.durability !== "off") return `The journal can't be read: ${now.journal.problem}`;
  return now.farm.problems.length
    ? now.farm.problems.slice(0, 3).join(" · ")
      + (now.farm.problems.length > 3 ? ` · ${plural(now.farm.problems.length - 3, "more")}` : "")
    : "";
}
