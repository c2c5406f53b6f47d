// The view of one cell: its facts, its map, its versions and what is done with it.

import { Area } from "./area.js";
import { ageRamp, errorRamp, gradient, onThemeChange } from "./colours.js";
import { Deletion } from "./deletion.js";
import { byId, element } from "./element.js";
import { describeCell } from "./facts.js";
import { LeaveOneOut } from "./leave_one_out.js";
import { LiveWatch } from "./live.js";
import { CellMap } from "./map.js";
import { ask, cellPath } from "./service.js";
import { explainStates, stateMarks } from "./states.js";
import { orTrouble } from "./trouble.js";
import { Versions } from "./versions.js";
import { ago, metres, span } from "./words.js";

const MOST_POINTS = 50_000;

export class CellPage {
  // `upload`: the dialog for files.
  constructor(cells, upload) {
    Object.assign(this, { cells, cell: null, looking: null, shown: null });
    this.map = new CellMap(byId("canvas"), (point) => this.showTip(point));
    this.versions = new Versions({ onMarks: (difference) => this.markDifference(difference), onChange: () => this.refresh() });
    this.live = new LiveWatch(this.map, byId("watch"), byId("live-status"));
    this.errors = new LeaveOneOut(this.map);
    this.area = new Area(this.map, () => this.shown?.points ?? [], () => this.allowChanges());
    this.deletion = new Deletion(() => this.refresh());
    byId("upload-open").addEventListener("click", () => upload.open(this.cell));
    byId("area-append").addEventListener("click", () => upload.open(this.cell, this.area.bounds));
    byId("area-delete").addEventListener("click", () =>
      this.deletion.ask(this.cell, this.shown.detail.version, this.area.selection()));
    for (const layer of ["points", "errors"]) {
      byId(`layer-${layer}`).addEventListener("change", (event) => this.map.setLayer(layer, event.target.checked));
    }
    byId("zoom-in").addEventListener("click", () => this.map.zoom(1.5));
    byId("zoom-out").addEventListener("click", () => this.map.zoom(1 / 1.5));
    byId("zoom-fit").addEventListener("click", () => this.map.fit());
    onThemeChange(paintRamps);
    paintRamps();
  }

  async choose(cell) {
    if (cell === this.cell) {
      this.errors.resume();
      return this.refresh();
    }
    this.leave();
    this.cell = cell;
    this.shown = null;
    this.map.clear();
    this.area.clear();
    this.live.setCell(cell);
    byId("name").textContent = cell;
    for (const id of ["facts", "age-range", "versions", "diff"]) byId(id).replaceChildren();
    this.mark();
    await this.refresh();
  }

  // The operator looks at another view: users are no longer watched.
  leave() {
    this.errors.stop();
    this.live.setCell(this.cell);
  }

  // Shows the state that the overview knows of the cell.
  mark() {
    const row = this.cells.find(this.cell);
    byId("cell-state").replaceChildren(...(row ? stateMarks(row) : []));
    const reasons = row ? explainStates(row) : [];
    byId("cell-reasons").replaceChildren(...reasons.map((reason) => element("p", { class: "aside" }, reason)));
  }

  // Shows a new version, if there is one. A damaged cell shows its versions only, so that operators can roll back.
  async refresh() {
    const cell = this.cell;
    if (!cell || cell === this.looking) return;
    this.looking = cell;
    await orTrouble(async () => {
      try {
        if (this.versions.cell !== cell) await this.versions.show(cell);
        const detail = await ask(cellPath(cell));
        if (cell !== this.cell) return;
        if (this.versions.current !== detail.version) await this.versions.show(cell);
        if (this.shown?.detail.version !== detail.version) await this.show(detail);
        this.versions.tick();
      } finally {
        if (this.looking === cell) this.looking = null;
      }
    }, "cell");
  }

  // Of a polygon the page names the fingerprints inside, and so needs to know all of them.
  allowChanges() {
    const { shown, area } = this;
    const known = shown && (area?.kind === "rectangle" || shown.points.length === shown.detail.fingerprints);
    byId("area-delete").disabled = !known || !area.inside().length;
    byId("area-append").disabled = !shown || !area?.whole;
  }

  async show(detail) {
    let forbidden = false; // a key with the scope "read" sees everything but positions
    const [points, truths, { lines }] = await Promise.all([
      listFingerprints(detail.cellId, detail.version).catch((problem) => {
        if (problem.status !== 403) throw problem;
        forbidden = true;
        return [];
      }),
      readTruths(detail.cellId),
      ask(`console/outlines/${encodeURIComponent(detail.cellId)}`).catch(() => ({ lines: [] })),
    ]);
    if (this.cell !== detail.cellId) return;
    this.shown = { detail, points };
    const row = this.cells.find(detail.cellId);
    byId("facts").replaceChildren(...describeCell(detail, points.length, truths, row));
    const times = points.map(({ time }) => time).filter((time) => time !== null);
    const range = times.reduce(([oldest, newest], time) => [Math.min(oldest, time), Math.max(newest, time)], [1e12, 0]);
    this.map.setPoints(detail, extentOf(detail, points), points, range);
    byId("age-range").textContent = times.length ? ages(range) : forbidden ? "for the scope operate only" : "time unknown";
    this.map.setOutlines(lines);
    this.area.changed();
    this.errors.show(detail, row);
  }

  // Marks the fingerprints that differ between two versions. The positions of removed ones are in the older version.
  async markDifference(difference) {
    this.map.setMarks(null);
    if (!difference || !this.shown) return;
    const { detail, points } = this.shown;
    const { before, after, added, removed } = difference;
    const choose = async (version, ids) => {
      if (!ids.length) return [];
      const known = new Set(ids);
      const listed = version === detail.version ? points : await listFingerprints(detail.cellId, version);
      return listed.filter(({ id }) => known.has(id));
    };
    await orTrouble(async () => {
      const marks = { added: await choose(after, added), removed: await choose(before, removed) };
      if (this.cell === detail.cellId) this.map.setMarks(marks);
    }, "difference");
  }

  showTip(point) {
    const tip = byId("tip");
    tip.hidden = !point;
    if (!point) return;
    const [x, y] = this.map.pixels(point.x, point.y);
    const error = this.errors.of(point.id);
    const age = point.time === null ? "time unknown" : `measured ${ago(Date.now() / 1000 - point.time)}`;
    tip.replaceChildren(
      element("code", {}, point.id),
      element("span", {}, `${point.x.toFixed(2)} m E, ${point.y.toFixed(2)} m N, ±${metres(point.sigma)}`),
      element("span", {}, age),
      ...(error === undefined ? [] : [element("strong", {}, error === null ? "not located" : `${metres(error)} off`)]));
    tip.style.left = `${Math.max(0, Math.min(x + 12, this.map.canvas.clientWidth - tip.offsetWidth - 8))}px`;
    const below = y + 12 + tip.offsetHeight < this.map.canvas.clientHeight;
    tip.style.top = `${below ? y + 12 : y - 12 - tip.offsetHeight}px`;
  }
}

export async function listFingerprints(cell, version) {
  const page = await ask(`${cellPath(cell, "fingerprints")}?version=${version}&limit=${MOST_POINTS}`);
  return page.fingerprints.map((one) => ({ ...one, time: one.time ? Date.parse(one.time) / 1000 : null }));
}

// What surveyed truths say about the answers in a cell. Counts that cannot be read do not hide the cell.
async function readTruths(cell) {
  const { total } = await ask(cellPath(cell, "truths")).catch(() => ({}));
  return total ?? null;
}

function extentOf({ quality }, points) {
  if (quality.survey?.extent) return quality.survey.extent;
  return points.reduce(([west, south, east, north], { x, y }) =>
    [Math.min(west, x), Math.min(south, y), Math.max(east, x), Math.max(north, y)], [0, 0, 0, 0]);
}

function ages([oldest, newest]) {
  const [least, most] = [newest, oldest].map((time) => Date.now() / 1000 - time);
  return span(least) === span(most) ? ago(most) : `${span(least)} – ${ago(most)}`;
}

function paintRamps() {
  byId("age-ramp").style.background = gradient(ageRamp());
  byId("error-ramp").style.background = gradient(errorRamp());
}
