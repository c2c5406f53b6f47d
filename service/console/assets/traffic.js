// Traffic: users located, refused and located by a fallback, by cause; requests; and users by cell where known.
//
// Counters grow since the process started. The page remembers what it has read, and shows what came in the last minute.

import { drawChart } from "./chart.js";
import { byId, element } from "./element.js";
import { readMetrics } from "./metrics.js";
import { fillTable } from "./table.js";
import { addressOf } from "./views.js";
import { count, short, span } from "./words.js";

const COUNTERS = [
  "fingerpost_locations_total", "fingerpost_problems_total", "fingerpost_requests_total",
  "fingerpost_cell_locations_total", "fingerpost_trajectories_total", "fingerpost_measures_total",
];
const START = "process_start_time_seconds";
const WINDOW_MS = 60_000;
const KEPT_MS = 900_000; // the chart
const OTHER_CELLS = "other cells";
const NUMBERS = [{ name: "last minute", kind: "number" }, { name: "since the start", kind: "number" }];

export class Traffic {
  constructor() {
    this.samples = []; // [{ at, started, counters: Map of name and labels to value }]
  }

  // A load balancer routes by the header: this request reaches the replica that serves the cell.
  async refresh(cell) {
    const headers = cell ? { "Fingerpost-Cell": cell } : {};
    const metrics = await readMetrics([...COUNTERS, START], { headers });
    const started = metrics.get(START)[0]?.value ?? 0;
    if (this.samples.at(-1)?.started !== started) this.samples = []; // another process: it counts from zero
    this.samples.push({ at: Date.now(), started, metrics, users: countUsers(metrics) });
    while (Date.now() - this.samples[0].at > KEPT_MS) this.samples.shift();
    this.draw(cell);
  }

  draw(cell) {
    const now = this.samples.at(-1);
    const before = this.samples.find(({ at }) => now.at - at <= WINDOW_MS);
    byId("traffic-replica").textContent =
      `of the replica that serves ${cell ?? "this page"}, which started ${span(now.at / 1000 - now.started)} ago`;
    this.drawRates(now, before);
    drawChart(byId("chart"), this.samples);
    const rows = (metric, name, chosen = () => true) => countRows(now, before, metric, name, chosen);
    const located = ({ outcome }) => outcome === "located";
    fillTable(byId("answers"), [{ name: "Outcome" }, ...NUMBERS], [
      ...rows("fingerpost_locations_total", ({ source }) => `located by ${source}`, located),
      ...rows("fingerpost_locations_total", ({ outcome }) => outcome, (labels) => !located(labels)),
      ...rows("fingerpost_trajectories_total", ({ outcome }) => `trajectories: ${outcome}`),
      ...rows("fingerpost_measures_total", ({ outcome }) => `measures: ${outcome}`),
    ], "Nobody has asked yet.");
    fillTable(byId("fallbacks"), [{ name: "Cause" }, { name: "Located by" }, ...NUMBERS],
      rows("fingerpost_locations_total", ({ fallback, source }) => [fallback, source],
        (labels) => located(labels) && labels.fallback !== "none"),
      "The first method located all users.");
    fillTable(byId("problems"), [{ name: "Cause" }, ...NUMBERS],
      rows("fingerpost_problems_total", ({ cause }) => cause), "No request was answered by a problem.");
    fillTable(byId("by-cell"), [{ name: "Cell" }, { name: "Outcome" }, ...NUMBERS],
      rows("fingerpost_cell_locations_total", ({ cell, outcome }) => [linkTo(cell), outcome]),
      "Not counted by cell: set FINGERPOST_CELL_SERIES to the number of cells that get counts of their own.");
    fillTable(byId("requests"), [{ name: "Route" }, { name: "Status" }, ...NUMBERS],
      rows("fingerpost_requests_total", ({ route, status }) => [route === "none" ? "other paths" : route, status]),
      "No request yet.");
  }

  drawRates(now, before) {
    const seconds = (now.at - before.at) / 1000;
    const lately = (kind) => now.users[kind] - before.users[kind];
    const all = lately("located") + lately("refused");
    const share = (kind) => (all ? `${short((100 * lately(kind)) / all, 2)} %` : "–");
    const rates = {
      "users a second": seconds ? short(all / seconds, 2) : "–",
      refused: share("refused"),
      "by a fallback": share("fellBack"),
      "located since the start": count(now.users.located),
    };
    byId("rates").replaceChildren(...Object.entries(rates).map(([name, value]) =>
      element("div", {}, element("dd", {}, value), element("dt", {}, name))));
  }
}

function countUsers(metrics) {
  const users = { located: 0, refused: 0, fellBack: 0 };
  for (const { labels: { outcome, fallback }, value } of metrics.get("fingerpost_locations_total")) {
    users[outcome === "located" ? "located" : "refused"] += value;
    if (outcome === "located" && fallback !== "none") users.fellBack += value;
  }
  return users;
}

// Rows of what has been counted, most first: the names of its labels, and the counts of the last minute and of all.
function countRows(now, before, metric, name, chosen) {
  const early = new Map(before.metrics.get(metric).map(({ labels, value }) => [JSON.stringify(labels), value]));
  const rows = new Map();
  for (const { labels, value } of now.metrics.get(metric)) {
    if (!value || !chosen(labels)) continue;
    const names = [name(labels)].flat();
    const key = names.map((one) => one.textContent ?? one).join("\n");
    const row = rows.get(key) ?? { names, lately: 0, value: 0 };
    row.lately += value - (early.get(JSON.stringify(labels)) ?? 0);
    row.value += value;
    rows.set(key, row);
  }
  return [...rows.values()]
    .sort((one, other) => other.value - one.value)
    .map(({ names, lately, value }) => [...names, count(lately), count(value)]);
}

function linkTo(cell) {
  return cell === OTHER_CELLS ? cell : element("a", { href: addressOf(cell) }, cell);
}
