// Fills a table: a row of headers, and rows whose first cell names the row.

import { element } from "./element.js";

// `columns`: [{ name, kind }], `kind` a class such as "number"; `rows`: lists of texts or elements; `none`: what an empty
// table says.
export function fillTable(table, columns, rows, none) {
  const head = element("thead", {}, element("tr", {}, ...columns.map(({ name, kind = "" }) =>
    element("th", { scope: "col", class: kind }, name))));
  const filled = rows.map((cells) => element("tr", {}, ...cells.map((content, i) => {
    const attributes = { class: columns[i].kind ?? "" };
    return i ? element("td", attributes, content) : element("th", { ...attributes, scope: "row" }, content);
  })));
  const empty = element("tr", {}, element("td", { colSpan: columns.length, class: "aside" }, none));
  table.replaceChildren(head, element("tbody", {}, ...(rows.length ? filled : [empty])));
}
