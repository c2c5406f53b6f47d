// All cells: what needs attention first, then the largest errors. Sortable by each column.

import { byId, element } from "./element.js";
import { ask } from "./service.js";
import { ago, count, metres } from "./words.js";

const STALE_S = 90 * 86_400; // age of a cell's newest fingerprint

// In the order of urgency.
const STATES = ["damaged", "unreachable", "not served", "too small", "refused", "stale", "served"];
const MEANINGS = {
  damaged: "The current version is damaged.",
  unreachable: "The cell's part of the reference database cannot be reached.",
  "not served": "No active model locates users in the cell.",
  "too small": "The cell has fewer fingerprints than the model needs.",
  refused: "This replica cannot serve the newest version, and serves an earlier one.",
  stale: "The newest fingerprint is older than 90 days.",
  served: "Users are located.",
};
const COLUMNS = [
  { name: "Cell", value: ({ name }) => name, first: 1 },
  { name: "State", value: ({ state }) => STATES.indexOf(state), first: 1 },
  { name: "Error, 95 %", value: ({ error }) => error, first: -1, kind: "number",
    title: "95 % of the cell's own fingerprints are located within this distance without a coarse position." },
  { name: "Fingerprints", value: ({ fingerprints }) => fingerprints, first: 1, kind: "number wide" },
  { name: "Last measured", value: ({ age }) => age, first: -1, kind: "number" },
  { name: "Located by", value: ({ models }) => models, first: 1, kind: "wide" },
];
const COLLATOR = new Intl.Collator("en", { numeric: true });

export class Cells {
  constructor() {
    Object.assign(this, { rows: [], shown: null, order: null, wanted: "", chosen: null });
    byId("cells-filter").addEventListener("input", (event) => {
      this.wanted = event.target.value.trim().toLowerCase();
      this.draw();
    });
    this.head();
  }

  // Returns the names, those of damaged cells last.
  async load() {
    const { cells, unreadable = [], faults = [] } = await ask("cells");
    const byName = new Map(faults.map((fault) => [fault.cellId, fault]));
    this.rows = [
      ...unreadable.map((name) => withFault(unreadRow(name), byName.get(name) ?? {})),
      ...cells.map((cell) => byName.has(cell.cellId) ? withFault(cellRow(cell), byName.get(cell.cellId)) : cellRow(cell)),
    ];
    if (this.shown && !this.rows.some(({ state }) => state === this.shown)) this.shown = null;
    this.draw();
    return [...cells.map(({ cellId }) => cellId), ...unreadable];
  }

  find(name) {
    return this.rows.find((row) => row.name === name);
  }

  choose(name) {
    this.chosen = name;
    this.draw();
  }

  head() {
    byId("cells-head").replaceChildren(...COLUMNS.map((column) => {
      const sort = element("button", { type: "button", class: "link", title: column.title ?? "" }, column.name);
      sort.addEventListener("click", () => this.sort(column));
      return element("th", { scope: "col", class: column.kind ?? "", "aria-sort": this.direction(column) }, sort);
    }));
  }

  direction(column) {
    if (this.order?.column !== column) return "none";
    return this.order.sign > 0 ? "ascending" : "descending";
  }

  sort(column) {
    const again = this.order?.column === column;
    this.order = { column, sign: again ? -this.order.sign : column.first };
    for (const [i, cell] of [...byId("cells-head").children].entries()) {
      cell.setAttribute("aria-sort", this.direction(COLUMNS[i]));
    }
    this.draw();
  }

  draw() {
    const counts = new Map(STATES.map((state) => [state, 0]));
    for (const { state } of this.rows) counts.set(state, counts.get(state) + 1);
    byId("cells-states").replaceChildren(
      this.stateButton(null, `All ${count(this.rows.length)}`, "Show all cells."),
      ...STATES.filter((state) => counts.get(state)).map((state) =>
        this.stateButton(state, `${count(counts.get(state))} ${state}`, MEANINGS[state])));
    const rows = this.rows
      .filter(({ name, state }) => (!this.shown || state === this.shown) && name.toLowerCase().includes(this.wanted))
      .sort(this.order ? byColumn(this.order) : byUrgency);
    byId("cells-rows").replaceChildren(...rows.map((row) => this.row(row)));
    byId("cells-none").hidden = rows.length > 0;
  }

  stateButton(state, words, title) {
    const pressed = String(this.shown === state);
    const show = () => {
      this.shown = this.shown === state ? null : state;
      this.draw();
    };
    return element("button", { type: "button", class: "state", title, "aria-pressed": pressed, onclick: show }, words);
  }

  row(row) {
    const kind = row.state.replace(" ", "-");
    const state = element("td", {}, element("span", { class: `state-name ${kind}`, title: MEANINGS[row.state] }, row.state));
    if (row.reason) state.append(element("small", {}, row.reason));
    const link = element("a", { href: `#${encodeURIComponent(row.name)}` }, row.name);
    if (row.name === this.chosen) link.setAttribute("aria-current", "true");
    return element("tr", {},
      element("th", { scope: "row" }, link),
      state,
      element("td", { class: "number" }, row.error === null ? "–" : metres(row.error)),
      element("td", { class: "number wide" }, row.fingerprints === null ? "–" : count(row.fingerprints)),
      element("td", { class: "number" }, row.age === null ? "unknown" : ago(row.age)),
      element("td", { class: "wide" }, row.models || "–"));
  }
}

function cellRow({ cellId, fingerprints, newestMeasured, models, notServed, accuracy, refused }) {
  const age = newestMeasured ? Math.max(0, (Date.now() - Date.parse(newestMeasured)) / 1000) : null;
  let state = "served";
  if (notServed) state = notServed.cause === "CELL_TOO_SMALL" ? "too small" : "not served";
  else if (refused) state = "refused";
  else if (age > STALE_S) state = "stale";
  return {
    name: cellId, state, fingerprints, age, error: accuracy?.p95 ?? null, models: models.join(", "),
    reason: notServed?.detail ?? refused ?? null,
  };
}

function unreadRow(name) {
  return { name, state: "damaged", fingerprints: null, age: null, error: null, models: "", reason: null };
}

function withFault(row, { cause = "CELL_UNREADABLE", detail = null }) {
  return { ...row, state: cause === "STORE_UNAVAILABLE" ? "unreachable" : "damaged", reason: detail };
}

function byUrgency(one, other) {
  return STATES.indexOf(one.state) - STATES.indexOf(other.state)
    || (other.error ?? -1) - (one.error ?? -1)
    || COLLATOR.compare(one.name, other.name);
}

// Unknown values come last in both directions.
function byColumn({ column, sign }) {
  return (one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    if (a === null || b === null) return (a === null) - (b === null) || COLLATOR.compare(one.name, other.name);
    const difference = typeof a === "string" ? COLLATOR.compare(a, b) : a - b;
    return sign * difference || COLLATOR.compare(one.name, other.name);
  };
}
