// The facts of a cell, as terms and their descriptions.

import { element } from "./element.js";
import { count, metres, short } from "./words.js";

const VERDICTS = { TOO_FEW_INSIDE: ": too few", MORE_INSIDE: ": more than stated", UNDECIDED: " (undecided)" };

// `drawn`: fingerprints on the map; `truths`: the total of surveyed truths, or null; `row`: of the overview, if known.
export function describeCell(detail, drawn, truths, row) {
  const { array } = detail;
  const calibration = Object.values(detail.quality.calibration ?? {})[0];
  const alone = calibration?.rungs.find(({ sigma }) => sigma === null);
  const all = count(detail.fingerprints) + (drawn < detail.fingerprints ? ` (${count(drawn)} drawn)` : "");
  return Object.entries({
    version: detail.version,
    fingerprints: all,
    carrier: `${short(detail.carrierFrequency / 1e9, 4)} GHz, ${short(detail.bandwidth / 1e6, 3)} MHz`,
    array: `${array.rows} × ${array.columns}${array.polarisations === 2 ? ", two polarisations" : ""}`,
    ...timing(detail),
    ...(row && { "located by": locators(row) }),
    ...(alone && { "without GNSS": `${Math.round(100 * calibration.confidence)} % within ${metres(alone.radius)}` }),
    ...(truths && { truths: coverage(truths) }),
  }).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

function coverage({ coverage: share, truths, confidence, verdict }) {
  const inside = `${short(share, 3)} % of ${count(truths)} inside, ${short(confidence, 3)} % stated`;
  return inside + (VERDICTS[verdict] ?? "");
}

// The sampling-time offsets of the radios, where they are known.
function timing({ surveyStoNs, userStoNs }) {
  const known = Object.entries({ fingerprints: surveyStoNs, users: userStoNs }).filter(([, sto]) => sto != null);
  return known.length ? { timing: known.map(([whose, sto]) => `${whose} ± ${short(sto, 3)} ns`).join(", ") } : {};
}

function locators({ models, states }) {
  if (!models) return `no model (${states.map(({ reason }) => reason).filter(Boolean).join("; ")})`;
  return models.includes("mateformer") ? models : models.replace("lwlm", "lwlm (the base station alone)");
}
