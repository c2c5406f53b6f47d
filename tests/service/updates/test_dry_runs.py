"""`?dryRun=true` of imports: what the service sees in a survey before anything is written."""

import io
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from fingerpost.wire_survey import SurveyReport
from reference_db import Fingerprints, LocalFrame
from reference_db.cell_description import write_description
from service.settings import Settings
from service.updates.cell_wire import describe_cell
from tests.reference_db.surveys import in_a_rectangle, make_cell, make_survey
from tests.service.running import running
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.updates.wire import Json, assert_problem, npz, sent

FILE = {"Content-Type": "application/octet-stream"}
DRY = {"dryRun": "true"}
CELL = make_cell(1, 8, 8)
PATH = f"/cells/{CELL.cell_id}"
WALLS = (0.0, -25.0, 110.0, 25.0)


def survey(n: int, seed: int = 0) -> Fingerprints:
    """The phase is 0 at the first antenna and subcarrier, where the tiny artifact wants a positive number."""
    made = make_survey(CELL, in_a_rectangle(n, 30, -20, 90, 20, seed), WALLS, seed)
    return replace(made, csi=made.csi * np.exp(-1j * np.angle(made.csi[:, :1, :1])).astype(np.complex64))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_tiny_artifact(tmp_path)
    settings = Settings(artifact_directory=tmp_path, database_directory=tmp_path / "database")
    async with running(settings) as client:
        yield client


async def ask(service: httpx.AsyncClient, body: bytes, method: str = "PUT", **params: str) -> SurveyReport:
    path = PATH if method == "PUT" else f"{PATH}/fingerprints"
    response = await service.request(method, path, params=DRY | params, content=body, headers=FILE)
    assert response.status_code == 200, response.text
    return SurveyReport.model_validate_json(response.content)


@pytest.mark.anyio
async def test_a_report_says_what_the_survey_is_and_nothing_is_written(
    service: httpx.AsyncClient, tmp_path: Path
) -> None:
    good = survey(300)
    times = np.linspace(1.7e9, 1.7e9 + 60, 300)
    report = await ask(service, npz(good, CELL, times=times))
    assert report.would_publish
    assert report.findings == []
    assert (report.version, report.fingerprints) == (None, 300)
    assert report.csi is not None
    assert (report.csi.antennas, report.csi.subcarriers) == (8, 8)
    assert report.extent is not None
    assert report.extent.west == pytest.approx(30, abs=2)
    assert report.extent.north == pytest.approx(20, abs=2)
    assert report.spacing == pytest.approx(0.5 * (60 * 40 / 300) ** 0.5, rel=0.2)  # of points at random
    assert report.measured_from is not None
    assert report.measured_to is not None
    assert (report.measured_to - report.measured_from).total_seconds() == pytest.approx(60)
    assert report.sigma == pytest.approx(0.05)
    assert report.bearing is not None
    assert report.bearing.agreement > 0.8 > 4 * report.bearing.chance
    assert (report.layout_unjudged, report.positions_unjudged) == (None, None)
    assert report.leave_one_out is not None
    assert report.leave_one_out.median < 0.3 * report.leave_one_out.chance
    assert (await service.get("/cells")).json()["cells"] == []
    assert list((tmp_path / "database").rglob("*.json")) == []


BAD: list[tuple[Callable[[Fingerprints], dict[str, np.ndarray]], str, bool]] = [
    (lambda good: {"csi": good.csi.conj()}, "conjugated", True),
    (lambda good: {"csi": good.csi[:, :, :4]}, "8 antennas and 4 subcarriers", False),
    (lambda good: {"csi": np.where(np.arange(300)[:, None, None] < 9, np.nan, good.csi)}, "and 8 more rows", False),
    (lambda good: {"positions": good.positions / 1e5 + (48.0, 11.0)}, "within 0.5 of the base station's degrees", True),
    (lambda good: {"rssi": good.times}, "unknown arrays: rssi", False),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("arrays", "reason", "overridable"), BAD, ids=[one[1] for one in BAD])
async def test_faults_are_in_the_report_and_force_publishes_only_what_it_may(
    service: httpx.AsyncClient, arrays: Callable[[Fingerprints], dict[str, np.ndarray]], reason: str, overridable: bool
) -> None:
    good = survey(300)
    body = npz(good, CELL, **arrays(good))
    report = await ask(service, body)
    assert not report.would_publish
    assert reason in report.findings[0].what
    assert report.findings[0].advice
    assert (report.findings[0].severity, report.findings[0].overridable) == ("fault", overridable)
    assert (await ask(service, body, force="true")).would_publish is overridable
    published = await service.put(PATH, content=body, headers=FILE)
    assert published.status_code in (400, 422)


@pytest.mark.anyio
async def test_degrees_that_float32_rounds_are_to_be_stored_as_float64(service: httpx.AsyncClient) -> None:
    good = survey(80)
    latitudes, longitudes = LocalFrame(CELL.latitude_deg, CELL.longitude_deg).to_wgs84(*good.positions.T.astype(float))
    file = io.BytesIO()
    degrees = {"latitudes_deg": latitudes.astype(np.float32), "longitudes_deg": longitudes}
    np.savez(file, csi=good.csi, cell=np.array(write_description(CELL)), **degrees)
    (finding,) = (await ask(service, file.getvalue())).findings
    assert re.match(r"row 0: float32 rounds latitudes_deg to steps of [\d.]+ m", finding.what)
    assert finding.advice == "store latitudes_deg as float64, or state larger sigmas"
    refused = await service.put(PATH, content=file.getvalue(), headers=FILE)
    assert finding.advice in assert_problem(refused, 422, "FINGERPRINT_REFUSED", "/fingerprints/0")["detail"]


@pytest.mark.anyio
async def test_fingerprints_to_append_are_judged_beside_those_of_the_cell(service: httpx.AsyncClient) -> None:
    good = survey(200)
    version = (await service.put(PATH, content=npz(good, CELL), headers=FILE)).json()["version"]
    more = replace(good, positions=good.positions + np.float32(0.01))
    again = await ask(service, npz(good), "POST")
    assert "already has this fingerprint" in again.findings[0].what
    assert (again.version, again.fingerprints, again.would_publish) == (version, 200, False)
    other = await ask(service, npz(more), "POST")
    assert other.would_publish
    assert other.leave_one_out is not None
    assert other.leave_one_out.users == 200
    assert other.leave_one_out.median < 0.3 * other.leave_one_out.chance
    assert (await service.get(PATH)).json()["version"] == version


UNREADABLE: list[tuple[Callable[[Fingerprints], dict[str, np.ndarray]], str]] = [
    (lambda good: {"csi_real": good.csi.real, "csi_imag": good.csi.imag[:5]}, "csi_imag is float32 [5, 8, 8]"),
    (lambda good: {"csi_real": good.csi.real, "csi_imag": good.csi.imag.astype(str)}, "csi_imag is <U"),
    (lambda good: {"csi": good.csi, "x": good.positions[:, 0], "y": good.positions[:5, 1]}, "y is float32 [5]"),
    (lambda good: {"csi": good.csi[:0], "positions": good.positions[:0]}, "at least 1 fingerprint"),
]


@pytest.mark.anyio
async def test_fingerprints_to_append_that_cannot_be_read_are_a_fault_and_no_failure(
    service: httpx.AsyncClient,
) -> None:
    good = survey(20)
    assert (await service.put(PATH, content=npz(survey(200), CELL), headers=FILE)).status_code == 201
    for arrays, reason in UNREADABLE:
        file = io.BytesIO()
        np.savez(file, **({"positions": good.positions} if reason[0] != "y" else {}) | arrays(good))
        report = await ask(service, file.getvalue(), "POST")
        assert reason in report.findings[0].what
        assert not report.would_publish
        posted = await service.post(f"{PATH}/fingerprints", content=file.getvalue(), headers=FILE)
        assert_problem(posted, 400, "FINGERPRINTS_UNREADABLE")


@pytest.mark.anyio
async def test_rows_of_json_are_reported_as_files_are(service: httpx.AsyncClient) -> None:
    good = survey(20)
    rows = sent(good)
    rows[3]["csi"]["data"] = rows[3]["csi"]["data"][:8]
    described: Json = {"cell": describe_cell(CELL).model_dump(mode="json"), "fingerprints": rows}
    report = SurveyReport.model_validate_json((await service.put(PATH, params=DRY, json=described)).content)
    assert not report.would_publish
    few = await ask(service, npz(good, CELL))
    assert few.layout_unjudged == few.positions_unjudged == "fewer than 64 fingerprints tell too little"
    assert "/fingerprints/3/csi" in report.findings[0].what


@pytest.mark.anyio
async def test_a_wrong_request_is_a_problem_in_a_dry_run_too(service: httpx.AsyncClient) -> None:
    body = npz(survey(20))
    assert_problem(await service.put(PATH, params=DRY, content=body, headers=FILE), 404, "CELL_NOT_FOUND", "/cellId")
    response = await service.post(f"{PATH}/fingerprints", params=DRY, content=body, headers=FILE)
    assert_problem(response, 404, "CELL_NOT_FOUND", "/cellId")
    headers = FILE | {"If-Match": '"3-ab12cd34ef56"'}
    response = await service.put(PATH, params=DRY, content=npz(survey(20), CELL), headers=headers)
    assert_problem(response, 412, "PRECONDITION_FAILED")
