// The differences between two versions of a cell, in words.

import { element } from "./element.js";
import { count, metres } from "./words.js";

export function describeDiff({ before, after, added, removed, description, retention, model = [] }) {
  const lines = [
    element("p", { class: "counts" },
      element("span", { class: "added" }, `+${count(added.count)} added`),
      element("span", { class: "removed" }, `−${count(removed.count)} removed`),
      element("span", {}, `${count(before.fingerprints)} → ${count(after.fingerprints)} fingerprints`)),
    ...[...description, ...retention, ...model].map(({ field, before, after }) =>
      element("p", {}, element("code", {}, field), ` ${JSON.stringify(before)} → ${JSON.stringify(after)}`)),
  ];
  const [was, now] = [before, after].map(({ extent }) => extent && size(extent));
  if (was !== now) lines.push(element("p", {}, `extent ${was ?? "none"} → ${now ?? "none"}`));
  if (!added.complete || !removed.complete) {
    lines.push(element("p", { class: "aside" }, "The map marks the first thousand fingerprints of each."));
  }
  return lines;
}

function size([west, south, east, north]) {
  return `${metres(east - west)} × ${metres(north - south)}`;
}
