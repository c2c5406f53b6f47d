// The models of the replica that answers: which are active and which cannot be loaded; the activations of all replicas;
// and which replicas serve other models than the activated ones.

import { byId, element } from "./element.js";
import { ask } from "./service.js";
import { fillTable } from "./table.js";
import { ago, clock, count, short } from "./words.js";

const HISTORY = [{ name: "Model" }, { name: "Digest", kind: "wide" }, { name: "Activated", kind: "number" }];

export async function showModels() {
  const { models, unusable, activated = {}, replicas = [], history = [] } = await ask("models");
  const busy = models.filter(({ state }) => state !== "available");
  const available = models.length - busy.length;
  byId("models").replaceChildren(
    ...busy.map(describeModel),
    ...unusable.map(({ folder, reason }) => element("li", {},
      element("strong", {}, folder),
      element("span", { class: "state-name damaged" }, "refused"),
      element("small", {}, reason))));
  byId("models-available").textContent =
    available ? `${count(available)} more can be activated: fingerpost models list` : "";
  fillTable(byId("history"), HISTORY, history.map((one) => describeActivation(one, activated)),
    "None yet: the models that the settings name serve.");
  byId("replicas").replaceChildren(...replicas.map((replica) => describeReplica(replica, activated)));
}

function describeModel({ family, name, version, state, digest, csi, executionProviders = [] }) {
  const on = executionProviders.length ? `, on ${executionProviders.join(", ").replaceAll("ExecutionProvider", "")}` : "";
  return element("li", {},
    element("strong", {}, `${name} ${version}`),
    element("span", { class: state === "active" ? "badge" : "badge waiting" }, state),
    element("small", {}, `${family}, digest ${digest.slice(0, 12)}${on}`),
    ...(csi.antennas.minimum ? [element("small", {}, radios(csi))] : []));
}

function describeActivation({ family, folder, digest, name, version, activatedAt = null }, activated) {
  const title = element("span", {}, name ? `${name} ${version}` : folder, element("small", {}, `${family}, folder ${folder}`));
  const at = activatedAt === null
    ? "unknown" : element("time", { dateTime: activatedAt, title: clock(activatedAt) }, since(activatedAt));
  const current = activated[family] === digest ? " (active)" : "";
  return [title, element("span", {}, element("code", {}, digest.slice(0, 12)), current), at];
}

function describeReplica(replica, activated) {
  const { name, artifacts, problem, unreported } = replica;
  const serves = Object.entries(artifacts).map(([family, digest]) => `${family} ${digest.slice(0, 12)}`).join(", ");
  const behind = isBehind(replica, activated);
  return element("li", {},
    element("strong", {}, name),
    behind ? element("span", { class: "state-name stale" }, "serves another model") : "",
    element("small", {}, behind ? problem ?? "It still prepares the activated model." : serves),
    ...(unreported ? [element("small", {}, `Other replicas do not list it: ${unreported}`)] : []));
}

// The ranges of radios that a model serves.
function radios({ antennas, subcarriers, bandwidth, carrierFrequency }) {
  return `${range(antennas)} antennas, ${range(subcarriers)} subcarriers, ${range(bandwidth, 1e6)} MHz, `
    + `${range(carrierFrequency, 1e9)} GHz`;
}

function range({ minimum, maximum }, one = 1) {
  const [least, most] = [minimum, maximum].map((end) => short(end / one, 4));
  return least === most ? least : `${least} to ${most}`;
}

function isBehind({ artifacts, problem }, activated) {
  return Boolean(problem) || Object.entries(artifacts).some(([family, digest]) => (activated[family] ?? digest) !== digest);
}

function since(text) {
  return ago((Date.now() - Date.parse(text)) / 1000);
}
