"""What can only be seen from inside the process: a network that fails, a queue that is full, what is imported."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fingerpost import build_locate_body
from models.artifact import ArtifactMissing
from reference_db import DirectoryStore
from service.app import create_app
from service.errors import Congested
from service.inference.workers import Workers
from service.settings import Settings
from tests.damage import damage
from tests.service.plane_cell import USER, users_at
from tests.service.running import running, tiny_request, tiny_service


@pytest.fixture
def tiny_settings(tmp_path: Path) -> Settings:
    return tiny_service(tmp_path)


@pytest.mark.anyio
async def test_a_network_that_answers_nan_gives_a_problem_and_spoils_no_other_user(tiny_settings: Settings) -> None:
    async with running(tiny_settings) as client:
        asked = tiny_request(-1) | {"allowFallback": False}
        failed = await client.post("/locate", json=asked)
        batch = await client.post("/locate/batch", json={"items": [asked, tiny_request(1)]})
    assert (failed.status_code, failed.json()["cause"]) == (500, "ESTIMATE_NOT_FINITE")
    assert failed.headers["content-type"] == "application/problem+json"
    problem, location = batch.json()["results"]
    assert problem["problem"]["cause"] == "ESTIMATE_NOT_FINITE"
    assert location["location"]["localLocationEstimate"]["point"] == {"x": 21.5, "y": 0.0}


@pytest.mark.anyio
async def test_two_apps_in_one_process_count_apart(tiny_settings: Settings) -> None:
    async with running(tiny_settings) as one, running(tiny_settings) as other:
        await one.get("/cells")
        assert 'route="/cells",status="200"' in (await one.get("/metrics")).text
        assert 'route="/cells",status="200"' not in (await other.get("/metrics")).text


@pytest.mark.anyio
async def test_database_without_cells_is_served(tiny_settings: Settings, tmp_path: Path) -> None:
    empty = tiny_settings.model_copy(update={"database_directory": tmp_path / "empty"})
    async with running(empty) as client:
        assert (await client.get("/cells")).json() == {"cells": []}
        assert (await client.get("/openapi.json")).status_code == 200
        response = await client.post("/locate", json=tiny_request(1))
    assert (response.status_code, response.json()["cause"]) == (404, "CELL_NOT_FOUND")


@pytest.mark.anyio
async def test_damaged_cell_is_a_problem_of_its_own(tiny_settings: Settings) -> None:
    for segment in (path for path in tiny_settings.database_directory.rglob("*") if path.stat().st_size > 2000):
        if segment.is_file():
            damage(segment, b"x" + segment.read_bytes()[1:])
    async with running(tiny_settings) as client:
        response = await client.post("/locate", json=tiny_request(1))
        assert (response.status_code, response.json()["cause"]) == (500, "CELL_UNREADABLE")
        assert (await client.get("/health/ready")).status_code == 200


def test_missing_artifact_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        create_app(Settings(artifact_directory=tmp_path))


@pytest.mark.anyio
async def test_a_full_queue_refuses_the_next_and_recovers() -> None:
    workers, release = Workers("test", threads=1, limit=2), threading.Event()
    waiting = [asyncio.create_task(workers.run(release.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Congested):
        await workers.run(release.wait)
    release.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await workers.run(release.wait)
    workers.close()


_PROBE = """
import asyncio, json, sys, httpx
from service.app import create_app
from service.settings import Settings

async def main():
    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            content, headers = sys.stdin.buffer.read(), {"Content-Type": "application/json"}
            response = await client.post("/locate", content=content, headers=headers)
            print(response.status_code, (await client.get("/docs")).status_code)

asyncio.run(main())
import service.commands.cli
print(sorted(name for name in sys.modules if name.split(".")[0] in {"torch", "sionna", "matplotlib"}))
"""


def test_serving_never_imports_torch(settings: Settings, store: DirectoryStore) -> None:
    body = build_locate_body("plane", users_at(USER)[0], {"x": 50.0, "y": 5.0, "hAccuracy": 1.0})
    directories = {
        "FINGERPOST_DATABASE_DIRECTORY": str(settings.database_directory),
        "FINGERPOST_ARTIFACT_DIRECTORY": str(settings.artifact_directory),
    }
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE],
        input=json.dumps(body).encode(),
        env=os.environ | directories,
        capture_output=True,
        check=True,
    )
    assert probe.stdout.decode().splitlines() == ["200 200", "[]"]
