// The models of the replica that answers: which are active, which cannot be loaded, and which replicas serve others than
// the activated ones.

import { byId, element } from "./element.js";
import { ask } from "./service.js";
import { short } from "./words.js";

export async function showModels() {
  const { models, unusable, activated = {}, replicas = [] } = await ask("models");
  const busy = models.filter(({ state }) => state !== "available");
  const available = models.length - busy.length;
  byId("models").replaceChildren(
    ...busy.map(({ family, name, version, state, digest, csi }) => element("li", {},
      element("strong", {}, `${name} ${version}`),
      element("span", { class: state === "active" ? "badge" : "badge waiting" }, state),
      element("small", {}, `${family}, digest ${digest.slice(0, 12)}`),
      ...(csi.antennas.minimum ? [element("small", {}, radios(csi))] : []))),
    ...unusable.map(({ folder, reason }) => element("li", {},
      element("strong", {}, folder),
      element("span", { class: "state-name damaged" }, "refused"),
      element("small", {}, reason))),
    ...replicas.filter((replica) => isBehind(replica, activated)).map(({ name, problem }) => element("li", {},
      element("strong", {}, name),
      element("span", { class: "state-name stale" }, "serves another model"),
      element("small", {}, problem ?? "It still prepares the activated model."))));
  byId("models-available").textContent =
    available ? `${available} more can be activated: fingerpost models list` : "";
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
