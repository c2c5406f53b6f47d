"""Old versions, forgotten fingerprints and deleted cells, over the API."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from reference_db import (
    DirectoryStore,
    Fingerprints,
    Origin,
    StoreUnavailable,
    append_fingerprints,
    read_contents,
    replace_cell,
)
from reference_db.stores.cell_folder import CellFolder
from service.app import create_app
from service.settings import Settings
from tests.damage import damage
from tests.redis_servers import GUARD_S
from tests.service.tiny_cell import tiny_cell
from tests.service.updates.wire import DESCRIPTION, assert_problem, on_a_line, sent


@pytest.fixture
def store(tiny_settings: Settings) -> DirectoryStore:
    return DirectoryStore(tiny_settings.database_directory)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


async def append(service: httpx.AsyncClient, first: int, last: int) -> str:
    answer = await service.post("/cells/c/fingerprints", json={"fingerprints": sent(on_a_line(first, last))})
    assert answer.status_code == 200, answer.text
    version: str = answer.json()["version"]
    return version


async def ids(service: httpx.AsyncClient, **params: str) -> list[str]:
    listed = (await service.get("/cells/c/fingerprints", params=params)).json()["fingerprints"]
    return [one["id"] for one in listed]


async def numbers(service: httpx.AsyncClient) -> list[int]:
    listed = (await service.get("/cells/c/versions")).json()["versions"]
    return [one["number"] for one in listed]


def stored_ids(store: DirectoryStore) -> set[int]:
    """The ids of all fingerprints whose bytes lie in any version of the cell, deleted ones as well."""
    found: set[int] = set()
    for number in store.numbers("c"):
        found |= set(read_contents(store, store.manifest("c", number)).with_deleted().ids.tolist())
    return found


def grow(store: DirectoryStore, versions: int, age: timedelta, cell_id: str = "c") -> None:
    """Publishes versions of a cell, one a minute, the first of them `age` ago."""
    begin = datetime.now(UTC) - age
    cell = tiny_cell().model_copy(update={"cell_id": cell_id})
    for number in range(versions):
        origin, before = Origin("ann", begin + timedelta(minutes=number)), store.current(cell_id)
        update = (
            replace_cell(None, cell, on_a_line(0, 3), origin)
            if before is None
            else append_fingerprints(read_contents(store, before), on_a_line(3 * number, 3 * number + 3), origin)
        )
        store.publish(update.manifest, update.segments, update.manifest.parent)


# Old versions


@pytest.mark.anyio
async def test_old_versions_are_removed_and_told(tiny_settings: Settings, store: DirectoryStore) -> None:
    grow(store, 8, timedelta(days=1))
    grow(store, 8, timedelta(minutes=30), "young")
    settings = tiny_settings.model_copy(update={"history_versions": 3})
    async with running(settings) as service:
        preview = (await service.post("/versions/collect", params={"dryRun": "true"})).json()
        assert store.numbers("c") == list(range(1, 9))
        collected = (await service.post("/versions/collect")).json()
        assert collected == preview | {"dryRun": False}
        (only,) = collected["cells"]
        assert (only["cellId"], only["versions"]) == ("c", [1, 2, 3, 4, 5])
        assert only["bytes"] > 0
        assert await numbers(service) == [8, 7, 6]
        assert len(store.numbers("young")) == 8  # other processes may still be reading
        assert (await service.post("/versions/collect")).json()["cells"] == []
        assert_problem(await service.get("/cells/c/versions/1"), 404, "VERSION_NOT_FOUND", "/version")
        back = await service.post("/cells/c/rollback", json={"version": 2})
        assert_problem(back, 404, "VERSION_NOT_FOUND", "/version")
        assert (await service.post("/cells/c/rollback", json={"version": 6})).status_code == 200
        metrics = (await service.get("/metrics")).text
        assert "fingerpost_versions_removed_total 5.0" in metrics
        assert f"fingerpost_version_bytes_removed_total {float(only['bytes'])}" in metrics


@pytest.mark.anyio
async def test_a_replica_that_may_not_write_leaves_old_versions_to_others(
    tiny_settings: Settings, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(store, 4, timedelta(days=1))
    opened, rounds = Path.open, list[Path]()

    def refuse(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if path.is_relative_to(tiny_settings.database_directory) and mode != "rb":
            rounds.append(path)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    settings = tiny_settings.model_copy(update={"history_versions": 1, "retention_period_s": 0.02})
    async with running(settings) as service:
        async with asyncio.timeout(GUARD_S):
            while len([path for path in rounds if path.parent.name != "installation"]) < 2:
                await asyncio.sleep(0.02)
        assert 'fingerpost_background_failures_total{task="history"} 0.0' in (await service.get("/metrics")).text
        refused = await service.post("/versions/collect")
        assert_problem(refused, 503, "STORE_UNAVAILABLE")
        assert "Read-only file system" in refused.json()["detail"]
    assert len(store.numbers("c")) == 4


@pytest.mark.anyio
async def test_by_default_a_hundred_versions_stay_whatever_their_age(
    tiny_settings: Settings, store: DirectoryStore
) -> None:
    grow(store, 103, timedelta(days=1000))
    async with running(tiny_settings) as service:
        collected = (await service.post("/versions/collect")).json()
    assert collected["cells"][0]["versions"] == [1, 2, 3]


@pytest.mark.anyio
async def test_versions_of_one_cell_are_removed_and_damage_of_another_stops_nothing(
    tiny_settings: Settings, store: DirectoryStore
) -> None:
    for cell_id in ("c", "d", "e"):
        grow(store, 4, timedelta(days=1), cell_id)
    settings = tiny_settings.model_copy(update={"history_versions": 1, "history_max_age_s": 60.0})
    async with running(settings) as service:
        collected = (await service.post("/versions/collect", params={"cell": "d"})).json()
        assert [one["cellId"] for one in collected["cells"]] == ["d"]
        assert len(store.numbers("c")) == 4
        unknown = await service.post("/versions/collect", params={"cell": "none"})
        assert_problem(unknown, 404, "CELL_NOT_FOUND", "/cellId")
        wrong = await service.post("/versions/collect", params={"cell": "../d"})
        assert_problem(wrong, 400, "MANDATORY_IE_INCORRECT", "query cell")
        folder = tiny_settings.database_directory / "cells" / "c" / "versions" / "0000000004"
        (folder / "manifest.json").unlink()
        collected = (await service.post("/versions/collect")).json()
        assert [one["cellId"] for one in collected["cells"]] == ["e"]
        assert collected["unreadable"] == ["c"]
        assert store.numbers("c") == [1, 2, 3, 4]  # to roll back to


@pytest.mark.anyio
async def test_the_service_removes_old_versions_by_itself(tiny_settings: Settings, store: DirectoryStore) -> None:
    grow(store, 5, timedelta(days=1))
    settings = tiny_settings.model_copy(update={"history_versions": 2, "retention_period_s": 0.01})
    async with running(settings), asyncio.timeout(60):
        while store.numbers("c") != [4, 5]:
            await asyncio.sleep(0.01)


# Forgotten fingerprints


@pytest.mark.anyio
async def test_forgotten_fingerprints_are_in_no_version_and_no_segment(
    service: httpx.AsyncClient, store: DirectoryStore
) -> None:
    await append(service, 40, 45)
    await service.put("/cells/c", json={"fingerprints": sent(on_a_line(100, 140))})  # version 3 holds none of them
    back = await service.post("/cells/c/rollback", json={"version": 2})
    named = (await ids(service))[:2]
    doomed = {int(name, 16) for name in named}
    assert doomed <= stored_ids(store)
    preview = await service.post("/cells/c/fingerprints/forget", params={"dryRun": "true"}, json={"ids": named})
    version = back.json()["version"]
    assert preview.json() == {"version": version, "fingerprints": 2, "versions": [1, 2, 4]}
    assert await numbers(service) == [4, 3, 2, 1]
    key = {"Idempotency-Key": "request 17"}
    body, params = {"ids": named}, {"author": "dpo", "note": "request 17"}
    answer = await service.post("/cells/c/fingerprints/forget", params=params, json=body, headers=key)
    forgotten = answer.json()
    assert answer.status_code == 200, forgotten
    assert (forgotten["forgotten"], forgotten["removedVersions"], forgotten["fingerprints"]) == (2, [1, 2, 4], 43)
    assert answer.headers["etag"] == f'"{forgotten["version"]}"'
    assert not stored_ids(store) & doomed
    assert await numbers(service) == [5, 3]
    assert not set(await ids(service)) & set(named)
    change = (await service.get("/cells/c")).json()["change"]
    assert change == {"action": "forgotten", "added": 0, "removed": 2, "author": "dpo", "note": "request 17"}
    for number in (1, 2, 4):
        back = await service.post("/cells/c/rollback", json={"version": number})
        assert_problem(back, 404, "VERSION_NOT_FOUND", "/version")
    again = await service.post("/cells/c/fingerprints/forget", params=params, json=body, headers=key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() | {"goneAt": forgotten["goneAt"]} == forgotten
    later = await service.post("/cells/c/fingerprints/forget", json=body)
    assert_problem(later, 409, "UPDATE_REFUSED")


@pytest.mark.anyio
async def test_fingerprints_that_were_deleted_or_are_only_in_old_versions_are_forgotten_too(
    service: httpx.AsyncClient, store: DirectoryStore
) -> None:
    named = (await ids(service))[:3]
    doomed = {int(name, 16) for name in named}
    (await service.post("/cells/c/fingerprints/delete", json={"ids": named})).raise_for_status()
    assert doomed <= stored_ids(store)  # a tombstone only
    left = await ids(service)
    forgotten = (await service.post("/cells/c/fingerprints/forget", json={"ids": named[:1]})).json()
    assert (forgotten["forgotten"], forgotten["removedVersions"], forgotten["fingerprints"]) == (1, [1, 2], 37)
    assert stored_ids(store) & doomed == doomed - {int(named[0], 16)}
    assert await ids(service) == left
    (await service.put("/cells/c", json={"fingerprints": sent(on_a_line(100, 140))})).raise_for_status()
    area = {"west": -1, "south": -1, "east": 3.5, "north": 1}
    forgotten = (await service.post("/cells/c/fingerprints/forget", json={"area": area})).json()
    assert (forgotten["forgotten"], forgotten["removedVersions"], forgotten["fingerprints"]) == (0, [3], 40)
    assert not stored_ids(store) & doomed
    assert await numbers(service) == [5, 4]


@pytest.mark.anyio
async def test_a_damaged_version_may_hold_anything_so_it_is_removed(
    service: httpx.AsyncClient, tiny_settings: Settings
) -> None:
    await service.put("/cells/c", json={"fingerprints": sent(on_a_line(100, 140))})
    await service.put("/cells/c", json={"fingerprints": sent(on_a_line(200, 240))})
    folder = tiny_settings.database_directory / "cells" / "c" / "versions" / "0000000001"
    (segment,) = folder.glob("*.safetensors")
    whole = segment.read_bytes()
    damage(segment, whole[:-1] + bytes([whole[-1] ^ 1]))
    forgotten = await service.post("/cells/c/fingerprints/forget", json={"ids": (await ids(service))[:1]})
    assert forgotten.json()["removedVersions"] == [1, 3]
    assert await numbers(service) == [4, 2]


@pytest.mark.anyio
async def test_a_forgetting_that_a_crash_interrupted_is_finished_by_the_next(
    service: httpx.AsyncClient, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = (await ids(service))[:1]

    def stop(*_: object) -> None:
        raise StoreUnavailable("crashed")

    with monkeypatch.context() as crashing:
        crashing.setattr(CellFolder, "remove_unwanted", stop)
        response = await service.post("/cells/c/fingerprints/forget", json={"ids": named})
        assert_problem(response, 503, "STORE_UNAVAILABLE")
        assert store.numbers("c") == [1]
        crashing.setattr(CellFolder, "remove_leftovers", lambda *_: None)
        response = await service.post("/cells/c/fingerprints/forget", json={"ids": named})
        assert_problem(response, 503, "STORE_UNAVAILABLE")
        assert store.numbers("c") == [1, 2]
    DirectoryStore(store._cells.parent)
    assert store.numbers("c") == [2]
    assert int(named[0], 16) not in stored_ids(store)


@pytest.mark.anyio
async def test_forgetting_without_a_criterion_or_at_another_version_changes_nothing(
    service: httpx.AsyncClient,
) -> None:
    assert_problem(await service.post("/cells/c/fingerprints/forget", json={}), 400, "MANDATORY_IE_INCORRECT", "")
    stale = {"If-Match": '"9-0123456789ab"'}
    for params in ({}, {"dryRun": "true"}):
        body = {"unknownTime": True}
        answer = await service.post("/cells/c/fingerprints/forget", params=params, json=body, headers=stale)
        assert_problem(answer, 412, "PRECONDITION_FAILED")
    assert await numbers(service) == [1]


# Deleted cells


@pytest.mark.anyio
async def test_a_cell_is_deleted_with_all_its_versions_and_created_anew(
    service: httpx.AsyncClient, tiny_settings: Settings, line: Fingerprints
) -> None:
    newest = await append(service, 40, 45)
    assert_problem(await service.delete("/cells/c"), 428, "CONDITION_MISSING")
    stale = await service.delete("/cells/c", headers={"If-Match": '"1-0123456789ab"'})
    assert_problem(stale, 412, "PRECONDITION_FAILED")
    assert await numbers(service) == [2, 1]
    deleted = await service.delete("/cells/c", headers={"If-Match": f'"{newest}"'})
    assert deleted.status_code == 200, deleted.text
    assert deleted.json() | {"bytes": 0} == {"cellId": "c", "versions": [1, 2], "segments": 2, "bytes": 0}
    assert (await service.get("/cells")).json()["cells"] == []
    for path in ("/cells/c", "/cells/c/versions", "/cells/c/versions/1", "/cells/c/export"):
        assert_problem(await service.get(path), 404, "CELL_NOT_FOUND", "/cellId")
    again = await service.delete("/cells/c", params={"force": "true"})
    assert_problem(again, 404, "CELL_NOT_FOUND", "/cellId")
    assert not list((tiny_settings.database_directory / "cells" / "c").rglob("*.safetensors"))
    created = await service.put("/cells/c", json={"cell": DESCRIPTION, "fingerprints": sent(line)})
    assert created.status_code == 201
    assert created.json()["version"].startswith("1-")
    assert 'fingerpost_cell_updates_total{outcome="removed"} 1.0' in (await service.get("/metrics")).text


@pytest.mark.anyio
async def test_a_damaged_cell_can_be_deleted(service: httpx.AsyncClient, tiny_settings: Settings) -> None:
    folder = tiny_settings.database_directory / "cells" / "c" / "versions" / "0000000001"
    (folder / "manifest.json").write_bytes(b"damaged")
    (await service.delete("/cells/c", params={"force": "true"})).raise_for_status()
    assert (await service.get("/cells")).json() == {"cells": []}


# Corrected descriptions


@pytest.mark.anyio
async def test_a_cell_whose_current_version_is_unknown_can_be_deleted_and_created_anew(
    service: httpx.AsyncClient, tiny_settings: Settings, store: DirectoryStore
) -> None:
    current = store.newest("c")
    assert current is not None
    (tiny_settings.database_directory / "cells" / "c" / "versions" / "0000000001" / current).unlink()
    correction = await service.patch("/cells/c", json={"height": 3.0})
    assert_problem(correction, 500, "CELL_UNREADABLE")
    deleted = await service.delete("/cells/c", params={"force": "true"})
    assert deleted.status_code == 200, deleted.text
    body = {"cell": DESCRIPTION, "fingerprints": sent(on_a_line(0, 40))}
    assert (await service.put("/cells/c", json=body)).status_code == 201


@pytest.mark.anyio
async def test_a_description_is_corrected_without_fingerprints(service: httpx.AsyncClient) -> None:
    before = (await service.get("/cells/c")).json()
    change = {
        "height": 25.5,
        "azimuthDeg": 180.0,
        "array": {"spacing": 0.7},
        "carrierFrequency": 3.6e9,
        "bandwidth": 20e6,
    }
    corrected = await service.patch("/cells/c", params={"author": "ann", "note": "measured"}, json=change)
    after = corrected.json()
    assert corrected.status_code == 200, after
    assert after["change"] == {"action": "corrected", "added": 0, "removed": 0, "author": "ann", "note": "measured"}
    described = {name: after[name] for name in DESCRIPTION}
    array = before["array"] | {"spacing": 0.7}
    assert described == DESCRIPTION | change | {"array": array}
    assert (await ids(service)) == (await ids(service, version="1"))
    assert (await service.post("/cells/c/rollback", json={"version": 1})).json()["height"] == before["height"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "status", "cause", "params"),
    [
        ({}, 409, "UPDATE_REFUSED", []),
        ({"height": 10.0}, 409, "UPDATE_REFUSED", []),
        ({"array": {"columns": 3}}, 409, "UPDATE_REFUSED", []),
        ({"area": {"west": 5, "south": -1, "east": 9, "north": 1}}, 409, "UPDATE_REFUSED", []),
        ({"bandwidth": 9e9}, 400, "MANDATORY_IE_INCORRECT", [""]),
        ({"height": 1e9}, 400, "MANDATORY_IE_INCORRECT", ["/height"]),
        ({"height": -1.0}, 400, "MANDATORY_IE_INCORRECT", ["/height"]),
        ({"subcarriers": 3}, 400, "UNKNOWN_FIELD", ["/subcarriers"]),
        ({"point": {"lat": 43.8, "lon": 11.2}}, 400, "MANDATORY_IE_MISSING", ["/fingerprints"]),
        ({"point": {"lat": 48.0, "lon": 11.2}, "fingerprints": "stay"}, 409, "UPDATE_REFUSED", []),
    ],
)
async def test_a_correction_that_contradicts_the_fingerprints_changes_nothing(
    service: httpx.AsyncClient, change: dict[str, object], status: int, cause: str, params: list[str]
) -> None:
    assert_problem(await service.patch("/cells/c", json=change), status, cause, *params)
    assert await numbers(service) == [1]


@pytest.mark.anyio
@pytest.mark.parametrize("fingerprints", ["move", "stay"])
async def test_fingerprints_move_with_the_base_station_or_stay_on_earth(
    service: httpx.AsyncClient, store: DirectoryStore, fingerprints: str
) -> None:
    (await service.post("/cells/c/fingerprints/delete", json={"ids": (await ids(service))[:1]})).raise_for_status()
    before = (await service.get("/cells/c/fingerprints")).json()["fingerprints"]
    north = {"lat": 43.701, "lon": 11.2}  # 111.1 m
    (await service.patch("/cells/c", json={"point": north, "fingerprints": fingerprints})).raise_for_status()
    cell = (await service.get("/cells/c")).json()
    after = (await service.get("/cells/c/fingerprints")).json()["fingerprints"]
    assert cell["point"] == north
    assert len(after) == len(before) == 39
    if fingerprints == "move":
        assert after == before
        return
    for old, new in zip(before, after, strict=True):
        assert new["x"] == pytest.approx(old["x"], abs=0.01)
        assert new["y"] == pytest.approx(old["y"] - 111.1, abs=0.02)
        assert (new["time"], new["sigma"]) == (old["time"], old["sigma"])
        assert new["id"] != old["id"]


@pytest.mark.anyio
async def test_an_unknown_cell_cannot_be_corrected_deleted_or_made_to_forget(empty: httpx.AsyncClient) -> None:
    for response in (
        await empty.patch("/cells/c", json={"height": 3.0}),
        await empty.delete("/cells/c", params={"force": "true"}),
        await empty.post("/cells/c/fingerprints/forget", json={"unknownTime": True}),
    ):
        assert_problem(response, 404, "CELL_NOT_FOUND", "/cellId")
