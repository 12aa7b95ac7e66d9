// The farm as it is now: rates of the last five minutes, outcomes, workers, MQTT, the journal.
import { RateChart, ready } from "./charts.js";
import { el, fill, section } from "./dom.js";
import { bytes, duration, number, outcome } from "./format.js";
import { state as fed } from "./feed.js";

const OUTCOMES = ["published", "insufficient", "skipped", "shed", "dead"];
const GAP_S = 12; // while nobody looks on, a sample comes each five seconds
const STAGES = { pairing: "first part to complete", queue: "waiting for a worker", transport: "broker to worker",
  reading: "JSON to arrays", inference: "the model", publishing: "answer to PUBACK", total: "last part to PUBACK" };

export async function show(root) {
  await ready;
  document.title = "Live · farm";
  const rates = el("div.chart");
  const backlog = el("div.chart");
  const facts = el("div.facts");
  const workers = el("div.scroll");
  const latency = el("div.scroll");
  const nothing = el("p.empty", {}, "No farm has answered yet.");
  const all = el("div", { hidden: true }, facts,
    el("div.trends", {}, section("Holes per second, last five minutes", rates), section("Backlog in holes", backlog)),
    el("div.columns", {}, section("Workers", workers), section("How long it takes", latency)));
  fill(root, el("h1.unseen", {}, "Live"), nothing, all);
  let charts = null;
  const onNow = ({ now, history }) => {
    if (!now?.farm) return;
    nothing.hidden = true;
    all.hidden = false;
    charts ??= [new RateChart(rates, ["arrive", "answered"], { unit: "/s" }), new RateChart(backlog, ["backlog"])];
    const rows = withGaps(history);
    charts[0].put(rows.map(([at, arrived, answered]) => [at, arrived, answered]));
    charts[1].put(rows.map((row) => [row[0], row[3]]));
    if (!getSelection().isCollapsed) return; // somebody marks a text to copy it
    fill(facts, drawFacts(now.farm));
    fill(workers, drawWorkers(now.farm));
    fill(latency, drawLatency(now.farm));
  };
  if (fed.now) queueMicrotask(() => onNow(fed));
  return { onNow, leave: () => charts?.forEach((chart) => chart.end()), onTheme: () => charts?.forEach((chart) => chart.draw()) };
}

/** No line over a time in which nobody answered. */
function withGaps(history) {
  return history.flatMap((row, i) => (i && row[0] - history[i - 1][0] > GAP_S
    ? [[(row[0] + history[i - 1][0]) / 2, null, null, null], row] : [row]));
}

const fact = (name, ...value) => el("div.fact", {}, el("span", {}, name), el("b", {}, ...value));

function drawFacts(farm) {
  const { holes, mqtt, jobs, journal } = farm;
  return [
    fact("holes since the start", el("span.outcomes", {}, OUTCOMES.filter((name) => holes[name] || name === "published")
      .map((name) => el("span", {}, outcome(name), ` ${number(holes[name])}`)))),
    fact("open", number(jobs.unanswered)),
    fact("MQTT", mqtt.state, mqtt.address ? ` ${mqtt.address}` : "", mqtt.reconnects ? `, ${mqtt.reconnects} reconnects` : ""),
    fact("unconfirmed answers", number(jobs.unconfirmed_publications)),
    fact("journal", journal.failure || journal.durability),
    fact("up", duration(farm.up_s)),
    fact("version", farm.farm_version),
  ];
}

function drawWorkers(farm) {
  if (!farm.workers.length) return el("p.empty", {}, "No worker has joined.");
  const head = ["Name", "State", "Holes/s", "Done", "Memory", "Host", "Model"];
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((name, i) => el(i > 1 && i < 5 ? "th.num" : "th", { scope: "col" }, name)))),
    el("tbody", {}, farm.workers.map((worker) => el("tr", {}, el("td", {}, worker.name),
      el("td", {}, el("span.worker", { "data-worker": worker.state }, worker.state), worker.job_age_s > 1 ? ` for ${duration(worker.job_age_s)}` : ""),
      el("td.num", {}, number(worker.rate_hz, 1)), el("td.num", {}, number(worker.jobs_done)), el("td.num", {}, bytes(worker.rss_bytes)),
      el("td", {}, worker.host), el("td", {}, worker.model_version)))));
}

function drawLatency(farm) {
  const rows = Object.entries(STAGES).filter(([name]) => farm.latency[name]?.count);
  if (!rows.length) return el("p.empty", {}, "Nothing was measured yet.");
  return el("table", {}, el("thead", {}, el("tr", {}, ["", "Median", "99 of 100", "Longest"].map((name, i) => el(i ? "th.num" : "th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map(([name, words]) => {
      const told = farm.latency[name];
      return el("tr", {}, el("td", {}, words), [told.p50_s, told.p99_s, told.max_s].map((seconds) => el("td.num", {}, duration(seconds))));
    })));
}
