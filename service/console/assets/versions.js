// A cell's versions: author, time and note of each, and the differences between two.

import { describeDiff } from "./diff.js";
import { byId, element } from "./element.js";
import { Rollback } from "./rollback.js";
import { ask, cellPath } from "./service.js";
import { ago, clock, count } from "./words.js";

export class Versions {
  // `onMarks` receives the compared versions and the ids of the fingerprints added and removed.
  // `onChange` is called after this page has published a version.
  constructor({ onMarks, onChange }) {
    Object.assign(this, { onMarks, cell: null, versions: [], current: null });
    byId("older").addEventListener("click", () => this.load(this.next));
    byId("compare").addEventListener("click", () => this.compare());
    for (const id of ["before", "after"]) byId(id).addEventListener("change", () => this.allowCompare());
    this.rollback = new Rollback(onChange);
  }

  async show(cell) {
    this.cell = cell;
    this.versions = [];
    byId("compare-card").hidden = true; // it would compare versions of the cell before
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
        linkTo("link", "Compare", `Compare version ${version.number} with the current one`,
          () => this.compare(version.version, this.current)),
        linkTo("link back", "Roll back", `Roll back to version ${version.number}`,
          () => this.rollback.ask(this.cell, version, this.current)));
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
}

function describeFinding({ severity, reason, advice }) {
  const kind = severity === "refused" ? "Published by force" : "Warning";
  return element("p", { class: "finding" }, element("strong", {}, `${kind}: `), `${reason}; ${advice}`);
}

function linkTo(kind, words, title, onclick) {
  return element("button", { type: "button", class: kind, title, ariaLabel: title, onclick }, words);
}

function since(text) {
  return ago((Date.now() - Date.parse(text)) / 1000);
}
