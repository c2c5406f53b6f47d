// The stage that a change of a cell has reached, while the page waits for it.

import { ask, cellPath } from "./service.js";

const PERIOD_MS = 1000;
const STAGES = {
  reading: "reading the file",
  checking: "checking the fingerprints",
  indexing: "indexing the fingerprints",
  testing: "testing whether users would be located as well as before",
  calibrating: "calibrating the ellipses",
  publishing: "publishing the version",
};

// Waits for `task`, and says in `line` what the service does meanwhile. `words`: what is said at first, and where the
// replica that answers makes no change, because another one does.
export async function withStages(cell, line, words, task) {
  const began = Date.now();
  let stage = null;
  let running = true;
  const say = () => {
    line.textContent = `${words}: ${STAGES[stage] ?? "waiting for the service"} … ${Math.round((Date.now() - began) / 1000)} s`;
  };
  const look = async () => {
    const progress = await ask(cellPath(cell, "change")).catch(() => ({}));
    if (!running) return;
    stage = progress.stage ?? null;
    say();
    timer = setTimeout(look, PERIOD_MS);
  };
  say();
  line.hidden = false;
  let timer = setTimeout(look, PERIOD_MS / 5);
  try {
    return await task();
  } finally {
    running = false;
    clearTimeout(timer);
    line.hidden = true;
  }
}
