"""Logs and metrics hold no positions and no CSI."""

import base64
import json
import logging
import sys
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
    row = {"csi": good["csi"], "x": EAST, "y": NORTH}
    far = row | {"x": 2.71828e6, "y": NORTH}
    broken = row | {"csi": build_locate_body("c", _csi(np.nan))["csi"]}
    answers = [
        client.post("/locate", json=good),
        client.post("/locate", json=good | {"coarsePosition": somewhere}),
        client.post("/locate", json={name: good[name] for name in ("cellId", "csi")}),
        client.post("/locate", json=build_locate_body("c", _csi(-1), {"x": EAST, "y": NORTH, "hAccuracy": 1.0})),
        client.post("/locate", json=good | {"coarsePosition": {"x": EAST, "y": 2.71828e6, "hAccuracy": 1.0}}),
        client.post("/locate", json=good | {"coarsePosition": {"x": str(EAST), "y": NORTH}}),
        client.post("/locate", json=good | {"csi": good["csi"] | {"shape": [1, 1]}}),
        client.post("/locate", content=json.dumps(good).encode()[:-9]),
        client.post("/locate/batch", json={"items": [good, good | {"cellId": "nowhere"}, {"x": EAST}] * 15}),
        client.get(f"/locate?lat={LAT}&lon={LON}"),
        client.post("/cells/c/fingerprints", json={"fingerprints": [row, row | {"x": EAST + 1}]}),
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
    assert {line["logger"] for line in lines} >= {"uvicorn.access", "fingerpost.cells", "fingerpost.updates"}
    accesses = [line for line in lines if line["logger"] == "uvicorn.access"]
    assert len(accesses) == len(statuses) + 1
    for line in accesses:
        assert (line["traceId"], line["spanId"], line["correlator"]) == (TRACE[3:35], TRACE[36:52], "here-i-am")


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
