// Latency of each stage: p50 and p99 of the last minute, or since the start if no user was located in that minute.

import { element } from "./element.js";
import { ask } from "./service.js";
import { count, duration } from "./words.js";

const WINDOW_MS = 60_000;
const [LEAST, MOST] = [1e-4, 10]; // seconds, the ends of the axis

export class LatencyPanel {
  constructor(rows, window) {
    Object.assign(this, { rows, window, asked: [] });
  }

  // A load balancer routes by the header: this request reaches the replica that serves the cell.
  async refresh(cell) {
    const { histograms } = await ask("latency", { headers: cell ? { "Fingerpost-Cell": cell } : {} });
    const now = Date.now();
    this.asked.push({ at: now, counts: new Map(histograms.map(({ stage, counts }) => [stage, counts])) });
    while (this.asked.length > 2 && now - this.asked[1].at >= WINDOW_MS) this.asked.shift();
    const before = this.asked[0].counts;
    const lately = histograms.map((one) => ({ ...one, counts: difference(one.counts, before.get(one.stage)) }));
    const busy = this.asked.length > 1 && lately.some(({ counts }) => counts.at(-1) > 0);
    const shown = (busy ? lately : histograms).filter(({ counts }) => counts.at(-1) > 0);
    this.window.textContent = busy ? "the last minute" : "since the start";
    this.rows.replaceChildren(...(shown.length ? [head(), ...shown.map(row)] : ["No user has been located yet."]));
  }
}

// A process that has restarted counts from zero.
function difference(counts, before) {
  if (!before || counts.some((number, i) => number < before[i])) return counts;
  return counts.map((number, i) => number - before[i]);
}

function head() {
  return element("div", { class: "stage head" },
    ...["", "", "p50", "p99"].map((name) => element("span", { class: name }, name)));
}

// The service calls this stage by an older word, which dashboards query.
const NAMES = { cues: "path features" };

export function stageName(stage) {
  return NAMES[stage] ?? stage;
}

function row({ stage, upTo, counts }) {
  const [half, most] = [0.5, 0.99].map((share) => quantile(upTo, counts, share));
  const bar = element("span", { class: "bar" });
  bar.style.left = `${100 * place(half)}%`;
  bar.style.right = `${100 - 100 * place(most)}%`;
  const whole = stage.startsWith("/") ? "stage whole" : "stage";
  return element("div", { class: whole, title: `${count(counts.at(-1))} times` },
    element("span", { class: "name" }, stageName(stage)),
    element("span", { class: "axis" }, bar),
    element("span", { class: "p50" }, duration(half)),
    element("span", { class: "p99" }, duration(most)));
}

// As in Prometheus: linear interpolation within a bucket. `counts` are cumulative.
export function quantile(upTo, counts, share) {
  const rank = share * counts.at(-1);
  const at = counts.findIndex((number) => number >= rank);
  if (upTo[at] === null) return upTo[at - 1];
  const [lower, below] = at ? [upTo[at - 1], counts[at - 1]] : [0, 0];
  return lower + ((upTo[at] - lower) * (rank - below)) / Math.max(counts[at] - below, 1);
}

function place(seconds) {
  const share = Math.log(Math.max(seconds, LEAST) / LEAST) / Math.log(MOST / LEAST);
  return Math.min(1, share);
}
