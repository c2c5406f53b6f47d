"""The active artifact as state of the installation: replicas in this process, on one database."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from models.artifact import read_manifest
from reference_db import DirectoryStore, append_fingerprints, import_fingerprints, read_contents
from service.artifacts.directory_installation import DirectoryInstallation
from service.artifacts.installation import ActiveArtifact
from service.settings import Settings
from tests.redis_servers import GUARD_S, RedisServer, redis_server_binary
from tests.service.bad_artifacts import change_manifest
from tests.service.learned_cells import ANTENNAS, BANDWIDTH, CARRIER, LEARNED, SUBCARRIERS, fill, write_artifacts
from tests.service.learned_cells import fingerprints_at as learned_fingerprints_at
from tests.service.plane_cell import fingerprints_at, make_cell, street, users_at
from tests.service.running import running
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_trajectory_artifact import write_tiny_trajectory_artifact

QUICK: dict[str, Any] = {
    "inference_threads": 1,
    "frame_cache_bytes": 4096,
    "calibration_samples": 20,
    "calibration_sigmas_m": (1.0,),
    "follow_period_s": 0.05,
    "trajectory_artifact_directory": None,
    "lwlm_artifact_directory": None,
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their answers lie 0.25 m apart, and 40 m."""
    folder = tmp_path_factory.mktemp("artifacts")
    for name, beside in (("middle", 0.0), ("beside", 0.25), ("far", 40.0)):
        (folder / name).mkdir()
        write_tiny_artifact(folder / name, beside=beside)
    return folder


@pytest.fixture
def settings(artifacts: Path, tmp_path: Path) -> Settings:
    """The artifact `middle`, and two cells."""
    store = DirectoryStore(tmp_path / "database")
    for name in ("plane", "other"):
        fingerprints = fingerprints_at(street(60, 1))
        fingerprints.csi[:, 0, 0] = abs(fingerprints.csi[:, 0, 0])  # the tiny network wants a positive first number
        import_fingerprints(store, make_cell(name), fingerprints, {}, ORIGIN)
    return Settings(artifact_directory=artifacts / "middle", database_directory=tmp_path / "database", **QUICK)


async def list_models(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/models")
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    return listed


async def active_folder(client: httpx.AsyncClient, family: str = "mateformer") -> str:
    models = (await list_models(client))["models"]
    (folder,) = (one["folder"] for one in models if one["family"] == family and one["state"] == "active")
    return str(folder)


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not await check():
            await asyncio.sleep(0.02)


def digest_of(artifacts: Path, folder: str) -> str:
    return read_manifest(artifacts / folder)[1]


async def activate(client: httpx.AsyncClient, folder: str, **params: str) -> httpx.Response:
    return await client.post(f"/models/{folder}:activate", params=params)


async def metric(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    return float(next(line for line in text.splitlines() if line.startswith(name + " ")).rpartition(" ")[2])


@pytest.mark.anyio
async def test_right_after_a_start_a_far_worse_artifact_is_refused(settings: Settings) -> None:
    """No cell is in memory: cells are loaded for the check."""
    async with running(settings) as client:
        refused = await activate(client, "far")
        assert (refused.status_code, refused.json()["cause"]) == (409, "ARTIFACT_REFUSED")
        assert "2 of 2 cells checked failed" in refused.json()["detail"]
        assert await active_folder(client) == "middle"
        assert (await list_models(client))["activated"] == {}
        accepted = (await activate(client, "beside")).json()
        compared = accepted["check"].pop("compared")
        assert accepted["check"] == {"cells": 2, "checked": 2, "failed": []}
        assert {one["cellId"] for one in compared} == {"plane", "other"}
        forced = (await activate(client, "far", force="true")).json()
        assert {one["cellId"] for one in forced["check"]["failed"]} == {"plane", "other"}
        for one in forced["check"]["compared"]:
            assert one["medianBefore"] == next(o for o in compared if o["cellId"] == one["cellId"])["medianAfter"]
            assert one["medianAfter"] > one["medianBefore"] + 1


@pytest.mark.anyio
async def test_an_artifact_that_no_cell_can_check_needs_force(artifacts: Path, tmp_path: Path) -> None:
    async with running(
        Settings(artifact_directory=artifacts / "middle", database_directory=tmp_path, **QUICK)
    ) as client:
        refused = await activate(client, "beside")
        assert (refused.status_code, refused.json()["cause"]) == (409, "ARTIFACT_REFUSED")
        assert "none of the 0 cells" in refused.json()["detail"]
        forced = await activate(client, "beside", force="true")
        assert forced.json()["check"] == {"cells": 0, "checked": 0, "failed": [], "compared": []}


@pytest.mark.anyio
async def test_the_activated_artifact_serves_after_a_restart(settings: Settings) -> None:
    async with running(settings) as client:
        assert (await activate(client, "beside")).status_code == 200
    async with running(settings) as client:
        assert await active_folder(client) == "beside"
        assert (await activate(client, "middle")).status_code == 200  # back again
    async with running(settings) as client:
        assert await active_folder(client) == "middle"


@pytest.mark.anyio
async def test_an_answer_from_before_an_activation_takes_nothing_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, free, again, read = threading.Event(), threading.Event(), threading.Event(), DirectoryInstallation.active

    def read_slowly(installation: DirectoryInstallation) -> dict[str, ActiveArtifact]:
        active = read(installation)
        if "active artifacts" in threading.current_thread().name:  # the follower's
            if asked.is_set():
                again.set()
            asked.set()
            free.wait(GUARD_S)
        return active

    async with running(settings) as client:
        assert (await activate(client, "middle")).status_code == 200
        monkeypatch.setattr(DirectoryInstallation, "active", read_slowly)
        assert await asyncio.to_thread(asked.wait, GUARD_S)
        assert (await activate(client, "beside")).status_code == 200
        free.set()
        assert await asyncio.to_thread(again.wait, GUARD_S)
        assert await active_folder(client) == "beside"
    assert "has taken over here" not in caplog.text


@asynccontextmanager
async def two_replicas(
    settings: Settings, **changes: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with running(settings) as one, running(settings.model_copy(update=changes)) as other:
        yield one, other


@pytest.fixture(params=["directory", "redis"])
def shared(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Any:
    if request.param == "directory":
        yield settings
        return
    if redis_server_binary() is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path / "redis")
    yield settings.model_copy(update={"redis_url": server.url})
    server.kill()


@pytest.mark.anyio
async def test_every_replica_takes_over_the_activated_artifact(shared: Settings, artifacts: Path) -> None:
    async with two_replicas(shared) as (one, other):
        for folder in ("beside", "middle"):
            assert (await activate(one, folder, force="true")).status_code == 200
            digest = digest_of(artifacts, folder)

            async def all_serve(digest: str = digest) -> bool:
                listed = await list_models(other)
                assert listed["activated"] == {"mateformer": digest}
                return [replica["artifacts"] for replica in listed["replicas"]] == [{"mateformer": digest}] * 2

            await eventually(all_serve)
            assert await active_folder(other) == folder

        async def agree() -> bool:
            return (await list_models(one))["replicas"] == (await list_models(other))["replicas"]

        await eventually(agree)


@pytest.mark.anyio
async def test_cells_in_memory_follow_the_activated_artifact(settings: Settings, artifacts: Path) -> None:
    body = located_in("plane")
    async with two_replicas(settings) as (one, other):
        assert (await other.post("/locate", json=body)).status_code == 200
        assert (await activate(one, "beside")).status_code == 200

        async def follows() -> bool:
            answer = await other.post("/locate", json=body)
            assert answer.status_code == 200, answer.text
            return bool(answer.json()["provenance"]["artifact"]["digest"] == digest_of(artifacts, "beside"))

        await eventually(follows)


def located_in(cell_id: str) -> dict[str, Any]:
    csi = users_at(street(1, 9))[0]
    csi[0, 0] = abs(csi[0, 0])
    return build_locate_body(cell_id, csi)


@pytest.mark.anyio
async def test_a_replica_that_lacks_the_artifact_serves_on_and_names_it(
    settings: Settings, artifacts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(artifacts / "middle", tmp_path / "few" / "middle")
    lacking = {"artifact_directory": tmp_path / "few" / "middle"}
    async with two_replicas(settings, **lacking) as (one, other):
        assert (await activate(one, "beside")).status_code == 200
        missing = 'fingerpost_active_artifact_missing{family="mateformer"}'

        async def is_told() -> bool:
            return await metric(other, missing) == 1

        await eventually(is_told)
        assert await metric(one, missing) == 0
        assert await active_folder(other) == "middle"
        assert (await other.get("/health/ready")).status_code == 200

        async def is_listed() -> bool:
            replicas = (await list_models(one))["replicas"]
            problems = [replica["problem"] for replica in replicas if "problem" in replica]
            return problems == [f"beside ({digest_of(artifacts, 'beside')[:12]}): this replica does not have it"]

        await eventually(is_listed)
        assert caplog.text.count("cannot serve with the active artifact beside") == 1
        # The metric above has an alert. Failures of the task would raise two more.
        assert await metric(other, 'fingerpost_background_failures_total{task="artifacts"}') == 0

        shutil.copytree(artifacts / "beside", tmp_path / "few" / "under-another-name")

        async def has_taken_over() -> bool:
            return await active_folder(other) == "under-another-name" and await metric(other, missing) == 0

        await eventually(has_taken_over)


@pytest.mark.anyio
@pytest.mark.parametrize("solution", ["middle", "beside"])
async def test_an_activation_ends_the_problem_that_the_replica_had(
    settings: Settings, artifacts: Path, tmp_path: Path, solution: str
) -> None:
    """The list that the activation answers does not name it any more, whether the artifact served already or not."""
    for name in ("middle", "beside"):
        shutil.copytree(artifacts / name, tmp_path / "few" / name)
    lacking = {"artifact_directory": tmp_path / "few" / "middle", "follow_period_s": 0.5}
    async with two_replicas(settings, **lacking) as (one, other):
        assert (await activate(one, "far", force="true")).status_code == 200

        async def has_a_problem() -> bool:
            return any("problem" in replica for replica in (await list_models(other))["replicas"])

        await eventually(has_a_problem)
        solved = await activate(other, solution)
        assert solved.status_code == 200, solved.text
        assert [replica["problem"] for replica in solved.json()["replicas"] if "problem" in replica] == []


@pytest.mark.anyio
async def test_an_artifact_that_serves_is_read_again_when_it_is_activated(
    settings: Settings, artifacts: Path, tmp_path: Path
) -> None:
    """Other replicas take over the files, and so does this one after a restart."""
    folder = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    async with running(settings.model_copy(update={"artifact_directory": folder / "middle"})) as client:
        assert (await activate(client, "middle")).json().get("check") is None
        (folder / "middle" / "full.onnx").write_bytes(b"damaged")
        refused = await activate(client, "middle")
        assert (refused.status_code, refused.json()["cause"]) == (409, "ARTIFACT_REFUSED")
        assert "full.onnx" in refused.json()["detail"]
        assert await active_folder(client) == "middle"


@pytest.mark.anyio
@pytest.mark.parametrize("damage", ["missing", "damaged"])
async def test_a_replica_that_cannot_start_the_active_artifact_starts_with_that_of_the_settings(
    settings: Settings, artifacts: Path, tmp_path: Path, damage: str
) -> None:
    folder = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    settings = settings.model_copy(update={"artifact_directory": folder / "middle"})
    async with running(settings) as client:
        assert (await activate(client, "beside")).status_code == 200
    if damage == "missing":
        shutil.rmtree(folder / "beside")
    else:
        (folder / "beside" / "full.onnx").write_bytes(b"damaged")
    async with running(settings) as client:
        assert await active_folder(client) == "middle"

        async def is_told() -> bool:
            return await metric(client, 'fingerpost_active_artifact_missing{family="mateformer"}') == 1

        await eventually(is_told)
        assert (await activate(client, "middle")).status_code == 200  # which serves already: the way out

        async def is_well() -> bool:
            return await metric(client, 'fingerpost_active_artifact_missing{family="mateformer"}') == 0

        await eventually(is_well)


@pytest.mark.anyio
async def test_a_database_from_before_there_was_an_active_artifact_works(settings: Settings) -> None:
    async with running(settings) as client:
        listed = await list_models(client)
        assert listed["activated"] == {}
        assert [model["configured"] for model in listed["models"] if model["state"] == "active"] == [True]
        assert len(listed["replicas"]) == 1
    assert not list((settings.database_directory / "installation" / "replicas").glob("*"))  # it has withdrawn


@pytest.mark.anyio
async def test_a_replica_that_may_not_write_its_report_says_so_and_nothing_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make, refused_paths = os.mkdir, list[str]()

    def refuse(path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        if Path(path).name in ("installation", "replicas"):
            refused_paths.append(str(path))
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refuse)
    async with running(settings) as client:

        async def has_tried_twice() -> bool:
            return len(refused_paths) >= 2

        await eventually(has_tried_twice)
        (replica,) = (await list_models(client))["replicas"]
        assert replica["unreported"] == "directory of the reference database: Read-only file system"
        assert caplog.text.count("other replicas cannot see this one") == 1
        failures = 'fingerpost_background_failures_total{task="replica report"}'
        assert await metric(client, failures) == 0
        refused = await activate(client, "beside")
        assert (refused.status_code, refused.json()["cause"]) == (503, "STORE_UNAVAILABLE")
        assert "Read-only file system" in refused.json()["detail"]
        monkeypatch.undo()

        async def is_seen() -> bool:
            return "unreported" not in (await list_models(client))["replicas"][0]

        await eventually(is_seen)


def fill_densely(store: DirectoryStore) -> None:
    """As `fill`; in the cell `both` each fingerprint has others near it, as the snapshots of a user have."""
    fill(store)
    before = store.current("both")
    assert before is not None
    beside = np.concatenate([street(60, 1) + np.float32(away) for away in (0.4, 0.8)])
    update = append_fingerprints(read_contents(store, before), learned_fingerprints_at(beside), ORIGIN)
    store.publish(update.manifest, update.segments, before.digest)


@pytest.mark.anyio
async def test_an_artifact_for_trajectories_is_checked_shared_and_kept(tmp_path: Path) -> None:
    settings = write_artifacts(tmp_path)
    fill_densely(DirectoryStore(settings.database_directory))
    for name, beside in (("newer", 0.0), ("far", 40.0)):
        write_tiny_trajectory_artifact(tmp_path / name, LEARNED, ANTENNAS, SUBCARRIERS, BANDWIDTH, CARRIER, beside)
        change_manifest(tmp_path / name, version=name)
    async with two_replicas(settings) as (one, other):
        refused = await activate(one, "far")
        assert (refused.status_code, refused.json()["cause"]) == (409, "ARTIFACT_REFUSED")
        assert "cell both: the median error" in refused.json()["detail"]
        accepted = await activate(one, "newer")
        check = accepted.json()["check"]
        assert [one["cellId"] for one in check.pop("compared")] == ["both"]
        assert check == {"cells": 3, "checked": 1, "failed": []}  # the others are bare or too sparse

        async def follows() -> bool:
            return await active_folder(other, "scadf-moe") == "newer"

        await eventually(follows)
    async with running(settings) as client:
        assert await active_folder(client, "scadf-moe") == "newer"
        assert await active_folder(client) == "mateformer"


@pytest.mark.anyio
async def test_an_activation_that_cannot_be_recorded_leaves_the_artifact_before_in_service(settings: Settings) -> None:
    (settings.database_directory / "installation").write_text("no folder")  # as in a directory mounted read-only
    csi = users_at(street(1, 1))[0]
    csi[0, 0] = abs(csi[0, 0])
    user = build_locate_body("plane", csi, None)
    async with running(settings) as client:
        before = (await client.post("/locate", json=user)).json()
        refused = await activate(client, "beside")
        assert (refused.status_code, refused.json()["cause"]) == (503, "STORE_UNAVAILABLE")
        assert await active_folder(client) == "middle"
        after = (await client.post("/locate", json=user)).json()
        assert after["provenance"]["artifact"] == before["provenance"]["artifact"]
        assert after["localLocationEstimate"] == before["localLocationEstimate"]
