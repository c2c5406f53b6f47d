"""Implausible surveys: refused or noted, over the API and by the command line."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from reference_db import DirectoryStore, Fingerprints
from reference_db.azimuth import to_azimuth
from service.cells.calibration import Calibration, CalibrationLevel
from service.commands.cli import app
from service.settings import Settings
from service.updates.cell_wire import describe_cell
from service.updates.plausibility import judge_calibration
from tests.reference_db.surveys import in_a_rectangle, make_cell, make_survey
from tests.service.running import running
from tests.service.tiny_artifact import ANTENNAS, only, write_tiny_artifact
from tests.service.updates.wire import DESCRIPTION, Json, assert_problem, npz, on_a_line, sent

FILE = {"Content-Type": "application/octet-stream"}
CELL = make_cell(1, 8, 8)
WALLS = (0.0, -25.0, 110.0, 25.0)


def survey(n: int, seed: int = 0) -> Fingerprints:
    return make_survey(CELL, in_a_rectangle(n, 30, -20, 90, 20, seed), WALLS, seed)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With an artifact for other cells: these are published without a calibration, which is not asked here."""
    write_tiny_artifact(tmp_path, radios=only(ANTENNAS))
    return Settings(artifact_directory=tmp_path, database_directory=tmp_path / "database")


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        described = {"cell": describe_cell(CELL).model_dump(mode="json")}
        created = await client.put(f"/cells/{CELL.cell_id}", params={"force": "true"}, json=described)
        assert created.status_code == 201, created.text
        yield client


IMPLAUSIBLE: list[tuple[Callable[[Fingerprints], dict[str, np.ndarray]], str, str]] = [
    (lambda good: {"positions": good.positions / 1e5 + (48.0, 11.0)}, "degrees", "name degrees latitudes_deg"),
    (lambda good: {"positions": good.positions * 0 + 7}, "extent", "every user would be located there"),
    (lambda good: {"csi": good.csi.conj()}, "order", "the CSI is conjugated"),
    (lambda good: {"csi": good.csi.swapaxes(1, 2)}, "order", "the CSI is transposed"),
    (lambda good: {"csi": np.random.default_rng(0).permutation(good.csi)}, "signal", "tells nothing about the place"),
    (
        lambda good: {"csi": np.where(np.arange(300)[:, None, None] < 40, good.csi[0], good.csi)},
        "copies",
        "have the same CSI",
    ),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("arrays", "name", "reason"), IMPLAUSIBLE, ids=[one[1] for one in IMPLAUSIBLE])
async def test_an_implausible_survey_needs_force_and_its_version_says_why(
    service: httpx.AsyncClient, arrays: Callable[[Fingerprints], dict[str, np.ndarray]], name: str, reason: str
) -> None:
    good = survey(300)
    path, body = f"/cells/{CELL.cell_id}", npz(good, CELL, **arrays(good))
    before = (await service.get(path)).json()
    # The artifact is for other cells, which is refused after the survey.
    problem = assert_problem(await service.put(path, content=body, headers=FILE), 422, "SURVEY_IMPLAUSIBLE")
    assert reason in problem["detail"]
    assert (await service.get(path)).json() == before

    forced = await service.put(path, params={"force": "true"}, content=body, headers=FILE)
    assert forced.status_code == 200, forced.text
    findings = forced.json()["quality"]["findings"]
    assert [(one["name"], one["severity"]) for one in findings] == [(name, "refused")]
    assert findings[0]["advice"]
    thinned = await service.put(f"{path}/retention", params={"force": "true"}, json={"maxFingerprints": 250})
    assert thinned.json()["quality"]["findings"] == findings
    replaced = await service.put(path, params={"force": "true"}, content=npz(good, CELL), headers=FILE)
    assert "findings" not in replaced.json()["quality"]


@pytest.mark.anyio
async def test_an_addition_is_judged_by_its_csi_and_not_by_its_extent(service: httpx.AsyncClient) -> None:
    path, forced = f"/cells/{CELL.cell_id}", {"force": "true"}
    assert (await service.put(path, params=forced, content=npz(survey(300)), headers=FILE)).status_code == 200
    more = survey(300, seed=1)
    conjugated = await service.post(f"{path}/fingerprints", content=npz(more, csi=more.csi.conj()), headers=FILE)
    assert "the CSI is conjugated" in assert_problem(conjugated, 422, "SURVEY_IMPLAUSIBLE")["detail"]
    one_place = make_survey(CELL, np.full((5, 2), 50.0), WALLS, seed=2)
    appended = await service.post(f"{path}/fingerprints", params=forced, content=npz(one_place), headers=FILE)
    assert appended.status_code == 200
    assert "findings" not in appended.json()["quality"]


@pytest.mark.anyio
async def test_the_first_fingerprints_of_a_cell_are_judged_together_however_they_come(
    service: httpx.AsyncClient,
) -> None:
    """Where pieces of 40 are too small to judge, and a cell without fingerprints has no extent."""
    path, good = f"/cells/{CELL.cell_id}/fingerprints", survey(120)
    degrees = npz(good, positions=good.positions / 1e5 + (48.0, 11.0))
    problem = assert_problem(await service.post(path, content=degrees, headers=FILE), 422, "SURVEY_IMPLAUSIBLE")
    assert "degrees" in problem["detail"]
    answers = []
    for first in (0, 40):
        rows = slice(first, first + 40)
        arrays = {name: getattr(good, name)[rows] for name in ("positions", "times", "sigmas")}
        content = npz(good, csi=good.csi[rows].conj(), **arrays)
        answers.append(await service.post(path, params={"force": "true"}, content=content, headers=FILE))
        assert answers[-1].status_code == 200, answers[-1].text
    assert "findings" not in answers[0].json()["quality"]
    assert [one["name"] for one in answers[1].json()["quality"]["findings"]] == ["order"]


@pytest.mark.anyio
async def test_a_correction_is_judged_by_the_fingerprints_and_ends_what_it_corrects(
    service: httpx.AsyncClient,
) -> None:
    path, forced = f"/cells/{CELL.cell_id}", {"force": "true"}
    good = await service.put(path, params=forced, content=npz(survey(300), CELL), headers=FILE)
    azimuth = good.json()["azimuthDeg"]
    opposite = {"azimuthDeg": (azimuth + 180) % 360}
    problem = assert_problem(await service.patch(path, json=opposite), 422, "SURVEY_IMPLAUSIBLE")
    assert "not the opposite" in problem["detail"]
    wrong = await service.patch(path, params=forced, json=opposite)
    assert [one["name"] for one in wrong.json()["quality"]["findings"]] == ["order"]
    right = await service.patch(path, params=forced, json={"azimuthDeg": azimuth})
    assert "findings" not in right.json()["quality"]


@pytest.mark.anyio
async def test_a_warning_about_the_azimuth_goes_when_it_is_corrected_and_comes_when_it_is_wrong(
    service: httpx.AsyncClient,
) -> None:
    """The canary and the calibration compare CSI and positions, which no azimuth changes."""
    path, forced = f"/cells/{CELL.cell_id}", {"force": "true"}
    right = round(to_azimuth(CELL.yaw), 3)

    async def correct(azimuth: float, params: dict[str, str]) -> httpx.Response:
        return await service.patch(path, params=params, json={"azimuthDeg": azimuth})

    def names(response: httpx.Response) -> list[str]:
        assert response.status_code == 200, response.text
        return [one["name"] for one in response.json()["quality"].get("findings", [])]

    assert names(await service.put(path, params=forced, content=npz(survey(300)), headers=FILE)) == []
    assert names(await correct(right + 120, forced)) == ["azimuth"]
    assert names(await service.put(f"{path}/retention", params=forced, json={"maxFingerprints": 250})) == ["azimuth"]
    assert names(await correct(right + 1, forced)) == []
    assert names(await correct(right + 180, forced)) == ["order"]
    # A person has insisted on the order already: the next correction is judged by the artifact, which is for others.
    assert_problem(await service.patch(path, json={"height": 8.0}), 409, "CELL_NOT_SERVED_BY_ARTIFACT", "/cellId")
    assert names(await correct(right, forced)) == []


@pytest.mark.parametrize(
    ("means", "named"), [((1.0, 3.0, 9.0), []), ((7.8, 2.0, 3.0), ["1 m"]), ((7.8, 8.1, 13.0), ["1 m", "3 m", "10 m"])]
)
def test_each_accuracy_of_a_coarse_position_that_gains_nothing_is_named(
    means: tuple[float, ...], named: list[str]
) -> None:
    levels = [
        CalibrationLevel(sigma=sigma, radius=1.0, mean=mean, median=1.0, p95=1.0)
        for sigma, mean in zip((1.0, 3.0, 10.0, None), (*means, 50.0), strict=True)
    ]
    calibration = Calibration.model_construct(levels=levels)
    reasons = [finding.reason for finding in judge_calibration(calibration)]
    assert len(reasons) == bool(named)
    assert re.findall(r"position of (\d+ m)", "".join(reasons)) == named


@pytest.mark.anyio
async def test_a_cell_too_small_to_serve_says_how_many_fingerprints_it_needs(tmp_path: Path) -> None:
    """As many as a request for a location says."""
    write_tiny_artifact(tmp_path, radios=only(ANTENNAS))
    settings = Settings(artifact_directory=tmp_path, database_directory=tmp_path / "database")
    async with running(settings) as client:
        body = {"cell": DESCRIPTION, "fingerprints": sent(on_a_line(0, 10))}
        created: Json = (await client.put("/cells/c", json=body)).json()
        (finding,) = created["quality"]["findings"]
        assert (finding["name"], finding["severity"]) == ("too few", "warning")
        assert finding["reason"] == "the cell has 10 fingerprints, it needs 19"
        grown = await client.post("/cells/c/fingerprints", json={"fingerprints": sent(on_a_line(10, 40))})
        assert "too few" not in [one["name"] for one in grown.json()["quality"].get("findings", [])]


def test_the_command_line_says_what_is_wrong_and_what_to_do(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("FINGERPOST_ARTIFACT_DIRECTORY", str(tmp_path))
    good = survey(300)
    (tmp_path / "bad.npz").write_bytes(npz(good, CELL, csi=good.csi.conj()))
    words = ["cells", "import", CELL.cell_id, str(tmp_path / "bad.npz"), "--database", str(tmp_path / "database")]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert "the CSI is conjugated" in refused.output
    assert "conjugate the CSI" in refused.output
    assert "--force" in refused.output
    assert DirectoryStore(settings.database_directory or tmp_path).current(CELL.cell_id) is None
    forced = CliRunner().invoke(app, [*words, "--force"])
    assert forced.exit_code == 0, forced.output
    assert "warning (published by force): the CSI is conjugated" in forced.output
