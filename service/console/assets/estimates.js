// Live estimates on the map.

const FADED_S = 60; // age at which estimates disappear

// Ellipses at the stated confidence, and the tracks that lead to them. Both fade with age. `orientationMajor` is degrees clockwise from north.
export function drawEstimates(map, estimates) {
  const { context } = map;
  const [colour, paper] = [map.colour("--live"), map.colour("--paper")];
  drawTracks(map, estimates, colour);
  context.fillStyle = colour;
  for (const { point, uncertaintyEllipse: ellipse, seen } of estimates) {
    const left = 1 - (Date.now() - seen) / 1000 / FADED_S;
    if (left <= 0) continue;
    const [x, y] = map.pixels(point.x, point.y);
    const turned = (ellipse.orientationMajor * Math.PI) / 180 - Math.PI / 2;
    context.beginPath();
    const [major, minor] = [ellipse.semiMajor, ellipse.semiMinor].map((half) => half * map.view.scale);
    context.ellipse(x, y, major, minor, turned, 0, 2 * Math.PI);
    context.globalAlpha = 0.15 * left;
    context.fill();
    context.globalAlpha = left;
    for (const [width, stroke] of [[5, paper], [2, colour]]) {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      context.stroke();
    }
    context.beginPath();
    context.arc(x, y, 1.5, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
}

// Lines between the estimates of one track, which have the same number. Estimates come in the order of their times.
function drawTracks(map, estimates, colour) {
  const { context } = map;
  const last = new Map();
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  for (const estimate of estimates) {
    const { track = null, point, seen } = estimate;
    const before = track === null ? undefined : last.get(track);
    if (track !== null) last.set(track, estimate);
    const left = 1 - (Date.now() - (before?.seen ?? seen)) / 1000 / FADED_S;
    if (!before || left <= 0) continue;
    context.globalAlpha = left;
    context.beginPath();
    context.moveTo(...map.pixels(before.point.x, before.point.y));
    context.lineTo(...map.pixels(point.x, point.y));
    context.stroke();
  }
  context.globalAlpha = 1;
}
