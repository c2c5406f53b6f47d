// The states of a cell: what is wrong with it, the most urgent first.

import { element } from "./element.js";
import { ago, clock, count } from "./words.js";

const STALE_S = 90 * 86_400; // age of a cell's newest fingerprint

// In the order of urgency.
export const MEANINGS = {
  damaged: "The current version is damaged.",
  unreachable: "The cell's part of the reference database cannot be reached.",
  "not served": "No active model locates users in the cell.",
  "too small": "The cell has fewer fingerprints than the model needs.",
  refused: "This replica cannot serve the newest version, and serves an earlier one.",
  contradicted: "Fewer surveyed truths lie inside the ellipses than stated.",
  drifted: "The traffic no longer fits the calibration: something in the street, or the array, has changed.",
  stale: "The newest fingerprint is older than 90 days.",
  served: "Users are located.",
};
export const STATES = Object.keys(MEANINGS);
const DRIFT_SIGNS = {
  signal: "The CSI of users no longer fits the fingerprints",
  fixes: "Coarse positions no longer fit the estimates",
};

// The states of a cell of `GET /cells`: [{ state, reason (or null) }]. `fault`: of the same answer, or undefined.
// `age`: seconds since the newest fingerprint was measured, or null.
export function statesOf({ notServed, refused, drift, coverageContradicted }, age, fault) {
  const states = [
    fault && stateOfFault(fault),
    notServed && { state: notServed.cause === "CELL_TOO_SMALL" ? "too small" : "not served", reason: notServed.detail },
    refused && { state: "refused", reason: refused },
    coverageContradicted && { state: "contradicted", reason: MEANINGS.contradicted },
    drift?.signs.length && { state: "drifted", reason: describeDrift(drift) },
    age > STALE_S && { state: "stale", reason: null },
  ].filter(Boolean);
  return states.length ? states : [{ state: "served", reason: null }];
}

export function stateOfFault({ cause = "CELL_UNREADABLE", detail = null }) {
  return { state: cause === "STORE_UNAVAILABLE" ? "unreachable" : "damaged", reason: detail };
}

// The states as elements, each with its meaning.
export function stateMarks({ states }) {
  return states.map(({ state }) =>
    element("span", { class: `state-name ${state.replace(" ", "-")}`, title: MEANINGS[state] }, state));
}

// Why a cell of the overview is not merely served, a sentence for each state.
export function explainStates({ states, age }) {
  return states.filter(({ state }) => state !== "served").map(({ state, reason }) => reason ??
    (state === "stale" ? `${MEANINGS.stale} It was measured ${ago(age)}. Users are still located.` : MEANINGS[state]));
}

function describeDrift({ signs, since, evidence, turnedDeg = null }) {
  const what = signs.map((sign) => DRIFT_SIGNS[sign]).join("; ");
  const turned = turnedDeg === null ? "" : ` The array seems turned by ${describeTurn(turnedDeg)}.`;
  return `${what}.${turned} Since about ${clock(since)}; a false alarm as strong comes at most once in ${count(evidence)} counted users.`;
}

function describeTurn(degrees) {
  return `${Math.abs(degrees)}° ${degrees < 0 ? "counter-clockwise" : "clockwise"}`;
}
