from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from reference_db import DirectoryStore, import_fingerprints, read_contents
from service.cells.calibration import Calibration
from tests.service.running import running, tiny_request, tiny_service
from tests.service.tiny_cell import ORIGIN


def test_lists_every_cell(client: httpx.Client) -> None:
    cells = client.get("/cells").json()["cells"]
    assert [(cell["cellId"], cell["fingerprints"]) for cell in cells] == [
        ("fresh", 80),
        ("narrow", 100),
        ("other", 150),
        ("plane", 300),
        ("small", 10),
    ]


def test_the_list_says_which_models_locate_users_in_a_cell_or_why_none_does(client: httpx.Client) -> None:
    cells = {cell["cellId"]: cell for cell in client.get("/cells").json()["cells"]}
    assert {name: cell["models"] for name, cell in cells.items()} == {
        "fresh": ["mateformer"],
        "narrow": ["weighted-knn"],
        "other": ["mateformer"],
        "plane": ["mateformer"],
        "small": [],
    }
    assert cells["small"]["notServed"]["cause"] == "CELL_TOO_SMALL"
    assert "10 fingerprints" in cells["small"]["notServed"]["detail"]
    assert not any("notServed" in cells[name] for name in ("plane", "narrow"))


def test_the_list_has_the_errors_of_each_cell(client: httpx.Client, store: DirectoryStore) -> None:
    cells = {cell["cellId"]: cell for cell in client.get("/cells").json()["cells"]}
    manifest = store.current("plane")
    assert manifest is not None
    (calibration,) = Calibration.all_of_quality(manifest.quality)
    level = calibration.level(None)
    assert cells["plane"]["accuracy"] == {
        "median": level.median,
        "p95": level.p95,
        "radius": level.radius,
        "confidence": 95,
    }
    assert "newestMeasured" not in cells["plane"]  # its fingerprints have no times


@pytest.mark.anyio
async def test_the_list_says_when_a_cell_was_measured_and_knows_the_errors_of_cells_in_memory(tmp_path: Path) -> None:
    settings = tiny_service(tmp_path)
    store = DirectoryStore(settings.database_directory)
    first = store.current("c")
    assert first is not None
    fingerprints = read_contents(store, first).fingerprints()
    times = np.linspace(1.6e9, 1.7e9, len(fingerprints.times))
    import_fingerprints(store, first.cell, replace(fingerprints, times=times), {}, ORIGIN)
    async with running(settings) as client:
        (cell,) = (await client.get("/cells")).json()["cells"]
        (await client.post("/locate", json=tiny_request(1))).raise_for_status()
        (in_memory,) = (await client.get("/cells")).json()["cells"]
    assert datetime.fromisoformat(cell["newestMeasured"]).timestamp() == 1.7e9
    assert "accuracy" not in cell  # the import measured none
    assert in_memory["accuracy"]["confidence"] == 95


def test_the_list_tells_cells_of_one_model_from_cells_of_both(learned: httpx.Client) -> None:
    cells = {cell["cellId"]: cell for cell in learned.get("/cells").json()["cells"]}
    models = {name: cell["models"] for name, cell in cells.items()}
    assert models["both"] == ["mateformer", "scadf-moe"]
    assert models["only-tracks"] == ["scadf-moe"]
    assert models["only-fingerprints"] == models["other-band"] == ["mateformer"]


def test_shows_a_cell(client: httpx.Client, store: DirectoryStore) -> None:
    cell = client.get("/cells/plane").json()
    manifest = store.current("plane")
    assert manifest is not None
    assert cell["version"] == manifest.version
    assert cell["point"] == {"lat": 43.7731, "lon": 11.256}
    assert cell["array"] == {"rows": 1, "columns": 32, "spacing": 0.5, "polarisations": 1}
    assert cell["azimuthDeg"] == pytest.approx(72.81, abs=0.01)
    assert cell["quality"].keys() == manifest.quality.keys()
    (shown,), (stored,) = (one["calibration"].values() for one in (cell["quality"], manifest.quality))
    assert shown == {name: value for name, value in stored.items() if name not in ("belonging", "ellipses")}


@pytest.mark.parametrize("cell_id", ["nowhere", "...", "a b", "%2e%2e%2fplane", "x" * 65])
def test_unknown_cell(client: httpx.Client, cell_id: str) -> None:
    response = client.get(f"/cells/{cell_id}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
