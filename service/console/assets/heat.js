// A heat map of errors: the kernel mean of the samples, transparent far from all samples. The scale is the same for every
// cell and version, so that two maps can be compared: logarithmic, from 0.05 to 5 m. The page's legend names these ends.

import { stepOf } from "./colours.js";

const MOST_CELLS = 160; // along the longer side
const REACH = 2.5; // kernel widths
const [LEAST, MOST] = [0.05, 5]; // metres, the ends of the scale

// `samples`: [{ x, y, error }]; `extent`: [west, south, east, north]. Returns { canvas, west, south, east, north }.
export function heatMap(samples, extent, colours) {
  const width = kernelWidth(samples, extent);
  const [west, south, east, north] = extent;
  const step = Math.max(east - west, north - south, 1) / MOST_CELLS;
  const columns = Math.ceil(Math.max(east - west, step) / step);
  const rows = Math.ceil(Math.max(north - south, step) / step);
  const { sums, weights } = spread(samples, { west, north, step, columns, rows, width });

  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let cell = 0; cell < weights.length; cell++) {
    if (weights[cell] < 0.01) continue;
    const colour = colours[stepOf(shareOf(sums[cell] / weights[cell]))];
    image.data.set([...colour, 255 * Math.min(1, 1.6 * weights[cell])], 4 * cell);
  }
  context.putImageData(image, 0, 0);
  return { canvas, west, north, east: west + columns * step, south: north - rows * step };
}

// The place of an error in metres on the scale, from 0 to 1.
export function shareOf(error) {
  return Math.min(1, Math.max(0, Math.log(error / LEAST) / Math.log(MOST / LEAST)));
}

// Somewhat more than the usual distance between neighbouring samples.
function kernelWidth(samples, [west, south, east, north]) {
  return Math.max(0.5, 1.1 * Math.sqrt(((east - west) * (north - south)) / Math.max(samples.length, 1)));
}

function spread(samples, { west, north, step, columns, rows, width }) {
  const sums = new Float64Array(columns * rows);
  const weights = new Float64Array(columns * rows);
  const reach = Math.ceil((REACH * width) / step);
  for (const { x, y, error } of samples) {
    const column = Math.floor((x - west) / step);
    const row = Math.floor((north - y) / step);
    for (let r = Math.max(0, row - reach); r <= Math.min(rows - 1, row + reach); r++) {
      for (let c = Math.max(0, column - reach); c <= Math.min(columns - 1, column + reach); c++) {
        const east = west + (c + 0.5) * step - x;
        const up = north - (r + 0.5) * step - y;
        const weight = Math.exp((-0.5 * (east * east + up * up)) / (width * width));
        sums[r * columns + c] += weight * error;
        weights[r * columns + c] += weight;
      }
    }
  }
  return { sums, weights };
}
