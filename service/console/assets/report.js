// What the service sees in a survey before it is published, in words.

import { element } from "./element.js";
import { clock, count, metres, short } from "./words.js";

// `report`: a SurveyReport; `area`: { west, south, east, north } that the operator drew, or null.
export function describeReport(report, area) {
  const { findings, wouldPublish } = report;
  return [
    element("p", { class: wouldPublish ? "verdict good" : "verdict bad" },
      wouldPublish ? "The survey can be published." : "The survey cannot be published as it is."),
    ...findings.map(({ severity, what, advice }) => element("p", { class: `finding ${severity}` },
      element("strong", {}, severity === "fault" ? "Fault: " : "Warning: "), `${what}; ${advice}`)),
    ...reach(report.extent, area),
    element("dl", { class: "facts" }, ...Object.entries(facts(report)).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
  ];
}

function facts(report) {
  const { fingerprints, csi, extent, spacing, measuredFrom, measuredTo, sigma, levelDb, bearing, leaveOneOut } = report;
  const { layoutUnjudged, positionsUnjudged } = report;
  return {
    fingerprints: count(fingerprints),
    ...(csi && { CSI: `${csi.antennas} antennas × ${csi.subcarriers} subcarriers` }),
    ...(extent && { extent: `${metres(extent.east - extent.west)} × ${metres(extent.north - extent.south)}, ` +
      `from ${short(extent.west, 3)} m E, ${short(extent.south, 3)} m N` }),
    ...(spacing != null && { "to the next one": metres(spacing) }),
    measured: measuredFrom ? `${clock(measuredFrom)} to ${clock(measuredTo)}` : "time unknown",
    ...(sigma != null && { "position error": `±${metres(sigma)}` }),
    ...(levelDb != null && { level: `${short(levelDb, 3)} dB` }),
    ...(bearing && { "bearings agree": `${percent(bearing.agreement)} (by chance ${percent(bearing.chance)})` }),
    ...(layoutUnjudged && { layout: `not judged: ${layoutUnjudged}` }),
    ...(positionsUnjudged && { positions: `not judged: ${positionsUnjudged}` }),
    ...(leaveOneOut && { "located by the others": `median ${metres(leaveOneOut.median)}, 90 % within ` +
      `${metres(leaveOneOut.p90)} (by chance ${metres(leaveOneOut.chance)})` }),
  };
}

function percent(share) {
  return `${short(100 * share, 2)} %`;
}

// Says where a survey reaches outside the area that it was measured for.
function reach(extent, area) {
  if (!extent || !area) return [];
  const beyond = Object.entries({
    west: area.west - extent.west, south: area.south - extent.south,
    east: extent.east - area.east, north: extent.north - area.north,
  }).filter(([, by]) => by > 0);
  if (!beyond.length) return [element("p", {}, "All fingerprints are inside the rectangle around your area.")];
  const where = beyond.map(([side, by]) => `${metres(by)} ${side}`).join(", ");
  return [element("p", { class: "finding warning" }, element("strong", {}, "Outside your area: "), `the survey reaches ${where} of it.`)];
}
