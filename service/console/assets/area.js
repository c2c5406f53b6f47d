// An area of the map that the operator draws: a rectangle, also by its edges in metres, or a polygon.

import { byId } from "./element.js";
import { count } from "./words.js";

const EDGES = ["west", "south", "east", "north"];
const CLOSE_PX = 10; // a click so near the first corner closes a polygon

export class Area {
  // `onChange` is called with every change. `points`: returns the fingerprints that the map shows.
  constructor(map, points, onChange) {
    Object.assign(this, { map, points, onChange, drawing: null, start: null });
    this.clear();
    byId("area-rectangle").addEventListener("click", () => this.draw("rectangle"));
    byId("area-polygon").addEventListener("click", () => this.draw("polygon"));
    byId("area-clear").addEventListener("click", () => this.clear());
    for (const edge of EDGES) byId(`area-${edge}`).addEventListener("input", () => this.readEdges());
    for (const kind of ["pointerdown", "pointermove", "pointerup", "click", "dblclick"]) {
      map.canvas.addEventListener(kind, (event) => this.drawing && this.handle(event), { capture: true });
    }
    addEventListener("keydown", (event) => this.drawing && this.onKey(event));
  }

  clear() {
    Object.assign(this, { kind: null, corners: [], closed: false });
    for (const edge of EDGES) byId(`area-${edge}`).value = "";
    this.stop();
    this.changed();
  }

  // Whether the operator has finished an area.
  get whole() {
    return this.closed && this.corners.length > 2;
  }

  // { west, south, east, north } around the area.
  get bounds() {
    const [east, north] = [0, 1].map((axis) => this.corners.map((corner) => corner[axis]));
    return { west: Math.min(...east), south: Math.min(...north), east: Math.max(...east), north: Math.max(...north) };
  }

  inside() {
    return this.whole ? this.points().filter(({ x, y }) => holds(this.corners, x, y)) : [];
  }

  // What the service takes: a rectangle as it is; of a polygon the ids of the fingerprints in it.
  selection() {
    return this.kind === "rectangle" ? { area: this.bounds } : { ids: this.inside().map(({ id }) => id) };
  }

  draw(kind) {
    this.clear();
    this.kind = this.drawing = kind;
    this.map.canvas.style.touchAction = "none";
    for (const one of ["rectangle", "polygon"]) byId(`area-${one}`).setAttribute("aria-pressed", String(one === kind));
    byId("area-status").textContent = kind === "rectangle"
      ? "Drag from one corner to the other. Esc cancels."
      : "Click the corners one after the other. A click on the first corner, or Enter, closes the area. Esc cancels.";
    this.map.canvas.scrollIntoView({ block: "nearest" });
  }

  stop() {
    Object.assign(this, { drawing: null, start: null });
    this.map.canvas.style.touchAction = "";
    for (const one of ["rectangle", "polygon"]) byId(`area-${one}`).setAttribute("aria-pressed", "false");
  }

  // While the operator draws, the map itself hears nothing of the pointer.
  handle(event) {
    event.stopImmediatePropagation();
    event.preventDefault();
    const place = this.map.metres(event.offsetX, event.offsetY);
    if (this.drawing === "polygon") {
      if (event.type === "click") this.addCorner(place);
      return;
    }
    if (event.type === "pointerdown") {
      this.start = place;
      this.map.canvas.setPointerCapture(event.pointerId);
    } else if (this.start && event.type !== "click") {
      this.setRectangle(this.start, place);
      if (event.type === "pointerup") this.stop();
    }
    this.changed();
  }

  addCorner(place) {
    const [first] = this.corners;
    const [near, far] = first ? [this.map.pixels(...first), this.map.pixels(...place)] : [[0, 0], [1e9, 0]];
    if (this.corners.length > 2 && Math.hypot(near[0] - far[0], near[1] - far[1]) < CLOSE_PX) this.close();
    else this.corners.push(place);
    this.changed();
  }

  close() {
    this.closed = true;
    this.stop();
  }

  setRectangle([x, y], [toX, toY]) {
    this.corners = [[x, y], [toX, y], [toX, toY], [x, toY]];
    this.closed = true;
    for (const [edge, value] of Object.entries(this.bounds)) byId(`area-${edge}`).value = value.toFixed(1);
  }

  readEdges() {
    const [west, south, east, north] = EDGES.map((edge) => byId(`area-${edge}`).valueAsNumber);
    this.stop();
    const known = [west, south, east, north].every(Number.isFinite) && west < east && south < north;
    Object.assign(this, { kind: "rectangle", closed: known });
    this.corners = known ? [[west, south], [east, south], [east, north], [west, north]] : [];
    this.changed();
  }

  onKey(event) {
    if (event.key === "Escape") this.clear();
    else if (event.key === "Enter" && this.drawing === "polygon" && this.corners.length > 2) this.close();
    else return;
    event.preventDefault();
    this.changed();
  }

  changed() {
    this.map.setArea({ corners: this.corners, closed: this.closed });
    if (this.whole && !this.drawing) {
      byId("area-status").textContent = `${count(this.inside().length)} of ${count(this.points().length)} fingerprints are inside.`;
    } else if (!this.drawing) {
      byId("area-status").textContent = "Draw an area, or give its edges in metres from the base station.";
    }
    this.onChange(this);
  }
}

// The even-odd rule: whether a place is in a polygon.
export function holds(corners, x, y) {
  let inside = false;
  for (const [i, [east, north]] of corners.entries()) {
    const [lastEast, lastNorth] = corners.at(i - 1);
    if ((north > y) !== (lastNorth > y) && x < ((lastEast - east) * (y - north)) / (lastNorth - north) + east) inside = !inside;
  }
  return inside;
}
