"""Users with a track, over HTTP and, where the state of what is kept matters, from inside."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from reference_db import DirectoryStore, open_store
from service.app import create_app
from service.errors import TracksUnavailable
from service.locating.redis_tracks import RedisTracks
from service.locating.tracks import MemoryTracks, TrackName, Tracks, TrackSnapshot
from service.settings import Settings
from tests.redis_servers import GUARD_S, RedisServer, RedisServers, empty, keys_of, nodes_of
from tests.service.learned_cells import TRAJECTORY, fill, locate, point_of, seen_at, snapshot, write_artifacts
from tests.service.plane_cell import Json
from tests.service.tiny_service import added_key, bearing
from tests.service.tiny_trajectory_artifact import SCALES, VERTICES

NAME = TrackName("both", "owner", "a")


def snapshot_at(number: int, moment: float = 0, request_id: str | None = None) -> TrackSnapshot:
    """A snapshot at a point of `TRAJECTORY`, so many seconds after the first."""
    csi = seen_at(TRAJECTORY)[number]
    measured = datetime.fromtimestamp(1.7e9 + moment, UTC)
    return TrackSnapshot.of(csi.view(np.float32).reshape(*csi.shape, 2), 1.7e9, measured, request_id)


def moments_of(kept: list[TrackSnapshot]) -> list[float]:
    return [one.time - 1.7e9 for one in kept]


@pytest.fixture
def track_id() -> str:
    """One that no other test has."""
    return uuid4().hex


def fallbacks_of(answer: Json) -> dict[str, str]:
    """The causes by method."""
    return {one["method"]: one["cause"] for one in answer["provenance"].get("fallbacks", [])}


def passed_or_source(provenance: Json) -> str:
    """The cause why the track was not located, or what located it."""
    fallbacks = provenance.get("fallbacks", [])
    return str(fallbacks[0]["cause"] if fallbacks else provenance["source"])


def test_is_located_jointly_once_there_are_enough_snapshots(learned: httpx.Client, track_id: str) -> None:
    *early, joint, next_one = (
        locate(learned, snapshot(track_id, position)) for position in (*TRAJECTORY, TRAJECTORY[0])
    )
    for answer in early:
        assert answer["provenance"]["source"] == "mateformer"
        assert fallbacks_of(answer) == {"scadf-moe": "TRACK_TOO_SHORT"}
    (model,) = (one for one in learned.get("/models").json()["models"] if one["family"] == "scadf-moe")
    assert joint["provenance"] == {
        "source": "scadf-moe",
        "artifact": {name: model[name] for name in ("name", "version", "digest")},
        "cellVersion": learned.get("/cells/both").json()["version"],
        "snapshots": VERTICES,
        "pathFeatures": "estimated",
    }
    assert joint["hAccuracy"] == SCALES.estimated.vertex.factors[95]
    assert joint["locationEstimate"]["uncertaintyEllipse"]["semiMinor"] == joint["hAccuracy"] / 2
    assert joint["locationEstimate"]["confidence"] == 95
    np.testing.assert_allclose(point_of(joint), TRAJECTORY[-1], atol=0.5)
    np.testing.assert_allclose(point_of(next_one), TRAJECTORY[0], atol=0.5)


def test_without_a_track_nothing_is_said_of_one(learned: httpx.Client) -> None:
    answer = locate(learned, build_locate_body("both", seen_at(TRAJECTORY[:1])[0]))
    assert answer["provenance"]["source"] == "mateformer"
    assert not fallbacks_of(answer)


def test_tracks_of_other_users_and_cells_are_apart(learned: httpx.Client, track_id: str) -> None:
    for position in TRAJECTORY[1:]:
        locate(learned, snapshot(track_id, position))
    for body in (snapshot(track_id + "2", TRAJECTORY[0]), snapshot(track_id, TRAJECTORY[0], "bare")):
        response = learned.post("/locate", json=body)
        assert "TRACK_TOO_SHORT" in response.text


@pytest.mark.parametrize("repeated", [{"requestId": "r-1"}, {"timestamp": datetime.now(UTC).isoformat()}, {}])
def test_a_retry_is_not_another_snapshot(learned: httpx.Client, track_id: str, repeated: Json) -> None:
    for _ in range(VERTICES + 1):
        answer = locate(learned, snapshot(track_id, TRAJECTORY[0], **repeated))
        assert fallbacks_of(answer) == {"scadf-moe": "TRACK_TOO_SHORT"}


def test_a_late_retry_is_answered_about_its_own_snapshot(learned: httpx.Client, track_id: str) -> None:
    bodies = [snapshot(track_id, position, requestId=str(i)) for i, position in enumerate(TRAJECTORY)]
    for body in bodies:
        locate(learned, body)
    again = locate(learned, bodies[0])
    assert again["provenance"]["source"] == "scadf-moe"
    np.testing.assert_allclose(point_of(again), TRAJECTORY[0], atol=0.5)


def test_snapshots_far_apart_are_not_located_together(learned: httpx.Client, track_id: str) -> None:
    for position in TRAJECTORY[1:] + np.array([12.0, 0.0]):
        locate(learned, snapshot(track_id, position))
    assert fallbacks_of(locate(learned, snapshot(track_id, TRAJECTORY[0]))) == {"scadf-moe": "TRACK_TOO_WIDE"}
    for position in TRAJECTORY[1:] + np.array([12.0, 0.0]):
        learned.post("/locate", json=snapshot(track_id, position, "bare"))
    problem = learned.post("/locate", json=snapshot(track_id, TRAJECTORY[0], "bare")).json()
    assert problem["cause"] == "POSITIONING_METHOD_FAILURE"
    assert problem["fallbacks"][0] == {"method": "scadf-moe", "cause": "TRACK_TOO_WIDE"}
    assert re.search(r"as located, the last 3 snapshots do not lie within [\d.]+ m of one of them", problem["detail"])


def test_old_snapshots_are_not_located_with_new_ones(learned: httpx.Client, track_id: str) -> None:
    now = datetime.now(UTC)
    for position in TRAJECTORY[1:]:
        locate(learned, snapshot(track_id, position, timestamp=(now - timedelta(hours=1)).isoformat()))
    answer = locate(learned, snapshot(track_id, TRAJECTORY[0], timestamp=now.isoformat()))
    assert fallbacks_of(answer) == {"scadf-moe": "TRACK_TOO_SHORT"}


@pytest.mark.parametrize(
    ("cell_id", "cause"),
    [
        ("unlearned", "CELL_NOT_SERVED_BY_ARTIFACT"),
        ("other-band", "BAND_NOT_SERVED_BY_ARTIFACT"),
        ("only-fingerprints", None),
    ],
)
def test_where_tracks_cannot_be_located_mateformer_answers(
    learned: httpx.Client, track_id: str, cell_id: str, cause: str | None
) -> None:
    for position in TRAJECTORY:
        answer = locate(learned, snapshot(track_id, position, cell_id))
        assert answer["provenance"]["source"] == "mateformer"
        assert fallbacks_of(answer) == ({} if cause is None else {"scadf-moe": cause})


@pytest.mark.parametrize("cell_id", ["only-tracks", "bare"])
def test_where_only_tracks_can_be_located_the_first_snapshots_are_kept_all_the_same(
    learned: httpx.Client, track_id: str, cell_id: str
) -> None:
    for position in TRAJECTORY[1:]:
        response = learned.post("/locate", json=snapshot(track_id, position, cell_id))
        assert (response.status_code, response.json()["cause"]) == (422, "POSITIONING_METHOD_FAILURE")
        assert response.json()["fallbacks"][0] == {"method": "scadf-moe", "cause": "TRACK_TOO_SHORT"}
    np.testing.assert_allclose(
        point_of(locate(learned, snapshot(track_id, TRAJECTORY[0], cell_id))), TRAJECTORY[0], atol=0.5
    )


def test_where_only_tracks_may_be_located_a_track_is_asked_for(learned: httpx.Client) -> None:
    response = learned.post("/locate", json=build_locate_body("only-tracks", seen_at(TRAJECTORY[:1])[0]))
    assert (response.status_code, response.json()["cause"]) == (409, "MODEL_NOT_ALLOWED_BY_CELL")
    assert "trackId" in response.json()["detail"]


def test_tracks_in_batches(learned: httpx.Client, track_id: str) -> None:
    plain = build_locate_body("both", seen_at(TRAJECTORY[:1])[0])
    items = [snapshot(track_id, TRAJECTORY[1]), plain, snapshot(track_id, TRAJECTORY[2]), 1]
    results = learned.post("/locate/batch", json={"items": [*items, snapshot(track_id, TRAJECTORY[0])]}).json()
    first, alone, second, bad, third = results["results"]
    assert fallbacks_of(first["location"]) == fallbacks_of(second["location"]) == {"scadf-moe": "TRACK_TOO_SHORT"}
    assert not fallbacks_of(alone["location"])
    assert "problem" in bad
    assert third["location"]["provenance"]["source"] == "scadf-moe"
    np.testing.assert_allclose(point_of(third["location"]), TRAJECTORY[0], atol=0.5)


@pytest.mark.parametrize("track_id", ["", "x" * 129, 7])
def test_a_track_id_is_a_short_text(learned: httpx.Client, track_id: object) -> None:
    response = learned.post("/locate", json=snapshot("a", TRAJECTORY[0]) | {"trackId": track_id})
    assert (response.status_code, response.json()["invalidParams"][0]["param"]) == (400, "/trackId")


def test_metrics_count_tracks_but_name_none(learned: httpx.Client, track_id: str) -> None:
    locate(learned, snapshot(track_id, TRAJECTORY[0]))
    metrics = learned.get("/metrics").text
    assert 'fingerpost_tracks_total{method="scadf-moe",outcome="TRACK_TOO_SHORT"}' in metrics
    assert track_id not in metrics


def test_a_snapshot_survives_its_bytes() -> None:
    one = snapshot_at(0, request_id="r")
    back = TrackSnapshot.from_bytes(one.to_bytes())
    assert back[1:] == one[1:]
    np.testing.assert_array_equal(back.pairs(), one.pairs())
    np.testing.assert_allclose(one.pairs().view(np.complex64)[..., 0], seen_at(TRAJECTORY)[0], rtol=2e-3, atol=1e-8)
    for damaged in (b"", one.to_bytes()[:-2]):
        with pytest.raises(ValueError, match=r"bytes|reshape"):
            TrackSnapshot.from_bytes(damaged)


@pytest.fixture(params=["memory", "redis_server", "redis_cluster"])
def servers(request: pytest.FixtureRequest) -> RedisServers | None:
    """Where tracks are kept; None: in the process."""
    if request.param == "memory":
        return None
    servers: RedisServers = request.getfixturevalue(request.param)
    empty(servers)
    return servers


def make_tracks(servers: RedisServers | None, ttl_s: float = 60, limit: int = 3) -> Tracks[TrackSnapshot]:
    if servers is None:
        return MemoryTracks(VERTICES, ttl_s, limit)
    return RedisTracks("csi", TrackSnapshot.from_bytes, servers.url, VERTICES, ttl_s, limit, waiting_limit=8)


@pytest.fixture
def tracks(servers: RedisServers | None) -> Iterator[Tracks[TrackSnapshot]]:
    tracks = make_tracks(servers)
    yield tracks
    tracks.close()


async def extended(
    tracks: Tracks[TrackSnapshot], snapshot: TrackSnapshot, name: TrackName = NAME
) -> list[TrackSnapshot]:
    """However slow the machine is: Redis is only waited for so long, and then left alone for a while."""
    async with asyncio.timeout(GUARD_S):
        while True:
            try:
                return await tracks.append(name, snapshot)
            except TracksUnavailable:
                await asyncio.sleep(0.1)


@pytest.mark.anyio
async def test_of_a_track_the_last_snapshots_are_kept(tracks: Tracks[TrackSnapshot]) -> None:
    for i in range(VERTICES + 2):
        kept = await extended(tracks, snapshot_at(0, i))
    assert moments_of(kept) == [float(i) for i in range(2, VERTICES + 2)]
    np.testing.assert_array_equal(kept[-1].pairs(), snapshot_at(0).pairs())


@pytest.mark.anyio
async def test_the_same_request_is_one_snapshot(tracks: Tracks[TrackSnapshot]) -> None:
    for i in range(VERTICES):
        kept = await extended(tracks, snapshot_at(0, i, "r"))
    assert moments_of(kept) == [VERTICES - 1]
    assert len(await extended(tracks, snapshot_at(1, 9, "s"))) == 2


@pytest.mark.anyio
async def test_the_same_csi_and_time_is_one_snapshot(tracks: Tracks[TrackSnapshot]) -> None:
    await extended(tracks, snapshot_at(0, 1, "r"))
    await extended(tracks, snapshot_at(0, 2))
    assert moments_of(await extended(tracks, snapshot_at(0, 1))) == [2, 1]
    assert len(await extended(tracks, snapshot_at(1, 1))) == 3


@pytest.mark.anyio
async def test_a_track_belongs_to_its_owner(tracks: Tracks[TrackSnapshot]) -> None:
    await extended(tracks, snapshot_at(0))
    for stranger in (NAME._replace(owner=""), NAME._replace(owner="other"), NAME._replace(cell_id="bare")):
        assert len(await extended(tracks, snapshot_at(1), stranger)) == 1
    assert len(await extended(tracks, snapshot_at(1))) == 2


@pytest.mark.anyio
async def test_the_tracks_of_one_owner_never_displace_those_of_another(tracks: Tracks[TrackSnapshot]) -> None:
    await extended(tracks, snapshot_at(0))
    for number in range(5):  # of which 3 are kept
        await extended(tracks, snapshot_at(0), NAME._replace(owner="greedy", track_id=str(number)))
    assert len(await extended(tracks, snapshot_at(1))) == 2


@pytest.mark.anyio
async def test_two_replicas_count_a_snapshot_sent_to_both_at_once_as_one(redis_server: RedisServer) -> None:
    empty(redis_server)
    one, other = make_tracks(redis_server), make_tracks(redis_server)
    try:
        for _ in range(VERTICES):
            await asyncio.gather(*(extended(tracks, snapshot_at(0)) for tracks in (one, other) * 2))
        assert len(await extended(one, snapshot_at(0))) == 1
    finally:
        one.close()
        other.close()


@pytest.mark.anyio
async def test_of_too_many_tracks_the_ones_not_used_for_longest_are_forgotten(tracks: Tracks[TrackSnapshot]) -> None:
    for track_id in ("a", "b", "a", "c", "d"):  # "b" makes room
        await extended(tracks, snapshot_at(0), NAME._replace(track_id=track_id))
    await extended(tracks, snapshot_at(1), NAME)
    assert [len(await extended(tracks, snapshot_at(2), NAME._replace(track_id=name))) for name in ("a", "b")] == [3, 1]


@pytest.mark.anyio
async def test_tracks_are_forgotten_by_themselves(servers: RedisServers | None) -> None:
    tracks = make_tracks(servers, ttl_s=0.2)
    try:
        await extended(tracks, snapshot_at(0))
        async with asyncio.timeout(GUARD_S):
            while keys_of(servers) if servers else len(tracks):  # type: ignore[arg-type]
                await asyncio.sleep(0.05)
        assert len(await extended(tracks, snapshot_at(1))) == 1
    finally:
        tracks.close()


@pytest.mark.anyio
async def test_what_redis_keeps_expires_and_names_nobody(redis_server: RedisServer) -> None:
    empty(redis_server)
    tracks = make_tracks(redis_server)
    await extended(tracks, snapshot_at(0), NAME._replace(track_id="somebody's own name"))
    tracks.close()
    keys = keys_of(redis_server)
    assert len(keys) == 2
    assert not any("somebody" in key for key in keys)
    (node,) = nodes_of(redis_server)
    with node.client() as client:
        assert all(0 < client.pttl(key) <= 60_000 for key in keys)


@pytest.mark.anyio
async def test_an_absent_redis_is_waited_for_once_and_then_left_alone() -> None:
    tracks = RedisTracks("csi", TrackSnapshot.from_bytes, "redis://127.0.0.1:1", VERTICES, 60, 3, waiting_limit=8)
    for _ in range(3):
        with pytest.raises(TracksUnavailable):
            await tracks.append(NAME, snapshot_at(0))
    tracks.close()


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.anyio
async def test_replicas_share_tracks_and_go_on_without_redis(redis_here: None, tmp_path: Path, track_id: str) -> None:
    server = RedisServer(tmp_path / "redis")
    try:
        settings = write_artifacts(tmp_path / "service").model_copy(update={"redis_url": server.url})
        store = open_store(server.url)
        fill(store)
        store.close()
        async with replica(settings) as one, replica(settings) as other:

            async def sources(*clients: httpx.AsyncClient) -> list[str]:
                answers = []
                for client, position in zip(clients, TRAJECTORY, strict=True):
                    response = await client.post("/locate", json=snapshot(track_id, position))
                    assert response.status_code == 200, response.text
                    provenance = response.json()["provenance"]
                    answers.append(passed_or_source(provenance))
                return answers

            async with asyncio.timeout(GUARD_S):
                while (await sources(one, other, one))[-1] != "scadf-moe":  # Redis was too slow once
                    await asyncio.sleep(0.1)
            server.stop()
            assert await sources(one, other, one) == ["TRACKS_UNAVAILABLE"] * 3
    finally:
        server.kill()


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_a_client_neither_breaks_nor_learns_of_the_track_of_another_key(
    where: str, tmp_path: Path, track_id: str, request: pytest.FixtureRequest
) -> None:
    keys = tmp_path / "keys.json"
    one, other = ({"headers": bearing(added_key(keys, ["locate"]))} for _ in range(2))
    settings = write_artifacts(tmp_path / "service").model_copy(update={"keys_file": keys})
    if where == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        empty(server)
        settings = settings.model_copy(update={"redis_url": server.url})
    store = open_store(settings.redis_url or settings.database_directory)
    fill(store)
    store.close()

    async with replica(settings) as client:

        async def ask(position: np.ndarray, sender: Any) -> Any:
            response = await client.post("/locate", json=snapshot(track_id, position), **sender)
            provenance = response.json()["provenance"]
            return passed_or_source(provenance)

        async with asyncio.timeout(GUARD_S):
            while True:
                found = [await ask(position, one) for position in TRAJECTORY[:-1]]
                found += [await ask(position + 20, other) for position in TRAJECTORY[:-1]]
                found.append(await ask(TRAJECTORY[-1], one))
                if "TRACKS_UNAVAILABLE" not in found:  # Redis was not too slow
                    break
                track_id += "x"
        assert found == ["TRACK_TOO_SHORT"] * 4 + ["scadf-moe"]


@pytest.mark.anyio
async def test_without_an_artifact_for_trajectories_mateformer_answers(tmp_path: Path) -> None:
    settings = write_artifacts(tmp_path).model_copy(update={"trajectory_artifact_directory": None})
    fill(DirectoryStore(settings.database_directory))
    async with replica(settings) as client:
        response = await client.post("/locate", json=snapshot("a", TRAJECTORY[0]))
    assert fallbacks_of(response.json()) == {"scadf-moe": "NO_TRAJECTORY_ARTIFACT"}
