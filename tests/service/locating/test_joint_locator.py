"""Snapshots located together by comparison with fingerprints, over HTTP, and what tracks keep of them.

The tiny network answers the middle of a neighbourhood for each snapshot, and the Kalman smoother for all together.
"""

import base64
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest

from fingerpost import Client, Refused
from fingerpost.csi import encode_csi
from fingerpost.wire import CoarsePosition
from fingerpost.wire_provenance import Provenance
from fingerpost.wire_trajectory import Snapshot
from models.artifact import Motion, Scales, TrackLevel, TracksContract
from models.artifact.smoother import smooth
from reference_db import DirectoryStore
from service.locating.located_snapshots import LocatedSnapshot, split_track
from service.locating.redis_tracks import RedisTracks
from service.locating.tracks import SnapshotNames, TrackName, TrackSnapshot
from tests.redis_servers import GUARD_S, RedisServer, empty
from tests.service.learned_cells import (
    ANTENNAS,
    SUBCARRIERS,
    TRAJECTORY,
    fill,
    local_points,
    locate,
    point_of,
    seen_at,
    snapshot,
    trajectory,
    write_artifacts,
)
from tests.service.plane_cell import Json
from tests.service.serving import serving
from tests.service.tiny_artifact import SIGMA_M, only, write_tiny_artifact
from tests.service.tiny_trajectory_artifact import VERTICES

MOTION = Motion(speed=1.0, wander=0.2, trust=1.0)
FACTORS = Scales(factors={50: 1.0, 95: 2.0, 99: 3.0})
CONTRACT = TracksContract(
    snapshots=5,
    stride=4.0,
    motion=MOTION,
    levels=(TrackLevel(accuracy=None, snapshots=5, alone=FACTORS, together=FACTORS),),
)
WALK = np.array([[40.0, 4.0], [41.2, 4.2], [42.4, 4.4], [43.6, 4.6], [44.8, 4.8], [46.0, 5.0]])
FIX = {"hAccuracy": 1.0}
CELL = "unlearned"  # by the artifact for trajectories
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def joint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = write_artifacts(tmp_path_factory.mktemp("joint"), tracks=CONTRACT)
    fill(DirectoryStore(settings.database_directory))
    with serving(settings) as address:
        yield address


@pytest.fixture
def joint(joint_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=joint_url, timeout=60) as client:
        yield client


def walk(cell_id: str = CELL, places: np.ndarray = WALK[:5], gap_s: float = 1.0) -> Json:
    """A request with a fix and a time for each snapshot."""
    body = trajectory(cell_id, places)
    for i, (one, (x, y)) in enumerate(zip(body["snapshots"], places.tolist(), strict=True)):
        del one["pathFeatures"]
        one |= {
            "coarsePosition": {"x": x, "y": y, **FIX},
            "timestamp": (NOW + timedelta(seconds=gap_s * i)).isoformat(),
        }
    return body


def ask(client: httpx.Client, body: Json) -> Json:
    response = client.post("/locate/trajectory", json=body)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def locate_each(client: httpx.Client, body: Json) -> np.ndarray:
    """Where each snapshot of a trajectory is by itself, `[t, 2]`."""
    alone = [{"cellId": body["cellId"], **one} for one in body["snapshots"]]
    return np.array([point_of(locate(client, one)) for one in alone])


def smoothed(estimates: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    gaps = seconds / seconds[-1] * (len(seconds) - 1)
    covariances = np.broadcast_to(SIGMA_M**2 * np.eye(2), (1, len(estimates), 2, 2))
    return smooth(estimates[np.newaxis], covariances, gaps[np.newaxis], MOTION).positions[0]


def test_the_snapshots_of_a_trajectory_are_located_together(joint: httpx.Client) -> None:
    body = walk()
    alone, answer = locate_each(joint, body), ask(joint, body)
    found = local_points(answer)
    assert np.abs(found - alone).max() > 0.05
    np.testing.assert_allclose(found, smoothed(alone, np.arange(5.0)), atol=1e-3)
    np.testing.assert_allclose(point_of(answer["centroid"]), found.mean(axis=0), atol=1e-3)
    (model,) = (one for one in joint.get("/models").json()["models"] if one["family"] == "mateformer")
    version = joint.get(f"/cells/{CELL}").json()["version"]
    artifact = {name: model[name] for name in ("name", "version", "digest")}
    assert answer["provenance"] == {"source": "mateformer", "artifact": artifact, "cellVersion": version}
    for point in answer["points"]:
        assert "pathFeatures" not in point
        assert point["provenance"]["snapshots"] == 5
        assert point["provenance"]["coarsePositionUsed"]


def test_times_of_measurement_count_and_their_order_in_the_request_does_not(joint: httpx.Client) -> None:
    body = walk()
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    for one, elapsed in zip(body["snapshots"], seconds, strict=True):
        one["timestamp"] = (NOW - timedelta(seconds=60 - elapsed)).isoformat()
    alone, found = locate_each(joint, body), local_points(ask(joint, body))
    np.testing.assert_allclose(found, smoothed(alone, seconds), atol=1e-3)
    order = [3, 0, 4, 1, 2]
    shuffled = local_points(ask(joint, body | {"snapshots": [body["snapshots"][i] for i in order]}))
    np.testing.assert_allclose(shuffled, found[order], atol=1e-3)


def test_without_times_snapshots_follow_each_other_at_even_gaps(joint: httpx.Client) -> None:
    body = walk()
    for one in body["snapshots"]:
        del one["timestamp"]
    found = local_points(ask(joint, body))
    np.testing.assert_allclose(found, smoothed(locate_each(joint, body), np.arange(5.0)), atol=1e-3)


def test_if_one_snapshot_has_no_time_those_of_the_others_do_not_count(joint: httpx.Client) -> None:
    body = walk(gap_s=-3.0)
    del body["snapshots"][1]["timestamp"]
    found = local_points(ask(joint, body))
    np.testing.assert_allclose(found, smoothed(locate_each(joint, body), np.arange(5.0)), atol=1e-3)


def test_a_user_who_was_not_seen_for_too_long_begins_anew(joint: httpx.Client) -> None:
    body = walk()
    for one, elapsed in zip(body["snapshots"], (0.0, 1.0, 2.0, 900.0, 901.0), strict=True):
        one["timestamp"] = (NOW - timedelta(seconds=1000 - elapsed)).isoformat()
    alone, answer = locate_each(joint, body), ask(joint, body)
    assert [point["provenance"]["snapshots"] for point in answer["points"]] == [3, 3, 3, 2, 2]
    expected = [*smoothed(alone[:3], np.arange(3.0)), *smoothed(alone[3:], np.arange(2.0))]
    np.testing.assert_allclose(local_points(answer), expected, atol=1e-3)


def test_one_measurement_sent_again_and_again_counts_once(joint: httpx.Client) -> None:
    body = walk()
    body["snapshots"] = [body["snapshots"][0] | {"timestamp": one["timestamp"]} for one in body["snapshots"]]
    assert not any("snapshots" in point["provenance"] for point in ask(joint, body)["points"])


def test_the_models_say_which_tracks_they_locate(joint: httpx.Client) -> None:
    (model,) = (one for one in joint.get("/models").json()["models"] if one["family"] == "mateformer")
    assert model["tracks"] == {"snapshots": CONTRACT.snapshots, "stride": CONTRACT.stride}


def test_one_snapshot_is_located_as_it_is_alone(joint: httpx.Client) -> None:
    body = walk(places=WALK[:1])
    answer = ask(joint, body)
    np.testing.assert_allclose(local_points(answer), locate_each(joint, body), atol=1e-3)
    assert "snapshots" not in answer["points"][0]["provenance"]
    alone = locate(joint, {"cellId": CELL, **body["snapshots"][0]})
    assert answer["points"][0]["hAccuracy"] == pytest.approx(alone["hAccuracy"])


def test_ellipses_of_points_are_as_much_wider_as_the_cells_own(joint: httpx.Client) -> None:
    """The tiny network states SIGMA_M for each snapshot, and the spread of the smoother for all together."""
    body = walk()
    alone = [locate(joint, {"cellId": CELL, **one}) for one in body["snapshots"]]
    areas = []
    for one in alone:
        ellipse = one["locationEstimate"]["uncertaintyEllipse"]
        areas.append(ellipse["semiMajor"] * ellipse["semiMinor"] / (SIGMA_M * FACTORS.factors[95]) ** 2)
    wider = math.sqrt(float(np.exp(np.mean(np.log(areas)))))
    gaps, covariances = np.arange(5.0)[np.newaxis], np.broadcast_to(SIGMA_M**2 * np.eye(2), (1, 5, 2, 2))
    stated = smooth(np.zeros((1, 5, 2)), covariances, gaps, MOTION).covariances[0]
    for confidence in (50, 95):
        answer = ask(joint, body | {"confidence": confidence})
        for point, covariance in zip(answer["points"], stated, strict=True):
            expected = FACTORS.factors[confidence] * wider * math.sqrt(covariance[0, 0])
            assert point["hAccuracy"] == pytest.approx(expected, rel=1e-3)
            assert point["confidence"] == confidence
        middle = np.sqrt(np.mean([point["hAccuracy"] ** 2 for point in answer["points"]]))
        assert answer["centroid"]["hAccuracy"] == pytest.approx(middle, rel=1e-3)


def test_users_who_go_too_far_between_snapshots_are_located_alone(joint: httpx.Client) -> None:
    body = walk(places=np.array([[20.0, 4.0], [50.0, 4.0]]))
    answer = ask(joint, body)
    np.testing.assert_allclose(local_points(answer), locate_each(joint, body), atol=1e-3)
    assert not any("snapshots" in point["provenance"] for point in answer["points"])


def test_a_snapshot_whose_fix_the_signal_contradicts_is_located_alone(joint: httpx.Client) -> None:
    body = walk()
    body["snapshots"][1]["coarsePosition"] |= {"x": 52.0, "y": 20.0, "hAccuracy": 0.1}
    alone, answer = locate_each(joint, body), ask(joint, body)
    odd = answer["points"].pop(1)
    assert odd["provenance"]["coarsePositionIgnored"] == "COARSE_POSITION_CONTRADICTED"
    assert "snapshots" not in odd["provenance"]
    assert {point["provenance"]["snapshots"] for point in answer["points"]} == {4}
    rest = smoothed(np.delete(alone, 1, axis=0), np.array([0.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(local_points(answer), rest, atol=1e-3)


def test_a_learned_cell_has_its_own_artifact_and_any_other_length_goes_to_fingerprints(joint: httpx.Client) -> None:
    learned = ask(joint, trajectory("both"))
    assert learned["provenance"]["source"] == "scadf-moe"
    assert len(learned["points"]) == VERTICES
    assert ask(joint, walk("both"))["provenance"]["source"] == "mateformer"
    assert ask(joint, walk("other-band"))["provenance"]["source"] == "mateformer"
    assert ask(joint, trajectory("only-fingerprints"))["provenance"]["source"] == "mateformer"


@pytest.mark.parametrize(
    ("cell_id", "snapshots", "status", "cause"),
    [
        (CELL, 6, 400, "TRAJECTORY_LENGTH"),
        ("both", 6, 400, "TRAJECTORY_LENGTH"),
        ("only-tracks", 5, 400, "TRAJECTORY_LENGTH"),
        ("bare", 5, 400, "TRAJECTORY_LENGTH"),
        ("nowhere", 5, 404, "CELL_NOT_FOUND"),
    ],
)
def test_why_snapshots_are_not_located_is_named(
    joint: httpx.Client, cell_id: str, snapshots: int, status: int, cause: str
) -> None:
    response = joint.post("/locate/trajectory", json=walk(cell_id, WALK[:snapshots]))
    assert (response.status_code, response.json()["cause"]) == (status, cause), response.text


@pytest.mark.parametrize(
    ("change", "cause", "param"),
    [
        ({"coarsePosition": {"x": 1.0, "lat": 2.0, **FIX}}, "COARSE_POSITION_INCORRECT", "/coarsePosition"),
        ({"coarsePosition": {"x": 1e5, "y": 0.0, **FIX}}, "COARSE_POSITION_OUTSIDE_CELL", "/coarsePosition"),
        ({"coarsePosition": {"x": 1.0, "y": 2.0}}, "MANDATORY_IE_MISSING", "/coarsePosition/hAccuracy"),
        ({"timestamp": "1970-01-01T00:00:00Z"}, "TIMESTAMP_IMPLAUSIBLE", "/timestamp"),
    ],
)
def test_the_snapshot_at_fault_is_named(joint: httpx.Client, change: Json, cause: str, param: str) -> None:
    body = walk()
    body["snapshots"][2] |= change
    problem = joint.post("/locate/trajectory", json=body).json()
    assert problem["cause"] == cause
    assert [one["param"] for one in problem["invalidParams"]] == [f"/snapshots/2{param}"]


def test_a_snapshot_without_an_answer_is_a_problem_and_spoils_no_other_trajectory(joint: httpx.Client) -> None:
    body = walk()
    body["snapshots"][0]["csi"]["data"] = base64.b64encode((-seen_at(WALK[:1])[0]).tobytes()).decode()
    response = joint.post("/locate/trajectory", json=body)
    assert (response.status_code, response.json()["cause"]) == (500, "ESTIMATE_NOT_FINITE")
    ask(joint, walk())


def on_track(track_id: str, number: int, **fields: object) -> Json:
    x, y = WALK[number].tolist()
    moment = (NOW - timedelta(seconds=30 - number)).isoformat()
    return snapshot(track_id, WALK[number], CELL, coarsePosition={"x": x, "y": y, **FIX}, timestamp=moment) | fields


def test_a_track_is_located_together_from_its_second_snapshot_on(joint: httpx.Client) -> None:
    track_id = uuid4().hex
    alone = np.array([point_of(locate(joint, on_track(uuid4().hex, i))) for i in range(len(WALK))])
    for i in range(len(WALK)):
        answer = locate(joint, on_track(track_id, i))
        provenance = answer["provenance"]
        assert provenance["source"] == "mateformer"
        assert "fallbacks" not in provenance  # in a cell that no artifact for trajectories has learned
        first = max(0, i - CONTRACT.snapshots + 1)
        assert provenance.get("snapshots", 1) == i - first + 1
        if i:
            expected = smoothed(alone[first : i + 1], np.arange(i - first + 1.0))[-1]
            np.testing.assert_allclose(point_of(answer), expected, atol=1e-3)


def test_a_retry_of_a_track_is_not_another_snapshot(joint: httpx.Client) -> None:
    track_id = uuid4().hex
    for _ in range(3):
        assert "snapshots" not in locate(joint, on_track(track_id, 0, requestId="r"))["provenance"]
    locate(joint, on_track(track_id, 1, requestId="s"))
    again = locate(joint, on_track(track_id, 0, requestId="r"))
    assert again["provenance"]["snapshots"] == 2
    np.testing.assert_allclose(point_of(again), point_of(locate(joint, on_track(track_id, 0, requestId="r"))))


def test_old_snapshots_and_those_of_other_versions_are_left_out(joint: httpx.Client, joint_url: str) -> None:
    track_id = uuid4().hex
    locate(joint, on_track(track_id, 0, timestamp=(NOW - timedelta(hours=1)).isoformat()))
    assert "snapshots" not in locate(joint, on_track(track_id, 1))["provenance"]
    before = locate(joint, on_track(track_id, 2))["provenance"]
    assert before["snapshots"] == 2
    with Client(joint_url) as client:
        client.cell(CELL).set_model("mateformer")
    deadline = time.monotonic() + GUARD_S
    while locate(joint, on_track(uuid4().hex, 0))["provenance"]["cellVersion"] == before["cellVersion"]:
        assert time.monotonic() < deadline
    assert "snapshots" not in locate(joint, on_track(track_id, 2))["provenance"]


def test_in_a_learned_cell_a_short_track_is_located_by_fingerprints_together(joint: httpx.Client) -> None:
    track_id = uuid4().hex
    first, second, third = (locate(joint, snapshot(track_id, place)) for place in TRAJECTORY)
    assert first["provenance"]["fallbacks"] == [{"method": "scadf-moe", "cause": "TRACK_TOO_SHORT"}]
    assert second["provenance"]["snapshots"] == 2
    assert second["provenance"]["fallbacks"] == first["provenance"]["fallbacks"]
    assert third["provenance"]["source"] == "scadf-moe"


def test_users_of_one_track_in_one_batch_are_located_together(joint: httpx.Client) -> None:
    track_id = uuid4().hex
    items = [on_track(track_id, 0), on_track(uuid4().hex, 3), on_track(track_id, 1)]
    results = joint.post("/locate/batch", json={"items": items}).json()["results"]
    counts = [one["location"]["provenance"].get("snapshots") for one in results]
    assert counts == [None, None, 2]


def test_metrics_count_tracks_by_fingerprints(joint: httpx.Client) -> None:
    track_id = uuid4().hex
    for i in range(2):
        locate(joint, on_track(track_id, i))
    metrics = joint.get("/metrics").text
    for outcome in ("first", "joint"):
        assert f'fingerpost_tracks_total{{method="mateformer",outcome="{outcome}"}}' in metrics
    assert "fingerpost_dispatch_tracks_count" in metrics


def test_the_clients_track_sends_what_it_remembers(joint_url: str) -> None:
    with Client(joint_url) as client:
        track = client.track(CELL, snapshots=3)
        counts = []
        for i, (x, y) in enumerate(WALK.tolist()):
            moment = NOW - timedelta(seconds=30 - i)
            coarse = CoarsePosition(x=x, y=y, h_accuracy=1.0)
            answer = track.locate(seen_at(WALK[i : i + 1])[0], coarse, timestamp=moment)
            assert isinstance(answer.provenance, Provenance)
            counts.append(answer.provenance.snapshots)
            if i == 3:
                track.forget()
        # From the third snapshot on the client knows that two are enough.
        assert counts == [None, None, 3, 3, None, 2]


def test_the_clients_track_forgets_a_snapshot_that_was_refused(joint_url: str) -> None:
    csi = seen_at(WALK)
    with Client(joint_url) as client:
        track = client.track(CELL, snapshots=3)
        for one in csi[:3]:
            track.locate(one)
        with pytest.raises(Refused, match="CSI_LEVEL_IMPLAUSIBLE"):
            track.locate(1000 * csi[3])
        answer = track.locate(csi[4])
        assert isinstance(answer.provenance, Provenance)
        assert answer.provenance.snapshots == 3
        track.remember(Snapshot(csi=encode_csi(1000 * csi[3])), time.monotonic())  # the service would refuse it
        answer = track.locate(csi[5])
        assert isinstance(answer.provenance, Provenance)
        assert answer.provenance.snapshots == 2


def test_the_client_sends_coarse_positions_and_times(joint_url: str) -> None:
    with Client(joint_url) as client:
        coarse = [CoarsePosition(x=x, y=y, h_accuracy=1.0) for x, y in WALK[:3].tolist()]
        moments = [NOW - timedelta(seconds=9 - i) for i in range(3)]
        answer = client.locate_trajectory(CELL, seen_at(WALK[:3]), coarse_positions=coarse, timestamps=moments)
        assert [one.timestamp_of_location_estimate for one in answer.points] == moments
        assert all(one.provenance and one.provenance.coarse_position_used for one in answer.points)
        with pytest.raises(ValueError, match="2 coarse positions for 3 snapshots"):
            client.locate_trajectory(CELL, seen_at(WALK[:3]), coarse_positions=coarse[:2])
        with pytest.raises(ValueError, match="0 timestamps for 3 snapshots"):
            client.locate_trajectory(CELL, seen_at(WALK[:3]), timestamps=[])


def kept(number: int) -> LocatedSnapshot:
    rng = np.random.default_rng(number)
    return LocatedSnapshot(
        rng.normal(size=2).astype(np.float32),
        rng.normal(size=(2, 2)).astype(np.float32),
        rng.normal(size=2).astype(np.float32),
        math.inf,
        0.5,
        3.0,
        rng.normal(size=256).astype(np.float16),
        1.7e9 + number,
        bytes(range(16)),
        number.to_bytes(16),
        SnapshotNames(bytes(16), number.to_bytes(16)),
    )


def test_what_tracks_keep_survives_its_bytes() -> None:
    one = kept(1)
    back = LocatedSnapshot.from_bytes(one.to_bytes())
    for mine, other in zip(one, back, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert one.to_bytes()[:32] == b"".join(one.names)  # as Redis compares them
    for damaged in (b"", one.to_bytes()[:70], one.to_bytes()[:-1]):
        with pytest.raises(ValueError, match=r"bytes|buffer|shape"):
            LocatedSnapshot.from_bytes(damaged)


def test_an_artifact_without_tracks_takes_over_only_where_it_is_forced(tmp_path: Path) -> None:
    settings = write_artifacts(tmp_path, tracks=CONTRACT)
    (tmp_path / "alone").mkdir()
    write_tiny_artifact(tmp_path / "alone", radios=only(ANTENNAS, SUBCARRIERS))
    fill(DirectoryStore(settings.database_directory))
    settings = settings.model_copy(update={"artifacts_directory": tmp_path})
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert ask(client, walk())["provenance"]["source"] == "mateformer"
        refused = client.post("/models/alone:activate")
        assert (refused.status_code, refused.json()["cause"]) == (409, "ARTIFACT_REFUSED")
        assert "locates 1 of a user's snapshots together at most, but clients send 5" in refused.json()["detail"]
        assert "force" in refused.json()["detail"]
        assert client.post("/models/alone:activate", params={"force": "true"}).status_code == 200
        problem = client.post("/locate/trajectory", json=walk()).json()
        assert problem["cause"] == "CELL_NOT_SERVED_BY_ARTIFACT"
        answer = locate(client, on_track("t", 0))
        assert answer["provenance"]["fallbacks"] == [{"method": "scadf-moe", "cause": "CELL_NOT_SERVED_BY_ARTIFACT"}]


@pytest.mark.anyio
async def test_redis_keeps_what_was_located_apart_from_csi(redis_server: RedisServer) -> None:
    empty(redis_server)
    name, limits = TrackName("c", "owner", "a"), (redis_server.url, 3, 60.0, 3, 8)
    located = RedisTracks("located", LocatedSnapshot.from_bytes, *limits)
    other = RedisTracks("csi", TrackSnapshot.from_bytes, *limits)
    csi = np.ones((2, 2, 2), np.float32)
    try:
        assert len(await other.append(name, TrackSnapshot.of(csi, 1.7e9))) == 1
        for number in (1, 2, 2, 3, 4):
            found = await located.append(name, kept(number))
        assert len(await other.append(name, TrackSnapshot.of(2 * csi, 1.7e9))) == 2
    finally:
        located.close()
        other.close()
    assert [one.time - 1.7e9 for one in found] == [2, 3, 4]
    for mine, stored in zip(kept(4), found[-1], strict=True):
        np.testing.assert_array_equal(mine, stored)


def seen_alone(number: int, east: float, seconds: float) -> LocatedSnapshot:
    """Within 3 m of a place, at 99 %."""
    ones, place = np.eye(2, dtype=np.float32), np.array([east, 0.0], np.float32)
    return kept(number)._replace(position=place, covariance=ones, wider=1.0, reach=3.0, time=seconds)


def numbers_of(part: list[LocatedSnapshot]) -> list[int]:
    return [int.from_bytes(one.content) for one in part]


@pytest.mark.parametrize(
    ("places", "seconds", "parts"),
    [
        ([0.0, 4.0, 8.0], [0.0, 1.0, 2.0], [[0, 1, 2]]),
        ([0.0, 4.0, 30.0, 8.0, 12.0], [0.0, 1.0, 2.0, 3.0, 4.0], [[0, 1], [2], [3, 4]]),  # a stranger
        ([0.0, 4.0, 30.0, 34.0], [0.0, 1.0, 2.0, 3.0], [[0, 1], [2, 3]]),  # a jump
        ([0.0, 4.0, 8.0], [0.0, 1.0, 40.0], [[0, 1], [2]]),  # not seen for too long
        ([8.0, 0.0, 4.0], [2.0, 0.0, 1.0], [[1, 2, 0]]),
        ([0.0, 9.9, 0.0], [0.0, 1.0, 2.0], [[0, 1, 2]]),
    ],
)
def test_a_track_is_split_where_nobody_can_have_gone(
    places: list[float], seconds: list[float], parts: list[list[int]]
) -> None:
    snapshots = [seen_alone(i, *one) for i, one in enumerate(zip(places, seconds, strict=True))]
    assert [numbers_of(part) for part in split_track(snapshots, stride=4.0, window_s=30.0)] == parts


def test_of_copies_of_a_measurement_the_last_counts() -> None:
    first, second = seen_alone(1, 0.0, 0.0), seen_alone(2, 1.0, 1.0)
    (part,) = split_track([first, second, first._replace(time=2.0)], 4.0, 30.0)
    assert numbers_of(part) == [2, 1]


def test_distances_are_in_ellipses_of_99_per_cent() -> None:
    one = seen_alone(1, 0.0, 0.0)._replace(wider=4.0)
    assert one.radius == pytest.approx(6.0)
    assert one.distance_to(np.array([0.0, 12.0])) == pytest.approx(2.0)
