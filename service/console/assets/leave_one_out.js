// The errors of a cell's own fingerprints, each left out of the comparison: first a few at once, then enough for a map.

import { byId } from "./element.js";
import { ask, cellPath } from "./service.js";
import { count, metres } from "./words.js";

const SAMPLES = [40, 200];
const LARGE_SAMPLE = 1000;

export class LeaveOneOut {
  constructor(map) {
    Object.assign(this, { map, detail: null, known: new Map(), asking: null, left: [] });
    byId("more-errors").addEventListener("click", () => this.locate([LARGE_SAMPLE]));
  }

  stop() {
    this.asking?.abort();
  }

  // Goes on where `stop` has interrupted it.
  resume() {
    if (this.asking?.signal.aborted && this.left.length) this.locate(this.left);
  }

  // The error of a fingerprint in metres; null: not located; undefined: not known.
  of(id) {
    return this.known.get(id);
  }

  // `row`: of the overview, if it is known. A model that serves no fingerprints has no such errors.
  show(detail, row) {
    this.stop();
    Object.assign(this, { detail, known: new Map(), left: [] });
    this.map.setErrors(null);
    if (row && !row.models.includes("mateformer")) {
      byId("more-errors").hidden = true;
      const reason = row.states.find((state) => state.reason)?.reason ?? "mateformer does not serve this cell";
      byId("errors-status").textContent = `Errors are unknown: ${reason}.`;
      return;
    }
    this.locate(SAMPLES);
  }

  async locate(limits) {
    const { detail } = this;
    this.asking = new AbortController();
    byId("more-errors").hidden = true;
    try {
      for (const [i, limit] of limits.entries()) {
        this.left = limits.slice(i);
        const sample = Math.min(limit, detail.fingerprints);
        byId("errors-status").textContent = `Locating ${count(sample)} of the cell's fingerprints …`;
        const path = `${cellPath(detail.cellId, "errors")}?version=${detail.version}&limit=${limit}`;
        const { errors } = await ask(path, { signal: this.asking.signal });
        if (this.detail !== detail) return;
        this.draw(errors);
        this.left = [];
        if (limit >= detail.fingerprints) return;
      }
      byId("more-errors").hidden = limits.at(-1) >= LARGE_SAMPLE;
    } catch (problem) {
      if (problem.name !== "AbortError") byId("errors-status").textContent = problem.message;
    }
  }

  draw(errors) {
    const samples = errors.filter(({ error }) => error !== null);
    const sorted = samples.map(({ error }) => error).sort((a, b) => a - b);
    if (!sorted.length) return;
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    this.known = new Map(errors.map(({ id, error }) => [id, error]));
    this.map.setErrors(samples);
    byId("errors-status").textContent =
      `${count(samples.length)} located without GNSS: median ${metres(at(0.5))}, p95 ${metres(at(0.95))}`;
  }
}
