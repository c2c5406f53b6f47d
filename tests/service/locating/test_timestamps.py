"""Times that cannot be times of a measurement are refused by name, wherever a request has one."""

from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from tests.service.learned_cells import TRAJECTORY, snapshot, trajectory
from tests.service.plane_cell import Json

NEVER = [
    timedelta(days=30),
    timedelta(minutes=2),
    "9999-12-31T23:59:59-12:00",
    "1970-01-01T00:00:00Z",
    "1969-12-31T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "2000-01-01T00:00:07Z",
]


@pytest.fixture(params=NEVER, ids=str)
def never(request: pytest.FixtureRequest) -> str:
    """A time at which no snapshot was measured."""
    moment: str | timedelta = request.param
    return moment if isinstance(moment, str) else (datetime.now(UTC) + moment).isoformat()


def assert_refused(problem: Json, param: str) -> None:
    assert (problem["status"], problem["cause"]) == (400, "TIMESTAMP_IMPLAUSIBLE")
    assert [one["param"] for one in problem["invalidParams"]] == [param]


@pytest.mark.parametrize("fields", [{"trackId": None}, {}])
def test_of_a_user(learned: httpx.Client, never: str, fields: Json) -> None:
    body = snapshot("timestamps", TRAJECTORY[0], timestamp=never) | fields
    assert_refused(learned.post("/locate", json=body).json(), "/timestamp")
    results = learned.post("/locate/batch", json={"items": [body, body | {"timestamp": None}]}).json()["results"]
    assert_refused(results[0]["problem"], "/timestamp")
    assert "location" in results[1]


@pytest.mark.parametrize("wrong", ["2026-01-31T12:00:00", "2026-13-31T12:00:00Z", "2026-01-31", "now", 1.7e9, "1.7e9"])
def test_a_time_of_another_form_is_told_the_right_one(learned: httpx.Client, wrong: str | float) -> None:
    body = snapshot("timestamps", TRAJECTORY[0], timestamp=wrong)
    problem = learned.post("/locate", json=body).json()
    (invalid,) = problem["invalidParams"]
    assert (problem["status"], invalid["param"]) == (400, "/timestamp")
    assert invalid["reason"] == "Input should be an RFC 3339 date and time with a UTC offset"


def test_of_a_snapshot_of_a_trajectory(learned: httpx.Client, never: str) -> None:
    body = trajectory()
    body["snapshots"][1]["timestamp"] = never
    assert_refused(learned.post("/locate/trajectory", json=body).json(), "/snapshots/1/timestamp")


def test_of_a_fingerprint(learned: httpx.Client, never: str) -> None:
    sent = snapshot("a", TRAJECTORY[0])["csi"]
    row = {"csi": sent, "x": 50.0, "y": 5.0}
    path = "/cells/unlearned/fingerprints"
    problem = learned.post(path, json={"fingerprints": [row, row | {"time": never}]}).json()
    assert (problem["status"], problem["cause"]) == (422, "FINGERPRINT_REFUSED"), problem
    assert problem["invalidParams"][0]["param"] == "/fingerprints/1"


@pytest.mark.parametrize("offset", [timedelta(seconds=30), timedelta(days=-1000)])
def test_clocks_may_differ_a_little_and_snapshots_may_be_old(learned: httpx.Client, offset: timedelta) -> None:
    moment = datetime.now(UTC) + offset
    answer = learned.post("/locate", json=snapshot("timestamps", TRAJECTORY[0], timestamp=moment.isoformat())).json()
    assert answer["ageOfLocationEstimate"] == min(max(int(-offset.total_seconds()) // 60, 0), 32767)
    assert msgspec.json.decode(f'"{answer["timestampOfLocationEstimate"]}"', type=datetime) == moment
