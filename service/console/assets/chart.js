// Users a second over the last quarter of an hour, as the page has counted them: located, and refused above.

import { count, short } from "./words.js";

const SPAN_MS = 900_000;
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 8, 10, 20]; // pixels around the plot

// `samples`: [{ at (milliseconds), users: { located, refused } }], counters that grow; the oldest first.
export function drawChart(canvas, samples) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
  const rates = ratesOf(samples);
  const most = ceiling(Math.max(1, ...rates.map(({ located, refused }) => located + refused)));
  const now = samples.at(-1)?.at ?? 0;
  const x = (at) => width - RIGHT - ((now - at) / SPAN_MS) * (width - LEFT - RIGHT);
  const y = (rate) => height - BOTTOM - (rate / most) * (height - TOP - BOTTOM);

  context.font = `12px ${colour("--font")}`;
  context.fillStyle = colour("--muted");
  context.strokeStyle = colour("--line");
  context.textAlign = "right";
  for (const rate of [0, most / 2, most]) {
    context.fillText(short(rate, 3), LEFT - 8, y(rate) + 4);
    context.beginPath();
    context.moveTo(LEFT, y(rate));
    context.lineTo(width - RIGHT, y(rate));
    context.stroke();
  }
  context.textAlign = "center";
  for (const minutes of [15, 10, 5]) context.fillText(`${minutes} min ago`, Math.max(LEFT + 28, x(now - minutes * 60_000)), height - 4);
  context.textAlign = "right";
  context.fillText("now", width - RIGHT, height - 4);
  for (const { from, to, located, refused } of rates) {
    const [left, wide] = [x(from), Math.max(x(to) - x(from), 1)];
    context.fillStyle = colour("--accent");
    context.fillRect(left, y(located), wide, y(0) - y(located));
    context.fillStyle = colour("--removed");
    context.fillRect(left, y(located + refused), wide, y(located) - y(located + refused));
  }
  canvas.setAttribute("aria-label", describe(rates));
}

function ratesOf(samples) {
  return samples.slice(1).map((sample, i) => {
    const { at: from, users } = samples[i];
    const seconds = Math.max((sample.at - from) / 1000, 1e-3);
    const rate = (kind) => Math.max(0, sample.users[kind] - users[kind]) / seconds;
    return { from, to: sample.at, located: rate("located"), refused: rate("refused") };
  });
}

function describe(rates) {
  const { located = 0, refused = 0 } = rates.at(-1) ?? {};
  return `Users a second over ${count(rates.length)} intervals. The last one: ${short(located, 2)} located, ` +
    `${short(refused, 2)} refused.`;
}

// The least round number that is not below a rate.
function ceiling(rate) {
  const power = 10 ** Math.floor(Math.log10(rate));
  return [1, 2, 5, 10].map((digit) => digit * power).find((round) => round >= rate);
}
