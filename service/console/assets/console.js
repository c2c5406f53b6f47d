// The whole page: the cell that it shows, and when it asks the service again.

import { Cells } from "./cells.js";
import { ageRamp, errorRamp, gradient, onThemeChange } from "./colours.js";
import { byId, element } from "./element.js";
import { LatencyPanel } from "./latency.js";
import { LiveWatch } from "./live.js";
import { CellMap } from "./map.js";
import { showModels } from "./models.js";
import { ask, cellPath, key, setKey } from "./service.js";
import { Versions } from "./versions.js";
import { ago, count, metres, short, span } from "./words.js";

const MOST_POINTS = 50_000;
const SAMPLES = [40, 200]; // leave-one-out errors: first a few at once, then enough for a map
const LARGE_SAMPLE = 1000;
const EVERY_MS = 5000; // the cell that is shown
const ALL_EVERY_MS = 30_000; // all cells, and the models

const cells = new Cells();
const map = new CellMap(byId("canvas"), showTip);
const versions = new Versions({ onMarks: mark, onChange: refresh });
const live = new LiveWatch(map, byId("watch"), byId("live-status"));
const latency = new LatencyPanel(byId("latency"), byId("latency-window"));
let chosen = null; // the cell's name
let looking = null; // the cell that a request is in progress for
let shown = null; // { detail, points, errors: Map of id to metres, asking: AbortController }

start();

async function start() {
  byId("key").value = key();
  byId("key").addEventListener("change", () => {
    setKey(byId("key").value.trim());
    askAboutLive();
    listCells();
  });
  byId("cell").addEventListener("change", () => choose(byId("cell").value));
  for (const layer of ["points", "errors"]) {
    byId(`layer-${layer}`).addEventListener("change", (event) => map.setLayer(layer, event.target.checked));
  }
  byId("zoom-in").addEventListener("click", () => map.zoom(1.5));
  byId("zoom-out").addEventListener("click", () => map.zoom(1 / 1.5));
  byId("zoom-fit").addEventListener("click", () => map.fit());
  byId("more-errors").addEventListener("click", () => locateOwn([LARGE_SAMPLE]));
  addEventListener("hashchange", () => choose(wanted()));
  onThemeChange(paintRamps);
  paintRamps();
  await askAboutLive();
  await listCells();
  setInterval(() => document.hidden || refresh(), EVERY_MS);
  setInterval(() => document.hidden || listCells(), ALL_EVERY_MS);
}

function wanted() {
  return decodeURIComponent(location.hash.slice(1));
}

// What the service's settings forbid needs no request for estimates, which would begin to watch users.
async function askAboutLive() {
  await orTrouble(async () => {
    const { live: allowed } = await ask("console/settings");
    live.forbid(allowed ? null : "Live estimates are off. To let operators watch where users are located, which is " +
      "personal data, set FINGERPOST_CONSOLE_LIVE=true.");
  });
}

async function listCells() {
  await orTrouble(async () => {
    const names = await cells.load();
    await showModels();
    const offered = [...byId("cell").options].map(({ value }) => value);
    if (names.join() !== offered.join()) {
      byId("cell").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    }
    if (!names.length) throw new Error("There is no cell yet. Create one with fingerpost cells import.");
    if (chosen) byId("cell").value = chosen;
    else await choose(names.includes(wanted()) ? wanted() : names[0]);
  });
}

async function choose(cell) {
  if (!cell || cell === chosen) return;
  chosen = cell;
  cells.choose(cell);
  shown?.asking.abort();
  shown = null;
  byId("cell").value = cell;
  history.replaceState(null, "", `#${encodeURIComponent(cell)}`);
  map.clear();
  live.setCell(cell);
  latency.clear();
  document.querySelector("main").hidden = false;
  byId("name").textContent = cell;
  for (const id of ["facts", "age-range", "errors-status"]) byId(id).replaceChildren();
  byId("more-errors").hidden = true;
  await refresh();
}

// Shows a new version, if there is one. A damaged cell shows its versions only, so that operators can roll back.
async function refresh() {
  if (!chosen) return listCells();
  const cell = chosen;
  if (cell === looking) return;
  looking = cell;
  await orTrouble(async () => {
    try {
      if (versions.cell !== cell) await versions.show(cell);
      const detail = await ask(cellPath(cell));
      if (cell !== chosen) return;
      if (versions.current !== detail.version) await versions.show(cell);
      if (shown?.detail.version !== detail.version) await showCell(detail);
      versions.tick();
      await latency.refresh(cell);
    } finally {
      if (looking === cell) looking = null;
    }
  });
}

async function showCell(detail) {
  const points = await fingerprints(detail.cellId, detail.version);
  if (chosen !== detail.cellId) return;
  shown?.asking.abort();
  shown = { detail, points, errors: new Map(), asking: new AbortController() };
  byId("facts").replaceChildren(...facts(detail, points.length));
  const times = points.map(({ time }) => time).filter((time) => time !== null);
  const range = times.reduce(([oldest, newest], time) => [Math.min(oldest, time), Math.max(newest, time)], [1e12, 0]);
  map.setPoints(detail, extent(detail, points), points, range);
  map.setErrors(null);
  byId("age-range").textContent = times.length ? ages(range) : "time unknown";
  locateOwn(SAMPLES);
}

async function fingerprints(cell, version) {
  const page = await ask(`${cellPath(cell, "fingerprints")}?version=${version}&limit=${MOST_POINTS}`);
  return page.fingerprints.map((one) => ({ ...one, time: one.time ? Date.parse(one.time) / 1000 : null }));
}

function extent({ quality }, points) {
  if (quality.survey?.extent) return quality.survey.extent;
  return points.reduce(([west, south, east, north], { x, y }) =>
    [Math.min(west, x), Math.min(south, y), Math.max(east, x), Math.max(north, y)], [0, 0, 0, 0]);
}

function ages([oldest, newest]) {
  const [least, most] = [newest, oldest].map((time) => Date.now() / 1000 - time);
  return span(least) === span(most) ? ago(most) : `${span(least)} – ${ago(most)}`;
}

function facts(detail, drawn) {
  const { array } = detail;
  const calibration = Object.values(detail.quality.calibration ?? {})[0];
  const alone = calibration?.rungs.find(({ sigma }) => sigma === null);
  const row = cells.find(detail.cellId);
  const all = count(detail.fingerprints) + (drawn < detail.fingerprints ? ` (${count(drawn)} drawn)` : "");
  return Object.entries({
    version: detail.version,
    fingerprints: all,
    carrier: `${short(detail.carrierFrequency / 1e9, 4)} GHz, ${short(detail.bandwidth / 1e6, 3)} MHz`,
    array: `${array.rows} × ${array.columns}${array.polarisations === 2 ? ", two polarisations" : ""}`,
    ...timing(detail),
    ...(row && { "located by": locators(row) }),
    ...(alone && { "without GNSS": `${Math.round(100 * calibration.confidence)} % within ${metres(alone.radius)}` }),
  }).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

// The sampling-time offsets of the radios, where they are known.
function timing({ surveyStoNs, userStoNs }) {
  const known = Object.entries({ fingerprints: surveyStoNs, users: userStoNs }).filter(([, sto]) => sto != null);
  return known.length ? { timing: known.map(([whose, sto]) => `${whose} ± ${short(sto, 3)} ns`).join(", ") } : {};
}

function locators({ models, reason }) {
  if (!models) return `no model (${reason})`;
  return models.includes("mateformer") ? models : models.replace("lwlm", "lwlm (the base station alone)");
}

// Loads the leave-one-out errors of some of the version's fingerprints.
async function locateOwn(limits) {
  const { detail, asking } = shown;
  byId("more-errors").hidden = true;
  const row = cells.find(detail.cellId);
  if (row && !row.models.includes("mateformer")) {
    byId("errors-status").textContent = `Errors are unknown: ${row.reason ?? "mateformer does not serve this cell"}.`;
    return;
  }
  try {
    for (const limit of limits) {
      const sample = Math.min(limit, detail.fingerprints);
      byId("errors-status").textContent = `Locating ${count(sample)} of the cell's fingerprints …`;
      const path = `${cellPath(detail.cellId, "errors")}?version=${detail.version}&limit=${limit}`;
      const { errors } = await ask(path, { signal: asking.signal });
      if (shown?.detail !== detail) return;
      showErrors(errors);
      if (limit >= detail.fingerprints) return;
    }
    byId("more-errors").hidden = limits.at(-1) >= LARGE_SAMPLE;
  } catch (problem) {
    if (problem.name !== "AbortError") byId("errors-status").textContent = problem.message;
  }
}

function showErrors(errors) {
  const samples = errors.filter(({ error }) => error !== null);
  const sorted = samples.map(({ error }) => error).sort((a, b) => a - b);
  if (!sorted.length) return;
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  shown.errors = new Map(errors.map(({ id, error }) => [id, error]));
  map.setErrors(samples);
  byId("errors-status").textContent =
    `${count(samples.length)} located without GNSS: median ${metres(at(0.5))}, p95 ${metres(at(0.95))}`;
}

// Marks the fingerprints that differ between two versions. The positions of removed ones are in the older version.
async function mark(difference) {
  map.setMarks(null);
  if (!difference || !shown) return;
  const { cellId } = shown.detail;
  const { before, after, added, removed } = difference;
  const chosen = async (version, ids) => {
    if (!ids.length) return [];
    const known = new Set(ids);
    const points = version === shown.detail.version ? shown.points : await fingerprints(cellId, version);
    return points.filter(({ id }) => known.has(id));
  };
  await orTrouble(async () => {
    const marks = { added: await chosen(after, added), removed: await chosen(before, removed) };
    if (shown?.detail.cellId === cellId) map.setMarks(marks);
  });
}

function showTip(point) {
  const tip = byId("tip");
  tip.hidden = !point;
  if (!point) return;
  const [x, y] = map.pixels(point.x, point.y);
  const error = shown.errors.get(point.id);
  const age = point.time === null ? "time unknown" : `measured ${ago(Date.now() / 1000 - point.time)}`;
  tip.replaceChildren(
    element("code", {}, point.id),
    element("span", {}, `${point.x.toFixed(2)} m E, ${point.y.toFixed(2)} m N, ±${metres(point.sigma)}`),
    element("span", {}, age),
    ...(error === undefined ? [] : [element("strong", {}, error === null ? "not located" : `${metres(error)} off`)]));
  tip.style.left = `${Math.min(x + 12, map.canvas.clientWidth - tip.offsetWidth - 8)}px`;
  const below = y + 12 + tip.offsetHeight < map.canvas.clientHeight;
  tip.style.top = `${below ? y + 12 : y - 12 - tip.offsetHeight}px`;
}

function paintRamps() {
  byId("age-ramp").style.background = gradient(ageRamp());
  byId("error-ramp").style.background = gradient(errorRamp());
}

async function orTrouble(work) {
  const trouble = byId("trouble");
  try {
    await work();
    trouble.hidden = true;
  } catch (problem) {
    trouble.textContent = problem.message + (problem.status === 401 ? " (enter an API key in the field above)" : "");
    trouble.hidden = false;
    if (problem.status === 401) byId("key").focus();
  }
}
