// The models of the replica that answers: which are active, and which cannot be loaded.

import { byId, element } from "./element.js";
import { ask } from "./service.js";

export async function showModels() {
  const { models, unusable } = await ask("models");
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
      element("small", {}, reason))));
  byId("models-available").textContent =
    available ? `${available} more can be activated: fingerpost models list` : "";
}
