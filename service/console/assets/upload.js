// The dialog that takes a fingerprint file: it is checked by a dry run first, and then published.

import { byId, element } from "./element.js";
import { withStages } from "./progress.js";
import { describeReport } from "./report.js";
import { ask, cellPath, freshKey } from "./service.js";
import { count, short } from "./words.js";

export class Upload {
  // `onPublished` is called with the name of the cell.
  constructor(onPublished) {
    Object.assign(this, { onPublished, cell: null, area: null, checked: null });
    byId("upload-cancel").addEventListener("click", () => byId("upload").close());
    byId("upload-check").addEventListener("click", () => this.check());
    byId("upload-publish").addEventListener("click", () => this.publish());
    for (const id of ["upload-file", "upload-append", "upload-replace", "upload-name"]) {
      byId(id).addEventListener("input", () => this.forget());
    }
    byId("upload-force").addEventListener("input", () => this.allow());
  }

  // `cell`: null for a new one. `area`: the bounds of the area that was drawn for an append, or null.
  open(cell, area = null) {
    Object.assign(this, { cell, area });
    byId("upload-title").textContent = cell ? `Upload to ${cell}` : "New cell";
    byId("upload-name-row").hidden = cell !== null;
    byId("upload-kinds").hidden = cell === null;
    byId("upload-file").value = byId("upload-name").value = byId("upload-note").value = "";
    byId("upload-append").checked = true;
    this.forget();
    byId("upload").showModal();
  }

  // The report is about another file or another change.
  forget() {
    this.checked = null;
    byId("upload-report").replaceChildren();
    byId("upload-force").checked = false;
    byId("upload-problem").hidden = true;
    this.allow();
  }

  // A file can be published as it was checked; in spite of faults where all of them may be overridden.
  allow() {
    const { report = null } = this.checked ?? {};
    const forcible = report && !report.wouldPublish &&
      report.findings.every(({ severity, overridable }) => severity !== "fault" || overridable);
    byId("upload-force-row").hidden = !forcible;
    byId("upload-publish").disabled = !report || !(report.wouldPublish || (forcible && byId("upload-force").checked));
    byId("upload-check").disabled = !byId("upload-file").files.length;
  }

  async check() {
    const change = this.change();
    if (!change) return;
    await this.work(change.cell, `Checking ${size(change.file)}`, async () => {
      const report = await this.send(change, { dryRun: true });
      this.checked = { ...change, report, key: freshKey() };
      byId("upload-report").replaceChildren(...describeReport(report, change.append ? this.area : null));
    });
  }

  async publish() {
    const { report, key, ...change } = this.checked;
    const query = { author: byId("upload-author").value, note: byId("upload-note").value };
    if (byId("upload-force").checked) query.force = true;
    const seen = report.version ? { "If-Match": `"${report.version}"` } : { "If-None-Match": "*" };
    await this.work(change.cell, "Publishing", async () => {
      await this.send(change, query, { ...seen, "Idempotency-Key": key });
      byId("upload").close();
      await this.onPublished(change.cell);
    });
  }

  // What the form asks for; null if something is missing.
  change() {
    const [file] = byId("upload-file").files;
    const cell = this.cell ?? byId("upload-name").value.trim();
    if (file && cell) return { cell, file, append: this.cell !== null && byId("upload-append").checked };
    byId(file ? "upload-name" : "upload-file").focus();
    return null;
  }

  send({ cell, file, append }, query, headers = {}) {
    const path = append ? cellPath(cell, "fingerprints") : cellPath(cell);
    return ask(`${path}?${new URLSearchParams(query)}`, { method: append ? "POST" : "PUT", headers, body: file });
  }

  // Nothing can be changed meanwhile.
  async work(cell, words, task) {
    const report = byId("upload-report");
    const before = [...report.childNodes];
    const line = element("p", { class: "aside" });
    report.replaceChildren(line);
    byId("upload-problem").hidden = true;
    byId("upload-form").disabled = true;
    try {
      await withStages(cell, line, words, task);
    } catch (problem) {
      report.replaceChildren(...before);
      const again = problem.status === 412 ? " Another operator has changed the cell since the check. Check again." : "";
      byId("upload-problem").textContent = `${problem.message}.${again}`;
      byId("upload-problem").hidden = false;
      if (problem.status === 412) this.checked = null;
    } finally {
      byId("upload-form").disabled = false;
      this.allow();
    }
  }
}

function size({ name, size: bytes }) {
  return `${name}, ${bytes < 1e6 ? `${count(Math.ceil(bytes / 1000))} kB` : `${short(bytes / 1e6, 3)} MB`}`;
}
