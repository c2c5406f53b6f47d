// What went wrong last, above everything else. The next success of the same work takes it away.

import { byId } from "./element.js";

let shownFor = null;

// The operator goes elsewhere: what went wrong here does not matter there.
export function forgetTrouble() {
  byId("trouble").hidden = true;
}

export async function orTrouble(work, name = "page") {
  const trouble = byId("trouble");
  try {
    await work();
    if (shownFor === name) trouble.hidden = true;
  } catch (problem) {
    if (problem.name === "AbortError") return;
    trouble.textContent = problem.message + (problem.status === 401 ? " (enter an API key in the field above)" : "");
    trouble.hidden = false;
    shownFor = name;
    if (problem.status === 401) byId("key").focus();
  }
}
