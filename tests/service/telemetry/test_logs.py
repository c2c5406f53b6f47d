"""Logs and metrics hold no positions and no CSI."""

import base64
import json
import logging
import sys
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from reference_db import DirectoryStore
from service.settings import Settings
from service.telemetry.logs import JsonFormatter, LineFormatter
from tests.damage import damage
from tests.service.serving import serving
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS
from tests.service.tiny_service import added_key, bearing, make_tiny_settings

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# Numbers that nothing else produces.
EAST, NORTH, LAT, LON = 20.4123987, 0.1238754, 43.7004321, 11.2001987
SECRETS = ("20.4123", "0.12387", "43.7004", "11.2001", "31.4159", "2.71828")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "keys.json"
    return make_tiny_settings(tmp_path, keys_file=file, log_level="debug", access_log=True, log_format="json")


def _csi(value: complex) -> np.ndarray:
    return np.full((ANTENNAS, SUBCARRIERS), value, np.complex64)


def _journey(client: httpx.Client, database: Path) -> list[int]:
    """Makes good and bad requests of users and operators; returns the statuses."""
    good = build_locate_body("c", _csi(0.314159 + 1j), {"x": EAST, "y": NORTH, "hAccuracy": 1.0})
    somewhere = {"lat": LAT, "lon": LON, "hAccuracy": 31.4159}
    nowhere = build_locate_body("c", _csi(-1), {"x": EAST, "y": NORTH, "hAccuracy": 1.0}) | {"allowFallback": False}
    row = {"csi": good["csi"], "x": EAST, "y": NORTH}
    far = row | {"x": 2.71828e6, "y": NORTH}
    broken = row | {"csi": good["csi"] | {"data": base64.b64encode(_csi(np.nan).tobytes()).decode()}}
    answers = [
        client.post("/locate", json=good),
        client.post("/locate", json=good | {"coarsePosition": somewhere}),
        client.post("/locate", json={name: good[name] for name in ("cellId", "csi")}),
        client.post("/locate", json=nowhere),
        client.post("/locate", json=good | {"coarsePosition": {"x": EAST, "y": 2.71828e6, "hAccuracy": 1.0}}),
        client.post("/locate", json=good | {"coarsePosition": {"x": str(EAST), "y": NORTH}}),
        client.post("/locate", json=good | {"csi": good["csi"] | {"shape": [1, 1]}}),
        client.post("/locate", content=json.dumps(good).encode()[:-9], headers={"Content-Type": "application/json"}),
        client.post("/locate/batch", json={"items": [good, good | {"cellId": "nowhere"}, {"x": EAST}] * 15}),
        client.get(f"/locate?lat={LAT}&lon={LON}"),
        client.post("/cells/c/fingerprints?force=true", json={"fingerprints": [row, row | {"x": EAST + 1}]}),
        client.post("/cells/c/fingerprints", json={"fingerprints": [row, far]}),
        client.post("/cells/c/fingerprints", json={"fingerprints": [row, broken]}),
        client.post("/cells/c/fingerprints/delete", json={"circle": {"lat": LAT, "lon": LON, "radius": 0.271828}}),
        client.post("/cells/c/fingerprints/delete", json={"area": {"west": EAST, "south": 0, "east": 0, "north": 1}}),
        client.get("/cells/c/fingerprints"),
        client.get("/cells/c/export"),
        client.get("/cells/c/fingerprints", params={"near": f"{LAT},{LON}"}),
        client.post("/cells/c/rollback", json={"version": 1}),
        client.post("/locate", json=good),
    ]
    store = DirectoryStore(database)
    for segment in database.rglob("*.safetensors"):
        damage(segment, b"x" * 100)
    assert store.current("c") is not None
    answers.append(client.get("/cells/c/export"))
    return [answer.status_code for answer in answers]


def test_logs_and_metrics_hold_no_coordinates_csi_or_keys(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    assert settings.keys_file is not None
    key = added_key(settings.keys_file, ["locate", "operate", "read"])
    followed = bearing(key) | {"traceparent": TRACE, "X-Correlator": "here-i-am"}
    with serving(settings) as url, httpx.Client(base_url=url, headers=followed, timeout=60) as client:
        statuses = _journey(client, settings.database_directory)
        metrics = client.get("/metrics").text
    written = capfd.readouterr().err
    assert statuses[:4] == [200, 200, 200, 500]
    assert {400, 404, 405, 409, 422} & set(statuses)
    sample = base64.b64encode(_csi(0.314159 + 1j).tobytes()).decode()[:24]
    for secret in (*SECRETS, sample, "0.314159", key[16:]):
        assert secret not in written, secret
        assert secret not in metrics, secret
    lines = [json.loads(line) for line in written.splitlines()]
    assert {line["logger"] for line in lines} >= {"fingerpost.access", "fingerpost.cells", "fingerpost.updates"}
    accesses = [line for line in lines if line["logger"] == "fingerpost.access"]
    assert len(accesses) == len(statuses) + 1
    for line in accesses:
        assert (line["traceId"], line["spanId"], line["correlator"]) == (TRACE[3:35], TRACE[36:52], "here-i-am")


@pytest.fixture
def strange_requests() -> list[tuple[str, str]]:
    """One that is answered, one with a query, one for an unknown name, and two for paths without a route."""
    return [
        ("GET", "/health/live"),
        ("GET", "/cells/c?lat=43.7004321"),
        ("PUT", "/cells/nowhere/model"),
        ("GET", "/nothing%0A2026-01-01 ERROR fingerpost: forged"),
        ("GET", "/" + 3000 * "x"),
    ]


ROUTES = ["/health/live", "/cells/{cellId}", "/cells/{cellId}/model", "none", "none"]
STATUSES = [200, 400, 404, 404, 404]


def test_access_lines_have_method_route_path_status_duration_and_correlation_as_json(
    tmp_path: Path, strange_requests: list[tuple[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = make_tiny_settings(tmp_path, access_log=True, log_format="json", log_level="warning")
    headers = {"traceparent": TRACE, "X-Correlator": "here-i-am"}
    start = time.monotonic()
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for one in strange_requests:
            client.request(*one)
    whole = time.monotonic() - start
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    lines = [line for line in lines if line["logger"] == "fingerpost.access"]
    assert [line["method"] for line in lines] == [method for method, _ in strange_requests]
    assert [line["route"] for line in lines] == ROUTES
    assert [line["status"] for line in lines] == STATUSES
    assert [line["path"] for line in lines[:3]] == ["/health/live", "/cells/c", "/cells/nowhere/model"]
    assert all(line["duration"] > 0 for line in lines)
    assert sum(line["duration"] for line in lines) < whole
    assert {(line["client"], line["traceId"], line["correlator"]) for line in lines} == {
        ("127.0.0.1", TRACE[3:35], "here-i-am")
    }
    assert max(len(line["path"]) for line in lines) < 300


def test_access_lines_for_people_have_the_same_fields_and_cannot_be_forged(
    tmp_path: Path, strange_requests: list[tuple[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = make_tiny_settings(tmp_path, access_log=True, log_level="warning")
    headers = {"traceparent": TRACE, "X-Correlator": "here-i-am"}
    with serving(settings) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for one in strange_requests:
            client.request(*one)
    lines = [line for line in capfd.readouterr().err.splitlines() if " INFO fingerpost.access: " in line]
    fields = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    assert [(one["route"], int(one["status"])) for one in fields] == list(zip(ROUTES, STATUSES, strict=True))
    assert {(one["traceId"], one["correlator"]) for one in fields} == {(TRACE[3:35], "here-i-am")}
    assert all(float(one["duration"]) > 0 for one in fields)
    assert fields[1]["path"] == "/cells/c"


def test_a_failure_inside_the_service_has_an_access_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = make_tiny_settings(tmp_path, access_log=True, log_format="json")
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert (
            client.post("/locate", json=build_locate_body("c", _csi(-1)) | {"allowFallback": False}).status_code == 500
        )
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["logger"] == "fingerpost.access"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/locate", 500)
    assert line["cause"] == "ESTIMATE_NOT_FINITE"


def test_any_event_becomes_one_line_of_json() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("fingerpost", logging.ERROR, "", 0, 'a "%s"\n', ("b",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["logger"], fields["message"]) == ("ERROR", "fingerpost", 'a "b"\n')
    assert fields["time"].endswith("+00:00")
    assert "ValueError: two\nlines" in fields["exception"]


def test_a_name_from_outside_cannot_write_a_line_of_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    forged = "2026-11-29 12:00:00,000 ERROR fingerpost.server: forged"
    names = [f"x{quote(end)}{quote(forged)}" for end in ("\n", "\r", "\x85", "\u2028", "\x1b[2K")]
    with serving(make_tiny_settings(tmp_path, access_log=True)) as url:
        answers = [httpx.post(f"{url}/models/{name}:activate", timeout=60) for name in (*names, "a" * 5000)]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert all(len(answer.json()["detail"]) < 200 for answer in answers)
    lines = capfd.readouterr().err.splitlines()  # at each of these ends
    assert len([line for line in lines if "not activated" in line]) == 6
    assert not any(line.startswith(forged) or len(line) > 400 or "\x1b" in line for line in lines)


def test_a_traceback_cannot_look_like_a_line_of_the_log() -> None:
    try:
        raise ValueError("a\n2026-11-29 12:00:00,000 ERROR fingerpost: forged")
    except ValueError:
        record = logging.LogRecord("fingerpost", logging.ERROR, "", 0, "b\nc" + "d" * 5000, (), sys.exc_info())
    first, *rest = LineFormatter().format(record).splitlines()
    assert "b\\nc" in first
    assert len(first) < 2200
    assert rest
    assert all(line.startswith("    ") for line in rest)
