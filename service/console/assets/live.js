// Live estimates. The service keeps estimates only while a page asks for them. Where the settings or the key forbid it,
// the switch is off and cannot be used, and the page says why.

import { ask, cellPath } from "./service.js";
import { count, metres } from "./words.js";

const EVERY_MS = 1000;
const SHOWN_MS = 60_000;

export class LiveWatch {
  constructor(map, box, status) {
    Object.assign(this, { map, box, status, estimates: [], timer: null, cell: null, forbidden: null });
    box.addEventListener("change", () => (box.checked ? this.start() : this.stop()));
  }

  // `reason`: why the switch cannot be used; null allows it.
  forbid(reason) {
    this.forbidden = reason;
    this.box.disabled = reason !== null;
    this.box.checked = false;
    this.stop();
  }

  // The page watches one cell. For another cell, the operator has to switch watching on again.
  setCell(cell) {
    this.box.checked = false;
    this.stop();
    this.cell = cell;
  }

  start() {
    this.after = null;
    this.watched = Date.now();
    this.status.textContent = "Waiting for users.";
    this.poll();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.estimates = [];
    this.map.setEstimates([]);
    this.status.textContent = this.forbidden ?? "The service keeps no estimates while no page watches.";
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
        this.forbid(problem.message);
        return;
      }
      this.status.textContent = problem.message;
    }
    this.timer = setTimeout(() => this.poll(), EVERY_MS);
  }

  show(fresh) {
    const now = Date.now();
    const kept = this.estimates.filter(({ seen }) => now - seen < SHOWN_MS);
    this.estimates = [...kept, ...fresh.map((estimate) => ({ ...estimate, seen: now }))];
    this.map.setEstimates(this.estimates);
    if (!this.estimates.length) {
      this.status.textContent = "No user was located in the last minute.";
      return;
    }
    const radii = this.estimates.map(({ uncertaintyEllipse }) => uncertaintyEllipse.semiMajor).sort((a, b) => a - b);
    const usual = metres(radii[Math.floor(radii.length / 2)]);
    this.status.textContent =
      `${count(this.estimates.length)} located in the last minute, ${shares(this.estimates)} % within ${usual} (median), ` +
      `by ${countModels(this.estimates)}.`;
  }
}

// The confidences of the ellipses: "95", or "90 to 95" where models know different ones.
function shares(estimates) {
  const known = estimates.map(({ confidence }) => confidence);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return least === most ? least : `${least} to ${most}`;
}

// The models that located users, most users first: "mateformer (12), lwlm (1)".
function countModels(estimates) {
  const users = new Map();
  for (const { source } of estimates) users.set(source, (users.get(source) ?? 0) + 1);
  const models = [...users].sort(([, a], [, b]) => b - a);
  return models.map(([model, number]) => `${model} (${count(number)})`).join(", ");
}
