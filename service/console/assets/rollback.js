// The dialog that publishes an older version again, after it has shown what that changes.

import { describeDiff } from "./diff.js";
import { byId, element } from "./element.js";
import { withStages } from "./progress.js";
import { ask, cellPath, freshKey } from "./service.js";
import { count } from "./words.js";

export class Rollback {
  // `onChange` is called after the dialog has published a version, and when another operator was quicker.
  constructor(onChange) {
    Object.assign(this, { onChange, pending: null });
    byId("rollback-cancel").addEventListener("click", () => byId("rollback").close());
    byId("rollback-confirm").addEventListener("click", () => this.publish());
  }

  // Asks for confirmation, and remembers the version that is current now.
  ask(cell, version, current) {
    const pending = { cell, version, seen: current, key: freshKey() };
    this.pending = pending;
    byId("rollback-title").textContent = `Roll ${cell} back to version ${version.number}?`;
    byId("rollback-text").textContent =
      `This publishes its ${count(version.fingerprints)} fingerprints again, as a new version that replaces version ` +
      `${current}. The service uses the new version as soon as it is ready.`;
    byId("note").value = "";
    byId("rollback-problem").hidden = true;
    byId("rollback-confirm").disabled = false;
    byId("rollback-diff").replaceChildren(element("p", { class: "aside" }, "Comparing …"));
    byId("rollback").showModal();
    this.compare(pending);
  }

  async compare(pending) {
    const { cell, version, seen } = pending;
    try {
      const diff = await ask(cellPath(cell, "versions", seen, "diff", version.version));
      if (this.pending === pending) byId("rollback-diff").replaceChildren(...describeDiff(diff));
    } catch (problem) {
      if (this.pending === pending) {
        byId("rollback-diff").replaceChildren(element("p", { class: "problem" }, problem.message));
      }
    }
  }

  async publish() {
    const { cell, version, seen, key } = this.pending;
    const query = new URLSearchParams({ author: byId("author").value, note: byId("note").value });
    byId("rollback-confirm").disabled = true;
    try {
      await withStages(cell, byId("rollback-stage"), "Rolling back", () =>
        ask(`${cellPath(cell, "rollback")}?${query}`, {
          method: "POST",
          headers: { "If-Match": `"${seen}"`, "Idempotency-Key": key },
          body: { version: version.version },
        }));
    } catch (problem) {
      const again = problem.status === 412 ? " Nothing has changed. Check the new version, then decide again." : "";
      byId("rollback-problem").textContent = `${problem.message}.${again}`;
      byId("rollback-problem").hidden = false;
      byId("rollback-confirm").disabled = problem.status === 412;
      if (problem.status === 412) await this.onChange();
      return;
    }
    byId("rollback").close();
    await this.onChange();
  }
}
