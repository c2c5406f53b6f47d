// The API keys in force: what each allows, and when it was last used.

import { byId, element } from "./element.js";
import { ask } from "./service.js";
import { fillTable } from "./table.js";
import { ago, clock, short } from "./words.js";

const UNUSED_S = 30 * 86_400; // a key unused for so long may no longer be needed
const COLUMNS = [
  { name: "Name" }, { name: "Id", kind: "wide" }, { name: "Scopes" }, { name: "Users a second", kind: "number wide" },
  { name: "Made", kind: "number wide" }, { name: "Last used", kind: "number" },
];

export async function showKeys() {
  const { required, keys, usesSince = null } = await ask("keys");
  byId("keys-status").textContent = required
    ? usesSince && `Uses are those of this replica since ${clock(usesSince)}: it cannot share them with other replicas.`
    : "This service needs no API keys: everyone who can reach it may do everything.";
  fillTable(byId("keys"), COLUMNS, keys.map(row), "There is no key.");
}

function row({ id, name, scopes, rate = null, createdAt, lastUsed = null }) {
  return [
    name,
    element("code", {}, id),
    scopes.join(", "),
    rate === null ? "any" : short(rate, 4),
    element("time", { dateTime: createdAt, title: clock(createdAt) }, since(createdAt)),
    lastUsed === null ? unused("never") : lastUse(lastUsed),
  ];
}

function lastUse(at) {
  const time = element("time", { dateTime: at, title: clock(at) }, since(at));
  return Date.now() - Date.parse(at) > 1000 * UNUSED_S ? unused(time) : time;
}

function unused(content) {
  return element("span", { class: "state-name stale", title: "Not used for 30 days. Revoke it if it is no longer needed." }, content);
}

function since(text) {
  return ago((Date.now() - Date.parse(text)) / 1000);
}
