"""Tracks with the real service, and the requests that they make of a service that refuses."""

import json
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from fingerpost import AsyncClient, Client, CoarsePosition, LocateResponse, Problem, Refused, TrackProvenance
from fingerpost.track import TrackMemory, locate_on_track
from tests.service.learned_cells import TRAJECTORY, path_features_at, seen_at

CSI = seen_at(TRAJECTORY)
FEATURES = path_features_at(TRAJECTORY)
VERTICES = len(TRAJECTORY)
NOW = datetime.now(UTC)


def sources(answers: list[LocateResponse]) -> list[str]:
    return [one.provenance.source for one in answers]


def error_of(answer: LocateResponse, place: np.ndarray) -> float:
    assert answer.local_location_estimate is not None
    point = answer.local_location_estimate.point
    return float(np.hypot(point.x - place[0], point.y - place[1]))


def test_a_user_is_located_by_the_last_snapshots_together_as_soon_as_there_are_enough(learned_url: str) -> None:
    with Client(learned_url) as client:
        track = client.track("both", snapshots=VERTICES)
        alone = [track.locate(csi) for csi in CSI[:-1]]
        together = track.locate(CSI[-1], timestamp=NOW, request_id="7", confidence=90)
        track.forget()
        measured = [track.locate(csi, None, one) for csi, one in zip(CSI, FEATURES, strict=True)][-1]
    assert sources([*alone, together]) == ["mateformer"] * (VERTICES - 1) + ["scadf-moe"]
    assert (together.request_id, together.confidence) == ("7", 90)
    assert together.timestamp_of_location_estimate == NOW
    for answer, features, accuracy in ((together, "estimated", 1.0), (measured, "measured", 1e-2)):
        assert isinstance(answer.provenance, TrackProvenance)
        assert (answer.provenance.snapshots, answer.provenance.path_features) == (VERTICES, features)
        assert error_of(answer, TRAJECTORY[-1]) < accuracy


@pytest.mark.anyio
async def test_a_user_who_moves_far_or_is_in_another_cell_is_located_by_each_snapshot_alone(learned_url: str) -> None:
    async with AsyncClient(learned_url) as client:
        fast, other = client.track("both", snapshots=VERTICES), client.track("unlearned", snapshots=VERTICES)
        coarse = CoarsePosition(x=50.0, y=5.0, h_accuracy=5.0)
        moved = [await fast.locate(csi) for csi in seen_at(TRAJECTORY + np.array([[0, 0], [10, 0], [0, 9]]))]
        unlearned = [await other.locate(csi, coarse) for csi in CSI]
        with pytest.raises(Refused, match="CELL_NOT_FOUND"):
            await client.track("nowhere", snapshots=1).locate(CSI[0])
    assert sources([*moved, *unlearned]) == ["mateformer"] * 2 * VERTICES
    assert all(one.provenance.coarse_position_used for one in unlearned)  # type: ignore[union-attr]


def answer(status: int, cause: str) -> httpx.Response:
    problem = Problem(title="", status=status, detail="", cause=cause)
    return httpx.Response(status, content=problem.model_dump_json(), request=httpx.Request("POST", "http://service"))


def paths(track: TrackMemory, csi: np.ndarray, cause: str, **fields: float) -> list[tuple[str, dict[str, float]]]:
    """The requests about one snapshot that the service refuses, for `cause` where it is a trajectory."""
    asked, exchange = [], locate_on_track(track, csi, **fields)  # type: ignore[arg-type]
    attempt = next(exchange)
    with suppress(Refused):
        while True:
            asked.append((attempt.path, json.loads(attempt.content)))
            attempt = exchange.send(answer(409, cause) if "trajectory" in attempt.path else answer(503, "QUEUE_FULL"))
    return asked


@pytest.mark.parametrize(
    ("cause", "asked_again"),
    [("NF_CONGESTION", True), ("ESTIMATE_NOT_FINITE", True), ("NO_TRAJECTORY_ARTIFACT", False)],
)
def test_a_trajectory_is_asked_for_again_unless_this_cell_has_none(cause: str, asked_again: bool) -> None:
    track = TrackMemory("both", 2, 30.0)
    assert [path for path, _ in paths(track, CSI[0], cause)] == ["/locate"]
    assert [path for path, _ in paths(track, CSI[1], cause)] == ["/locate/trajectory", "/locate"]
    assert ("/locate/trajectory" in dict(paths(track, CSI[2], cause))) == asked_again


def test_a_number_of_snapshots_that_the_service_does_not_take_is_warned_of_once() -> None:
    track = TrackMemory("both", 2, 30.0)
    paths(track, CSI[0], "")
    with pytest.warns(UserWarning, match="cell both: .*another number of snapshots"):
        paths(track, CSI[1], "TRAJECTORY_LENGTH")
    assert [path for path, _ in paths(track, CSI[2], "TRAJECTORY_LENGTH")] == ["/locate"]


def test_what_is_left_of_the_deadline_goes_with_the_second_request() -> None:
    track = TrackMemory("both", 1, 30.0)
    (_, first), (_, second) = paths(track, CSI[0], "TRACK_TOO_WIDE", max_resp_time=5.0)
    assert 0 < second["maxRespTime"] < first["maxRespTime"] == 5.0
    *_, (_, late) = paths(track, CSI[0], "TRACK_TOO_WIDE", max_resp_time=1e-6)
    assert late["maxRespTime"] > 0


def test_a_snapshot_that_is_sent_again_counts_once_and_old_ones_are_forgotten() -> None:
    track = TrackMemory("both", 3, 30.0)
    for csi in (CSI[0], CSI[0], CSI[1]):
        paths(track, csi, "")
    assert track.remembered == 2
    paths(track, CSI[2], "")
    assert track.remembered == 3
    brief = TrackMemory("both", 3, 0.0)
    for csi in CSI:
        paths(brief, csi, "")
    assert brief.remembered == 1
