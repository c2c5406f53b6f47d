// Where users are located just now. The service keeps nothing unless asked, and forgets when nobody asks any more.

import { ask, cellPath } from "./service.js";
import { count, metres } from "./words.js";

const EVERY_MS = 1000;
const SHOWN_MS = 60_000;

export class LiveWatch {
  constructor(map, box, said) {
    Object.assign(this, { map, box, said, estimates: [], timer: null, cell: null });
    box.addEventListener("change", () => (box.checked ? this.start() : this.stop()));
  }

  // Watching is for one cell: whoever looks at another asks again.
  setCell(cell) {
    this.box.checked = false;
    this.stop();
    this.cell = cell;
  }

  start() {
    this.after = null;
    this.watched = Date.now();
    this.said.textContent = "Waiting for users.";
    this.poll();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.estimates = [];
    this.map.setEstimates([]);
    this.said.textContent = "Nothing is kept while nobody watches.";
  }

  async poll() {
    const cell = this.cell;
    try {
      const path = cellPath(cell, "live") + (this.after ? `?after=${this.after}` : "");
      const { estimates, next } = await ask(path);
      if (!this.box.checked || cell !== this.cell) return;
      this.after = next;
      this.show(estimates);
    } catch (problem) {
      if (!this.box.checked || cell !== this.cell) return;
      if (problem.status === 403 || problem.status === 401) {
        this.box.checked = false;
        this.stop();
        this.said.textContent = problem.message;
        return;
      }
      this.said.textContent = problem.message;
    }
    this.timer = setTimeout(() => this.poll(), EVERY_MS);
  }

  show(fresh) {
    const now = Date.now();
    const kept = this.estimates.filter(({ seen }) => now - seen < SHOWN_MS);
    this.estimates = [...kept, ...fresh.map((estimate) => ({ ...estimate, seen: now }))];
    this.map.setEstimates(this.estimates);
    if (!this.estimates.length) {
      this.said.textContent = "Nobody was located lately.";
      return;
    }
    const radii = this.estimates.map(({ uncertaintyEllipse }) => uncertaintyEllipse.semiMajor).sort((a, b) => a - b);
    const { confidence } = this.estimates.at(-1);
    const usual = metres(radii[Math.floor(radii.length / 2)]);
    this.said.textContent =
      `${count(this.estimates.length)} located in the last minute, ${confidence} % within ${usual} (median).`;
  }
}
