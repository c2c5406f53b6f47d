"""A street changes under a running cell: `drift` of the cell, metrics, and what makes it go away."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from reference_db import DirectoryStore, import_fingerprints
from service.cells.drift import FALSE_ALARM_REQUESTS
from service.settings import Settings
from tests.service.plane_cell import SCATTERERS, Json, fingerprints_at, make_cell, street, users_at
from tests.service.running import running
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN

CELL = "plane"
MOVED = SCATTERERS + np.array([[12.0, 4.0], [-15.0, 6.0], [-9.0, -20.0]])

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A street of 1,000 fingerprints, and the network that answers the middle of the neighbourhood."""
    write_tiny_artifact(tmp_path, doubtful=False)
    store = DirectoryStore(tmp_path / "database")
    import_fingerprints(store, make_cell(CELL), fingerprints_at(street(1000, 1)), {}, ORIGIN)
    settings = Settings(
        artifact_directory=tmp_path, database_directory=tmp_path / "database", lwlm_artifact_directory=None
    )
    async with running(settings) as client:
        yield client


async def locate(client: httpx.AsyncClient, positions: np.ndarray, scatterers: np.ndarray, *, fixes: bool) -> None:
    """As a back end does, 16 users a request. Some are refused: their CSI is foreign to the cell."""
    rng = np.random.default_rng(len(positions))
    for first in range(0, len(positions), 16):
        some = positions[first : first + 16]
        at = some + rng.standard_normal(some.shape)
        coarse: Iterator[Json | None] = ({"x": x, "y": y, "hAccuracy": 1.0} if fixes else None for x, y in at.tolist())
        csi = users_at(some, scatterers=scatterers)
        items = [build_locate_body(CELL, one, fix) for one, fix in zip(csi, coarse, strict=True)]
        response = await client.post("/locate/batch", json={"items": items})
        causes = {one["problem"]["cause"] for one in response.json()["results"] if "problem" in one}
        assert causes <= {"CSI_FOREIGN"}, response.text


async def drift_of(client: httpx.AsyncClient) -> Json:
    """The cell by itself and in the list say the same."""
    drift: Json = (await client.get(f"/cells/{CELL}")).json()["drift"]
    assert (await client.get("/cells")).json()["cells"][0]["drift"] == drift
    return drift


async def metric(client: httpx.AsyncClient, name: str) -> float | None:
    lines = (await client.get("/metrics")).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), None)


@pytest.mark.parametrize("fixes", [True, False])
async def test_a_changed_street_is_noticed_and_a_new_survey_ends_it(client: httpx.AsyncClient, fixes: bool) -> None:
    assert "drift" not in (await client.get(f"/cells/{CELL}")).json()  # the cell is not in memory
    await locate(client, street(480, 2), SCATTERERS, fixes=fixes)
    before = await drift_of(client)
    assert before["signs"] == []
    assert "since" not in before
    assert before["counted"] > 60
    assert before["evidence"] < FALSE_ALARM_REQUESTS
    assert await metric(client, "fingerpost_cells_drifted") == 0

    await locate(client, street(480, 3), MOVED, fixes=fixes)
    after = await drift_of(client)
    assert "signal" in after["signs"]
    assert after["evidence"] >= FALSE_ALARM_REQUESTS
    assert after["counted"] > before["counted"]
    assert after["since"] <= after["noticed"]
    assert await metric(client, "fingerpost_cells_drifted") == 1
    assert await metric(client, f'fingerpost_cell_drift{{cell="{CELL}",sign="signal"}}') == 1
    counted = await metric(client, 'fingerpost_drift_users_total{use="counted"}')
    assert counted == after["counted"]

    correction = await client.patch(f"/cells/{CELL}", json={"height": 13.0}, headers={"If-Match": "*"})
    assert correction.status_code == 200, correction.text
    for _ in range(200):
        if (await client.get(f"/cells/{CELL}")).json().get("drift", after)["counted"] == 0:
            break
    again = await drift_of(client)
    assert (again["signs"], again["counted"]) == ([], 0)
    assert await metric(client, "fingerpost_cells_drifted") == 0
    assert await metric(client, f'fingerpost_cell_drift{{cell="{CELL}",sign="signal"}}') is None
