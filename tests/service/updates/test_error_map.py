"""``GET /cells/{cellId}/errors``."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.app import create_app
from service.settings import Settings
from service.updates import error_map
from tests.damage import damage
from tests.service.running import running, tiny_service
from tests.service.tiny_cell import ORIGIN, positive_csi, tiny_cell


@pytest.fixture
def tiny_settings(tmp_path: Path) -> Settings:
    return tiny_service(tmp_path)


def damage_segments(database: Path) -> None:
    """Of every segment the first byte."""
    for file in database.rglob("*"):
        if file.is_file() and file.stat().st_size > 2000 and not file.read_bytes().startswith(b"{"):
            damage(file, b"x" + file.read_bytes()[1:])


def test_fingerprints_are_located_near_their_labels(client: httpx.Client) -> None:
    answer = client.get("/cells/plane/errors?limit=40").json()
    assert answer["version"] == client.get("/cells/plane").json()["version"]
    assert answer["count"] == 300
    listed = {one["id"]: one for one in client.get("/cells/plane/fingerprints").json()["fingerprints"]}
    assert len({one["id"] for one in answer["errors"]}) == 40
    for one in answer["errors"]:
        assert (one["x"], one["y"]) == (listed[one["id"]]["x"], listed[one["id"]]["y"])
    assert 0 < np.median([one["error"] for one in answer["errors"]]) < 5


@pytest.mark.anyio
async def test_a_larger_sample_begins_with_the_smaller(tiny_settings: Settings) -> None:
    async with running(tiny_settings) as client:
        small, large, again = [
            (await client.get(f"/cells/c/errors?limit={limit}")).json()["errors"] for limit in (10, 1000, 10)
        ]
    assert len(small) == 10
    assert len(large) == 40
    assert small == large[:10] == again


@pytest.mark.anyio
async def test_what_was_measured_is_remembered(tiny_settings: Settings) -> None:
    async with running(tiny_settings) as client:
        measured = (await client.get("/cells/c/errors")).json()
        damage_segments(tiny_settings.database_directory)
        assert (await client.get("/cells/c/errors")).json() == measured


@pytest.mark.anyio
async def test_a_version_of_the_same_fingerprints_is_not_measured_again(tiny_settings: Settings) -> None:
    async with running(tiny_settings) as client:
        measured = (await client.get("/cells/c/errors")).json()
        changed = (await client.put("/cells/c/retention", json={"maxAgeS": 1e9})).raise_for_status().json()
        damage_segments(tiny_settings.database_directory)
        again = (await client.get("/cells/c/errors")).json()
    assert again == measured | {"version": changed["version"]} != measured


@pytest.mark.anyio
async def test_positions_of_removed_versions_leave_the_memory(tiny_settings: Settings) -> None:
    app = create_app(tiny_settings)
    transport, error_maps = httpx.ASGITransport(app), app.state.error_maps
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        listed = (await client.get("/cells/c/errors")).json()["errors"]
        assert len(error_maps._samples) == 1
        forgotten = await client.post("/cells/c/fingerprints/forget", json={"ids": [listed[0]["id"]]})
        assert forgotten.status_code == 200, forgotten.text
        assert not error_maps._samples
        await client.get("/cells/c/errors")
        await error_maps.drop_removed()
        assert len(error_maps._samples) == 1
        await client.delete("/cells/c", params={"force": "true"})
        assert not error_maps._samples


@pytest.mark.anyio
async def test_damaged_fingerprints_are_a_problem(tiny_settings: Settings) -> None:
    damage_segments(tiny_settings.database_directory)
    async with running(tiny_settings) as client:
        answer = await client.get("/cells/c/errors")
    assert (answer.status_code, answer.json()["cause"]) == (500, "CELL_UNREADABLE")


@pytest.mark.anyio
async def test_each_version_has_errors_of_its_own(tiny_settings: Settings) -> None:
    async with running(tiny_settings) as client:
        before = (await client.get("/cells/c/errors")).json()
        gone = [one["id"] for one in before["errors"][:3]]
        (await client.post("/cells/c/fingerprints/delete", json={"ids": gone})).raise_for_status()
        after = (await client.get("/cells/c/errors")).json()
        assert after["count"] == len(after["errors"]) == 37
        assert not {one["id"] for one in after["errors"]} & set(gone)
        assert (await client.get("/cells/c/errors?version=1")).json() == before


@pytest.mark.anyio
async def test_a_fingerprint_that_cannot_be_located_has_no_error(tiny_settings: Settings) -> None:
    csi = positive_csi(30)
    csi[0] *= -1
    positions = np.random.default_rng(0).uniform(0, 30, (30, 2)).astype(np.float32)
    fingerprints = Fingerprints(csi, positions, np.zeros(30), np.full(30, 0.05, np.float32))
    cell = tiny_cell().model_copy(update={"cell_id": "odd"})
    import_fingerprints(DirectoryStore(tiny_settings.database_directory), cell, fingerprints, {}, ORIGIN)
    async with running(tiny_settings) as client:
        errors = (await client.get("/cells/odd/errors")).json()["errors"]
    assert [(one["x"], one["y"]) for one in errors if one["error"] is None] == [tuple(positions[0].tolist())]


@pytest.mark.anyio
async def test_who_would_wait_behind_too_many_is_told_to_come_again(
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_map, "MOST_WAITING", 0)
    async with running(tiny_settings) as client:
        answer = await client.get("/cells/c/errors")
    assert (answer.status_code, answer.json()["cause"]) == (503, "NF_CONGESTION")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("path", "status", "cause"),
    [
        ("/cells/none/errors", 404, "CELL_NOT_FOUND"),
        ("/cells/small/errors", 409, "CELL_TOO_SMALL"),
        ("/cells/narrow/errors", 409, "CELL_NOT_SERVED_BY_ARTIFACT"),
        ("/cells/plane/errors?version=99", 404, "VERSION_NOT_FOUND"),
        ("/cells/plane/errors?limit=1001", 400, "MANDATORY_IE_INCORRECT"),
        ("/cells/plane/errors?limits=1", 400, "UNKNOWN_FIELD"),
    ],
)
def test_what_cannot_be_measured_is_a_problem(client: httpx.Client, path: str, status: int, cause: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["cause"]) == (status, cause)
