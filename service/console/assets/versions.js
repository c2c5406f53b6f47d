// A cell's versions: author, time and note of each, the differences between two, and rollback.

import { byId, element } from "./element.js";
import { ask, cellPath, freshKey } from "./service.js";
import { ago, clock, count, metres } from "./words.js";

export class Versions {
  // `onMarks` receives the compared versions and the ids of the fingerprints added and removed.
  // `onChange` is called after this page has published a version.
  constructor({ onMarks, onChange }) {
    Object.assign(this, { onMarks, onChange, cell: null, versions: [], current: null });
    byId("older").addEventListener("click", () => this.load(this.next));
    byId("compare").addEventListener("click", () => this.compare());
    for (const id of ["before", "after"]) byId(id).addEventListener("change", () => this.allowCompare());
    byId("rollback-cancel").addEventListener("click", () => byId("rollback").close());
    byId("rollback-confirm").addEventListener("click", () => this.rollBack());
  }

  async show(cell) {
    this.cell = cell;
    this.versions = [];
    byId("diff").replaceChildren();
    this.onMarks(null);
    await this.load();
  }

  // Loads the newest versions, or those before a number.
  async load(before) {
    const cell = this.cell;
    const page = await ask(cellPath(cell, "versions") + (before ? `?before=${before}` : ""));
    if (cell !== this.cell) return;
    this.versions = before ? [...this.versions, ...page.versions] : page.versions;
    this.next = page.next;
    this.current = this.versions[0]?.version;
    byId("older").hidden = !page.next;
    byId("versions").replaceChildren(...this.versions.map((version, i) => this.item(version, i === 0)));
    this.offer(byId("before"), this.versions[1]);
    this.offer(byId("after"), this.versions[0]);
    byId("compare-card").hidden = this.versions.length < 2;
    this.allowCompare();
  }

  // A version does not differ from itself.
  allowCompare() {
    byId("compare").disabled = byId("before").value === byId("after").value;
  }

  // Updates the ages.
  tick() {
    for (const time of byId("versions").querySelectorAll("time")) time.textContent = since(time.dateTime);
  }

  item(version, current) {
    const change = [version.added && `+${count(version.added)}`, version.removed && `−${count(version.removed)}`];
    const item = element("li", { class: current ? "current" : "" },
      element("div", { class: "who" },
        element("strong", { title: version.version }, String(version.number)),
        element("span", { class: "action" }, version.action),
        element("span", { class: "change" }, change.filter(Boolean).join(" ")),
        element("time", { dateTime: version.createdAt, title: clock(version.createdAt) }, since(version.createdAt))),
      element("p", { class: "why" }, [version.author || "unnamed", version.note].filter(Boolean).join(": ")),
      ...(version.findings ?? []).map(describeFinding),
      element("p", { class: "holds" }, `${count(version.fingerprints)} fingerprints`));
    if (current) item.querySelector(".holds").append(element("span", { class: "badge" }, "current"));
    else {
      item.querySelector(".holds").append(
        linkTo("link", "Compare", () => this.compare(version.version, this.current)),
        linkTo("link back", "Roll back", () => this.ask(version)));
    }
    return item;
  }

  offer(select, chosen) {
    select.replaceChildren(...this.versions.map(({ version, number }) =>
      element("option", { value: version, selected: version === chosen?.version }, `${number}`)));
  }

  async compare(before = byId("before").value, after = byId("after").value) {
    byId("before").value = before;
    byId("after").value = after;
    this.allowCompare();
    const cell = this.cell;
    try {
      const diff = await ask(cellPath(cell, "versions", before, "diff", after));
      if (cell !== this.cell) return;
      byId("diff").replaceChildren(...describeDiff(diff));
      this.onMarks({ before, after, added: diff.added.ids, removed: diff.removed.ids });
    } catch (problem) {
      byId("diff").replaceChildren(element("p", { class: "problem" }, problem.message));
    }
  }

  // Asks for confirmation, and remembers the version that is current now.
  ask(version) {
    this.pending = { version, seen: this.current, key: freshKey() };
    byId("rollback-title").textContent = `Roll ${this.cell} back to version ${version.number}?`;
    byId("rollback-text").textContent =
      `This publishes its ${count(version.fingerprints)} fingerprints again, as a new version that replaces version ` +
      `${this.current}. The service uses the new version as soon as it is ready.`;
    byId("note").value = "";
    byId("rollback-problem").hidden = true;
    byId("rollback-confirm").disabled = false;
    byId("rollback").showModal();
  }

  async rollBack() {
    const { version, seen, key } = this.pending;
    const query = new URLSearchParams({ author: byId("author").value, note: byId("note").value });
    byId("rollback-confirm").disabled = true;
    try {
      await ask(`${cellPath(this.cell, "rollback")}?${query}`, {
        method: "POST",
        headers: { "If-Match": `"${seen}"`, "Idempotency-Key": key },
        body: { version: version.version },
      });
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

function describeFinding({ severity, reason, advice }) {
  const kind = severity === "refused" ? "Published by force" : "Warning";
  return element("p", { class: "finding" }, element("strong", {}, `${kind}: `), `${reason}; ${advice}`);
}

function describeDiff({ before, after, added, removed, description, retention }) {
  const lines = [
    element("p", { class: "counts" },
      element("span", { class: "added" }, `+${count(added.count)} added`),
      element("span", { class: "removed" }, `−${count(removed.count)} removed`),
      element("span", {}, `${count(before.fingerprints)} → ${count(after.fingerprints)} fingerprints`)),
    ...[...description, ...retention].map(({ field, before, after }) =>
      element("p", {}, element("code", {}, field), ` ${JSON.stringify(before)} → ${JSON.stringify(after)}`)),
  ];
  const [was, now] = [before, after].map(({ extent }) => extent && size(extent));
  if (was !== now) lines.push(element("p", {}, `extent ${was ?? "none"} → ${now ?? "none"}`));
  if (!added.complete || !removed.complete) {
    lines.push(element("p", { class: "aside" }, "The map marks the first thousand fingerprints of each."));
  }
  return lines;
}

function linkTo(kind, words, onclick) {
  return element("button", { type: "button", class: kind, onclick }, words);
}

function since(text) {
  return ago((Date.now() - Date.parse(text)) / 1000);
}

function size([west, south, east, north]) {
  return `${metres(east - west)} × ${metres(north - south)}`;
}
