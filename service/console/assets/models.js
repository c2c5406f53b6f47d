// The models of the replica that answers: which are active, which cannot be loaded, and which replicas serve others than
// the activated ones.

import { byId, element } from "./element.js";
import { ask } from "./service.js";

export async function showModels() {
  const { models, unusable, activated = {}, replicas = [] } = await ask("models");
  const busy = models.filter(({ state }) => state !== "available");
  const available = models.length - busy.length;
  byId("models").replaceChildren(
    ...busy.map(({ family, name, version, state, digest }) => element("li", {},
      element("strong", {}, `${name} ${version}`),
      element("span", { class: state === "active" ? "badge" : "badge waiting" }, state),
      element("small", {}, `${family}, digest ${digest.slice(0, 12)}`))),
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

function isBehind({ artifacts, problem }, activated) {
  return Boolean(problem) || Object.entries(artifacts).some(([family, digest]) => (activated[family] ?? digest) !== digest);
}
