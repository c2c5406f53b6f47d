// Marks on the map beside fingerprints: base station, extent, differences, outlines, a drawn area, scale bar and north
// arrow.

import { metres } from "./words.js";

const FACING = Math.PI / 3; // half the sector in front of the array

// The base station: the array as a bar, its broadside as an arrow. `azimuthDeg` counts clockwise from north.
export function drawStation(map) {
  const { context } = map;
  const [x, y] = map.pixels(0, 0);
  const azimuth = (map.cell.azimuthDeg * Math.PI) / 180;
  const colour = map.colour("--station");
  context.save();
  context.translate(x, y);
  context.rotate(azimuth - Math.PI / 2);
  const glow = context.createRadialGradient(0, 0, 4, 0, 0, 74);
  glow.addColorStop(0, colour);
  glow.addColorStop(1, `${colour}00`);
  context.globalAlpha = 0.28;
  context.fillStyle = glow;
  context.beginPath();
  context.moveTo(0, 0);
  context.arc(0, 0, 74, -FACING, FACING);
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2;
  line(context, [6, 0], [44, 0]);
  polygon(context, [52, 0], [42, -5], [42, 5]);
  context.lineWidth = 5;
  line(context, [0, -15], [0, 15]);
  context.restore();
  const text = `BS, ${metres(map.cell.height)} high, faces ${bearing(map.cell)}°`;
  label(map, text, x - 6, y + (Math.cos(azimuth) > 0 ? 30 : -24), "left"); // behind the array
}

// Degrees clockwise from north.
function bearing(cell) {
  return String(Math.round(cell.azimuthDeg) % 360).padStart(3, "0");
}

export function drawExtent(map) {
  const { context } = map;
  const [west, south, east, north] = map.extent;
  const [left, top] = map.pixels(west, north);
  const [right, bottom] = map.pixels(east, south);
  context.strokeStyle = map.colour("--muted");
  context.lineWidth = 1;
  context.setLineDash([5, 5]);
  context.strokeRect(left, top, right - left, bottom - top);
  context.setLineDash([]);
  label(map, `${metres(east - west)} × ${metres(north - south)}`, right, top - 8, "right");
  if (map.cell.area) {
    const [areaLeft, areaTop] = map.pixels(map.cell.area.west, map.cell.area.north);
    const [areaRight, areaBottom] = map.pixels(map.cell.area.east, map.cell.area.south);
    context.strokeRect(areaLeft, areaTop, areaRight - areaLeft, areaBottom - areaTop);
  }
}

// Streets and buildings: lines of [east, north].
export function drawOutlines(map, lines) {
  const { context } = map;
  context.strokeStyle = map.colour("--outline");
  context.lineWidth = 1;
  context.beginPath();
  for (const points of lines) {
    for (const [i, [east, north]] of points.entries()) {
      const place = map.pixels(east, north);
      if (i) context.lineTo(...place);
      else context.moveTo(...place);
    }
  }
  context.stroke();
}

// The corners of a drawn area; `closed`: it has its last corner.
export function drawArea(map, corners, closed) {
  if (!corners.length) return;
  const { context } = map;
  const places = corners.map(([east, north]) => map.pixels(east, north));
  context.beginPath();
  for (const place of places) context.lineTo(...place);
  if (closed) context.closePath();
  context.fillStyle = context.strokeStyle = map.colour("--removed");
  context.globalAlpha = 0.14;
  if (closed) context.fill();
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.stroke();
  for (const place of places) ring(context, place, 3.5);
}

export function drawMarks(map, { added, removed }) {
  const { context } = map;
  context.lineWidth = 1.2;
  context.strokeStyle = map.colour("--added");
  for (const { x, y } of added) ring(context, map.pixels(x, y), 3.5);
  context.strokeStyle = map.colour("--removed");
  for (const point of removed) {
    const [x, y] = map.pixels(point.x, point.y);
    line(context, [x - 3, y - 3], [x + 3, y + 3]);
    line(context, [x - 3, y + 3], [x + 3, y - 3]);
  }
}

// A round length of about a fifth of the map.
export function drawScaleBar(map) {
  const { context, canvas, view } = map;
  const wanted = canvas.clientWidth / 5 / view.scale;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = [5, 2, 1].map((digit) => digit * power).find((round) => round <= wanted) ?? power;
  const y = canvas.clientHeight - 16;
  const end = canvas.clientWidth - 54;
  const x = end - length * view.scale;
  context.fillStyle = map.colour("--paper");
  context.globalAlpha = 0.8;
  context.fillRect(x - 10, y - 28, canvas.clientWidth - x, 44);
  context.globalAlpha = 1;
  context.strokeStyle = map.colour("--text");
  context.lineWidth = 2;
  line(context, [x, y - 6], [x, y], [end, y], [end, y - 6]);
  label(map, length < 1000 ? `${length} m` : `${length / 1000} km`, (x + end) / 2, y - 6, "center");
}

export function drawNorth(map) {
  const { context, canvas } = map;
  const x = canvas.clientWidth - 24;
  const y = canvas.clientHeight - 22;
  context.fillStyle = map.colour("--text");
  polygon(context, [x, y - 18], [x - 6, y], [x, y - 4], [x + 6, y]);
  label(map, "N", x, y + 13, "center");
}

// Text with a halo, readable on any background.
function label(map, text, x, y, align) {
  const { context } = map;
  context.font = `12px ${map.colour("--font")}`;
  context.textAlign = align;
  context.lineJoin = "round";
  context.lineWidth = 4;
  context.strokeStyle = map.colour("--paper");
  context.strokeText(text, x, y);
  context.fillStyle = map.colour("--text");
  context.fillText(text, x, y);
}

function line(context, ...points) {
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  context.stroke();
}

function polygon(context, ...points) {
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  context.fill();
}

function ring(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
}
