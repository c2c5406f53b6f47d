// All cells: what needs attention first, then the largest errors. Sortable by each column.

import { css, errorRamp, stepOf } from "./colours.js";
import { byId, element } from "./element.js";
import { shareOf } from "./heat.js";
import { ask } from "./service.js";
import { MEANINGS, STATES, stateMarks, stateOfFault, statesOf } from "./states.js";
import { addressOf } from "./views.js";
import { ago, count, metres } from "./words.js";

const COLUMNS = [
  { name: "Cell", value: ({ name }) => name, first: 1 },
  { name: "State", value: ({ urgency }) => urgency, first: 1 },
  { name: "Error, 95 %", value: ({ error }) => error, first: -1, kind: "number error",
    title: "95 % of the cell's own fingerprints are located within this distance without a coarse position." },
  { name: "Fingerprints", value: ({ fingerprints }) => fingerprints, first: 1, kind: "number wide" },
  { name: "Last measured", value: ({ age }) => age, first: -1, kind: "number" },
  { name: "Located by", value: ({ models }) => models, first: 1, kind: "wide" },
  { name: "Last change", value: ({ changed }) => changed, first: 1, kind: "number wide" },
];
const COLLATOR = new Intl.Collator("en", { numeric: true });

export class Cells {
  constructor() {
    Object.assign(this, { rows: [], shown: null, order: null, wanted: "" });
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
      ...unreadable.map((name) => unreadRow(name, byName.get(name) ?? {})),
      ...cells.map((cell) => cellRow(cell, byName.get(cell.cellId))),
    ];
    if (this.shown && !this.rows.some((row) => isIn(row, this.shown))) this.shown = null;
    this.draw();
    return [...cells.map(({ cellId }) => cellId), ...unreadable];
  }

  find(name) {
    return this.rows.find((row) => row.name === name);
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

  // Whatever has the keyboard's focus keeps it.
  draw() {
    const { id, hash } = document.activeElement ?? {};
    this.drawStates();
    const rows = this.rows
      .filter((row) => (!this.shown || isIn(row, this.shown)) && row.name.toLowerCase().includes(this.wanted))
      .sort(this.order ? byColumn(this.order) : byUrgency);
    byId("cells-rows").replaceChildren(...rows.map(describeRow));
    byId("cells-none").hidden = rows.length > 0;
    byId("cells-none").textContent = this.rows.length
      ? "No cell has this name and state."
      : "There is no cell yet. Create one with fingerpost cells import.";
    if (id?.startsWith("show-")) byId(id)?.focus();
    else if (hash && !document.activeElement.hash) byId("cells-rows").querySelector(`a[href="${CSS.escape(hash)}"]`)?.focus();
  }

  drawStates() {
    const counts = new Map(STATES.map((state) => [state, this.rows.filter((row) => isIn(row, state)).length]));
    byId("cells-states").replaceChildren(
      this.stateButton(null, `All ${count(this.rows.length)}`, "Show all cells."),
      ...STATES.filter((state) => counts.get(state)).map((state) =>
        this.stateButton(state, `${count(counts.get(state))} ${state}`, MEANINGS[state])));
  }

  stateButton(state, words, title) {
    const pressed = String(this.shown === state);
    const id = `show-${(state ?? "all").replace(" ", "-")}`;
    const show = () => {
      this.shown = this.shown === state ? null : state;
      this.draw();
    };
    return element("button", { id, type: "button", class: "state", title, "aria-pressed": pressed, onclick: show }, words);
  }
}

function describeRow(row) {
  const state = element("td", {}, element("div", { class: "marks" }, ...stateMarks(row)));
  for (const { reason } of row.states) if (reason) state.append(element("small", {}, reason));
  return element("tr", {},
    element("th", { scope: "row" }, element("a", { href: addressOf(row.name) }, row.name)),
    state,
    element("td", { class: "number error" }, ...(row.error === null ? ["–"] : [metres(row.error), errorBar(row.error)])),
    element("td", { class: "number wide" }, row.fingerprints === null ? "–" : count(row.fingerprints)),
    element("td", { class: "number" }, row.age === null ? "unknown" : ago(row.age)),
    element("td", { class: "wide" }, row.models || "–"),
    element("td", { class: "number wide" }, row.changed === null ? "–" : ago(row.changed)));
}

// As long, and in the colour, as the error's place on the scale of the maps.
function errorBar(error) {
  const bar = element("span", { class: "error-bar" });
  const ramp = errorRamp();
  bar.style.width = `${Math.round(4 + 96 * shareOf(error))}%`;
  bar.style.background = css(ramp[stepOf(0.25 + 0.75 * shareOf(error))]);
  return element("span", { class: "error-axis" }, bar);
}

function cellRow(cell, fault) {
  const { cellId, fingerprints, newestMeasured, createdAt, models, accuracy } = cell;
  const age = newestMeasured ? secondsSince(newestMeasured) : null;
  return withStates(statesOf(cell, age, fault), {
    name: cellId, fingerprints, age, error: accuracy?.p95 ?? null, models: models.join(", "), changed: secondsSince(createdAt),
  });
}

function unreadRow(name, fault) {
  const unknown = { fingerprints: null, age: null, error: null, models: "", changed: null };
  return withStates([stateOfFault(fault)], { name, ...unknown });
}

function withStates(states, row) {
  return { ...row, states, urgency: STATES.indexOf(states[0].state) };
}

function isIn({ states }, wanted) {
  return states.some(({ state }) => state === wanted);
}

function secondsSince(text) {
  return Math.max(0, (Date.now() - Date.parse(text)) / 1000);
}

function byUrgency(one, other) {
  return one.urgency - other.urgency
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
