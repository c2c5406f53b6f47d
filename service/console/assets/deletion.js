// The dialog that deletes the fingerprints in an area, after a dry run has counted them.

import { byId } from "./element.js";
import { withStages } from "./progress.js";
import { ask, cellPath, freshKey } from "./service.js";
import { count } from "./words.js";

export class Deletion {
  // `onChange` is called after the dialog has published a version, and when another operator was quicker.
  constructor(onChange) {
    Object.assign(this, { onChange, pending: null });
    byId("deletion-cancel").addEventListener("click", () => byId("deletion").close());
    byId("deletion-confirm").addEventListener("click", () => this.publish());
  }

  // Asks the service what a selection would delete of the version that the operator sees, and then the operator.
  async ask(cell, version, selection) {
    const pending = { cell, version, selection, key: freshKey(), counted: false };
    this.pending = pending;
    byId("deletion-title").textContent = `Delete fingerprints of ${cell}?`;
    byId("deletion-text").textContent = "Counting them …";
    byId("deletion-note").value = "";
    byId("deletion-problem").hidden = true;
    byId("deletion-confirm").disabled = true;
    byId("deletion").showModal();
    try {
      const { selected, fingerprints } = await this.send(pending, { dryRun: true });
      if (this.pending !== pending) return;
      pending.counted = selected > 0;
      byId("deletion-text").textContent = selected
        ? `This publishes a version without ${count(selected)} of the ${count(fingerprints)} fingerprints; ` +
          `${count(fingerprints - selected)} stay. Version ${version} keeps them: a rollback brings them back.`
        : "No fingerprint of the current version is inside the area.";
      byId("deletion-confirm").textContent = `Delete ${count(selected)}`;
      byId("deletion-confirm").disabled = !selected;
    } catch (problem) {
      if (this.pending === pending) this.fail(problem);
    }
  }

  async publish() {
    byId("deletion-confirm").disabled = true;
    byId("deletion-problem").hidden = true;
    try {
      const query = { author: byId("deletion-author").value, note: byId("deletion-note").value };
      const { cell, key } = this.pending;
      await withStages(cell, byId("deletion-stage"), "Deleting", () =>
        this.send(this.pending, query, { "Idempotency-Key": key }));
    } catch (problem) {
      this.fail(problem);
      if (problem.status === 412) await this.onChange();
      return;
    }
    byId("deletion").close();
    await this.onChange();
  }

  send({ cell, version, selection }, query, headers = {}) {
    const path = `${cellPath(cell, "fingerprints", "delete")}?${new URLSearchParams(query)}`;
    return ask(path, { method: "POST", headers: { "If-Match": `"${version}"`, ...headers }, body: selection });
  }

  fail(problem) {
    const again = problem.status === 412 ? " Nothing has changed. Look at the new version, then decide again." : "";
    if (!this.pending.counted) byId("deletion-text").textContent = "";
    byId("deletion-problem").textContent = `${problem.message}.${again}`;
    byId("deletion-problem").hidden = false;
    byId("deletion-confirm").disabled = problem.status === 412 || !this.pending.counted;
  }
}
