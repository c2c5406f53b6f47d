// The metrics that Prometheus scrapes, read by the page.

import { askText } from "./service.js";

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED = { n: "\n" };

// The samples of some metrics: a map of name to [{ labels, value }].
export async function readMetrics(names, options) {
  return parseMetrics(await askText("metrics", options), names);
}

export function parseMetrics(text, names) {
  const wanted = new Map(names.map((name) => [name, []]));
  for (const line of text.split("\n")) {
    const [, name, labels, value] = SAMPLE.exec(line) ?? [];
    wanted.get(name)?.push({ labels: readLabels(labels ?? ""), value: Number(value) });
  }
  return wanted;
}

function readLabels(text) {
  const found = [...text.matchAll(LABEL)];
  return Object.fromEntries(found.map(([, name, value]) => [name, value.replace(/\\(.)/g, (_, one) => ESCAPED[one] ?? one)]));
}
