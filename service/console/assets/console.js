// The whole page: which view it shows, and when it asks the service again.

import { CellPage } from "./cell_page.js";
import { Cells } from "./cells.js";
import { byId, element } from "./element.js";
import { showKeys } from "./keys.js";
import { LatencyPanel } from "./latency.js";
import { showModels } from "./models.js";
import { ask, key, setKey } from "./service.js";
import { Traffic } from "./traffic.js";
import { forgetTrouble, orTrouble } from "./trouble.js";
import { Upload } from "./upload.js";
import { addressOf, currentView, showView } from "./views.js";

const EVERY_MS = 5000; // the view that is shown
const ALL_EVERY_MS = 30_000; // all cells

const cells = new Cells();
const upload = new Upload(async (cell) => {
  await listCells();
  if (page.cell === cell) await page.refresh();
  else location.hash = addressOf(cell);
});
const page = new CellPage(cells, upload);
const traffic = new Traffic();
const latency = new LatencyPanel(byId("latency"), byId("latency-window"));
const REFRESH = {
  cells: async () => {},
  cell: () => page.refresh(),
  traffic: () => Promise.all([traffic, latency].map((part) => part.refresh(page.cell ?? cells.rows[0]?.name))),
  models: showModels,
  keys: showKeys,
};

start();

async function start() {
  byId("key").value = key();
  byId("key-form").addEventListener("submit", (event) => event.preventDefault());
  byId("key").addEventListener("change", () => {
    setKey(byId("key").value.trim());
    askAll();
  });
  byId("cell").addEventListener("change", () => {
    location.hash = addressOf(byId("cell").value);
  });
  byId("new-cell").addEventListener("click", () => upload.open(null));
  shareAuthor();
  addEventListener("hashchange", () => show(true));
  await askAll();
  show(false);
  setInterval(() => document.hidden || refresh(), EVERY_MS);
  setInterval(() => document.hidden || listCells(), ALL_EVERY_MS);
}

function show(moved) {
  const { view, cell } = currentView();
  showView({ view, cell }, moved);
  if (moved) forgetTrouble();
  if (view === "cell") {
    byId("cell").value = cell;
    page.choose(cell);
  } else {
    page.leave();
    refresh();
  }
}

// Whoever has named an author in one dialog is the author in the next.
function shareAuthor() {
  const fields = [...document.querySelectorAll("input.author")];
  for (const field of fields) {
    field.addEventListener("change", () => fields.forEach((other) => { other.value = field.value; }));
  }
}

async function refresh() {
  const { view } = currentView();
  await orTrouble(REFRESH[view], view);
}

async function askAll() {
  await askAboutLive();
  await listCells();
  await refresh();
}

// What the service's settings forbid needs no request for estimates, which would begin to watch users.
async function askAboutLive() {
  await orTrouble(async () => {
    const { live } = await ask("console/settings");
    page.live.forbid(live ? null : "Live estimates are off. To let operators watch where users are located, which is " +
      "personal data, set FINGERPOST_CONSOLE_LIVE=true.");
  }, "settings");
}

async function listCells() {
  await orTrouble(async () => {
    const names = await cells.load();
    const offered = [...byId("cell").options].map(({ value }) => value);
    if (names.join() !== offered.join()) {
      byId("cell").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
      if (page.cell) byId("cell").value = page.cell;
    }
    page.mark();
  }, "list");
}
