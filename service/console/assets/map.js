// The map: metres east and north of the base station, drawn on a canvas.

import { ageRamp, css, errorRamp, onThemeChange, stepOf } from "./colours.js";
import { drawEstimates } from "./estimates.js";
import { heatMap } from "./heat.js";
import { drawArea, drawExtent, drawMarks, drawNorth, drawOutlines, drawScaleBar, drawStation } from "./marks.js";

const PADDING = 0.08; // of the shorter side
const FARTHEST_TIP = 12; // pixels between the pointer and what it points at

export class CellMap {
  constructor(canvas, onPoint) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onPoint = onPoint;
    this.layers = { points: true, errors: true };
    this.clear();
    new ResizeObserver(() => this.resize()).observe(canvas);
    onThemeChange(() => this.setErrors(this.errors));
    this.listen();
  }

  clear() {
    Object.assign(this, { cell: null, extent: null, points: [], buckets: [], errors: null, heat: null });
    Object.assign(this, { marks: null, estimates: [], outlines: [], area: { corners: [], closed: false } });
    this.draw();
  }

  // `points`: [{ id, x, y, time (Unix seconds) or null }]; `range`: [oldest, newest]
  setPoints(cell, extent, points, [oldest, newest]) {
    const first = this.cell === null;
    Object.assign(this, { cell, extent, points });
    const known = points.filter((point) => point.time !== null);
    this.unknown = points.filter((point) => point.time === null);
    this.buckets = [];
    for (const point of known) {
      const step = stepOf((newest - point.time) / Math.max(newest - oldest, 1));
      (this.buckets[step] ??= []).push(point);
    }
    if (first) this.fit();
    this.draw();
  }

  // `samples`: [{ x, y, error }] or null
  setErrors(samples) {
    this.errors = samples;
    this.heat = samples && this.extent && heatMap(samples, this.extent, errorRamp());
    this.draw();
  }

  // `marks`: { added, removed }, lists of points, or null
  setMarks(marks) {
    this.marks = marks;
    this.draw();
  }

  setEstimates(estimates) {
    this.estimates = estimates;
    this.draw();
  }

  // `lines`: lists of [east, north]
  setOutlines(lines) {
    this.outlines = lines;
    this.draw();
  }

  // `area`: { corners: list of [east, north], closed }
  setArea(area) {
    this.area = area;
    this.draw();
  }

  setLayer(name, shown) {
    this.layers[name] = shown;
    this.draw();
  }

  fit() {
    if (!this.extent) return;
    const [west, south, east, north] = [0, 0, 0, 0].map((station, i) =>
      i < 2 ? Math.min(station, this.extent[i]) : Math.max(station, this.extent[i]),
    );
    const { clientWidth, clientHeight } = this.canvas;
    const padding = 2 * PADDING * Math.min(clientWidth, clientHeight);
    const scale = Math.min(
      (clientWidth - padding) / Math.max(east - west, 1),
      (clientHeight - padding) / Math.max(north - south, 1),
    );
    this.view = { east: (west + east) / 2, north: (south + north) / 2, scale: Math.max(scale, 1e-3) };
    this.fitted = true;
    this.draw();
  }

  zoom(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    if (!this.cell) return;
    const [x, y] = this.metres(...at);
    this.view.scale = Math.min(1e3, Math.max(1e-2, this.view.scale * factor));
    const [now, then] = [this.metres(...at), [x, y]];
    this.pan(then[0] - now[0], then[1] - now[1]);
  }

  pan(east, north) {
    this.view.east += east;
    this.view.north += north;
    this.fitted = false;
    this.draw();
  }

  pixels(east, north) {
    const { clientWidth, clientHeight } = this.canvas;
    const { view } = this;
    return [clientWidth / 2 + (east - view.east) * view.scale, clientHeight / 2 - (north - view.north) * view.scale];
  }

  metres(x, y) {
    const { clientWidth, clientHeight } = this.canvas;
    const { view } = this;
    return [view.east + (x - clientWidth / 2) / view.scale, view.north - (y - clientHeight / 2) / view.scale];
  }

  resize() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.fitted) this.fit();
    this.draw();
  }

  draw() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.paint();
    });
  }

  paint() {
    const { context, canvas } = this;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.cell) return;
    if (this.layers.errors && this.heat) this.paintHeat(this.heat);
    drawOutlines(this, this.outlines);
    drawExtent(this);
    if (this.layers.points) this.paintPoints();
    if (this.marks) drawMarks(this, this.marks);
    drawArea(this, this.area.corners, this.area.closed);
    drawStation(this);
    drawEstimates(this, this.estimates);
    drawScaleBar(this);
    drawNorth(this);
  }

  paintHeat({ canvas, west, south, east, north }) {
    const [left, top] = this.pixels(west, north);
    const [right, bottom] = this.pixels(east, south);
    this.context.imageSmoothingEnabled = true;
    this.context.imageSmoothingQuality = "high";
    this.context.globalAlpha = 0.85;
    this.context.drawImage(canvas, left, top, right - left, bottom - top);
    this.context.globalAlpha = 1;
  }

  paintPoints() {
    const size = Math.max(1.6, Math.min(6, 0.32 * this.view.scale));
    const colours = ageRamp();
    for (let step = colours.length - 1; step >= 0; step--) {
      this.paintDots(this.buckets[step] ?? [], size, css(colours[step]));
    }
    this.paintDots(this.unknown ?? [], size, this.colour("--muted"));
  }

  paintDots(points, size, colour) {
    const { context } = this;
    context.fillStyle = colour;
    context.beginPath();
    for (const { x, y } of points) {
      const [left, top] = this.pixels(x, y);
      context.moveTo(left + size / 2, top);
      context.arc(left, top, size / 2, 0, 2 * Math.PI);
    }
    context.fill();
  }

  colour(name) {
    return getComputedStyle(this.canvas).getPropertyValue(name);
  }

  nearest(x, y) {
    let found = null;
    let least = FARTHEST_TIP / this.view.scale;
    const [east, north] = this.metres(x, y);
    for (const point of this.points) {
      const away = Math.hypot(point.x - east, point.y - north);
      if (away < least) [found, least] = [point, away];
    }
    return found;
  }

  // Arrow keys move the map by a tenth of its width, plus and minus zoom, 0 shows the whole cell.
  onKey(event) {
    if (!this.cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 0.1 * this.canvas.clientWidth / this.view.scale;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) this.pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-0.0015 * event.deltaY), [event.offsetX, event.offsetY]);
    }, { passive: false });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.cell) return;
      if (event.buttons && event.pointerType !== "touch") {
        this.pan(-event.movementX / this.view.scale, event.movementY / this.view.scale);
      }
      this.onPoint(event.buttons ? null : this.nearest(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("click", (event) => this.cell && this.onPoint(this.nearest(event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerleave", () => this.onPoint(null));
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }
}
