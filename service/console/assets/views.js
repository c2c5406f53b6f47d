// The views of the page. The address names one: #/ all cells, #/traffic, #/models, #/keys, and #NAME the cell of that name.

import { byId } from "./element.js";

const TITLES = { cells: "Cells", traffic: "Traffic", models: "Models", keys: "API keys" };

export function currentView() {
  const hash = location.hash.slice(1);
  if (!hash || hash === "/") return { view: "cells" };
  const view = hash.startsWith("/") ? hash.slice(1) : "cell";
  if (view === "cell") return { view, cell: decodeURIComponent(hash) };
  return { view: view in TITLES ? view : "cells" };
}

export function addressOf(cell) {
  return `#${encodeURIComponent(cell)}`;
}

// Shows the view that the address names, and hides the others. `moved`: the operator came here by a link of the page,
// and goes on with the keyboard at the view's heading.
export function showView({ view, cell }, moved) {
  for (const one of document.querySelectorAll(".view")) one.hidden = one.id !== `view-${view}`;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    const here = link.dataset.view === view || (view === "cell" && link.dataset.view === "cells");
    if (here) link.setAttribute("aria-current", view === "cell" ? "true" : "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${cell ?? TITLES[view]} – Fingerpost`;
  if (!moved) return;
  byId(`view-${view}`).querySelector("h1").focus({ preventScroll: true });
  scrollTo(0, 0);
}
