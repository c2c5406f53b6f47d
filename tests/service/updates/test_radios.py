"""Cells of any radio over HTTP: inside the ranges of an artifact they are served, outside they are refused."""

import io
from pathlib import Path

import numpy as np
import pytest

from fingerpost import build_locate_body
from fingerpost.wire_cells import CellInput
from models.artifact import RadioContract
from reference_db import Fingerprints, write_fingerprint_file
from service.settings import Settings
from service.updates.cell_wire import read_cell_input
from tests.service.plane_cell import fingerprints_at, street
from tests.service.running import running
from tests.service.tiny_artifact import RADIOS, only, write_tiny_artifact
from tests.service.tiny_lwlm_artifact import write_tiny_lwlm_artifact
from tests.service.updates.wire import DESCRIPTION, Json, assert_problem, sent

POLARISED = {"rows": 2, "columns": 4, "spacing": 0.5, "polarisations": 2}
RADIO = DESCRIPTION | {"array": POLARISED, "subcarriers": 24, "bandwidth": 100e6, "carrierFrequency": 28e9}


def survey(description: Json, n: int = 40) -> Fingerprints:
    """One fingerprint a metre, in the cell's shape."""
    array = description["array"]
    antennas = array["rows"] * array["columns"] * array.get("polarisations", 1)
    csi = np.random.default_rng(0).uniform(0.5, 1, (n, antennas, description["subcarriers"])).astype(np.complex64)
    positions = np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.float32)
    return Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))


def without_times(fingerprints: Fingerprints) -> list[Json]:
    return [{name: value for name, value in row.items() if name != "time"} for row in sent(fingerprints)]


def settings_of(folder: Path, radios: RadioContract = RADIOS, *, lwlm: bool = False) -> Settings:
    (folder / "mateformer").mkdir()
    write_tiny_artifact(folder / "mateformer", radios=radios, tile_pitch=2.0, doubtful=False)
    if lwlm:
        write_tiny_lwlm_artifact(folder / "lwlm")
    return Settings(
        artifact_directory=folder / "mateformer",
        database_directory=folder / "database",
        trajectory_artifact_directory=None,
        calibration_samples=20,
        calibration_sigmas_m=(1.0,),
        lwlm_artifact_directory=folder / "lwlm" if lwlm else None,
    )


@pytest.mark.anyio
async def test_a_cell_with_two_polarisations_is_imported_and_its_users_are_located(tmp_path: Path) -> None:
    fingerprints = survey(RADIO)
    async with running(settings_of(tmp_path)) as client:
        body = {"cell": RADIO, "fingerprints": without_times(fingerprints)}
        created = await client.put("/cells/plane", json=body)
        assert created.status_code == 201, created.text
        assert created.json()["array"] == POLARISED
        flat = survey(DESCRIPTION)
        body = {"cell": DESCRIPTION, "fingerprints": without_times(flat)}
        assert (await client.put("/cells/line", json=body)).status_code == 201
        places = [(cell, of, row) for row in (8, 20) for cell, of in (("plane", fingerprints), ("line", flat))]
        users = [
            build_locate_body(cell, of.csi[row], {"x": row + 0.4, "y": 0.0, "hAccuracy": 1.0})
            for cell, of, row in places
        ]
        located = (await client.post("/locate/batch", json={"items": users})).json()["results"]
        for one, (cell, _, row) in zip(located, places, strict=True):
            assert one["location"]["localLocationEstimate"]["point"]["x"] == pytest.approx(row, abs=1.5), cell
        half = build_locate_body("plane", fingerprints.csi[3, :8])
        assert_problem(await client.post("/locate", json=half), 400, "CSI_SHAPE_MISMATCH", "/csi/shape")


@pytest.mark.anyio
async def test_the_timing_of_radios_is_kept_and_corrected(tmp_path: Path) -> None:
    described = RADIO | {"surveyStoNs": 0, "userStoNs": 11.547}
    async with running(settings_of(tmp_path)) as client:
        body = {"cell": described, "fingerprints": without_times(survey(RADIO))}
        created = (await client.put("/cells/plane", json=body)).json()
        assert (created["surveyStoNs"], created["userStoNs"]) == (0.0, 11.547)
        corrected = (await client.patch("/cells/plane", json={"surveyStoNs": 5.0})).json()
        assert (corrected["surveyStoNs"], corrected["userStoNs"]) == (5.0, 11.547)
        exported = await client.get("/cells/plane/export", params={"format": "npz"})
        arrays = np.load(io.BytesIO(exported.content))
        assert '"polarisations":2' in str(arrays["cell"])
        assert '"surveyStoNs":5' in str(arrays["cell"])
        await client.put("/cells/line", json={"cell": DESCRIPTION})
        unknown = (await client.get("/cells/line")).json()
        assert (unknown["surveyStoNs"], unknown["userStoNs"]) == (None, None)
        negative = {"cell": RADIO | {"userStoNs": -1.0}}
        assert_problem(await client.put("/cells/b", json=negative), 400, "MANDATORY_IE_INCORRECT", "/cell/userStoNs")
        three = {"cell": RADIO | {"array": POLARISED | {"polarisations": 3}}}
        response = await client.put("/cells/b", json=three)
        assert_problem(response, 400, "MANDATORY_IE_INCORRECT", "/cell/array/polarisations")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("outside", "cause", "reason"),
    [
        (
            {"bandwidth": 400e6},
            "BAND_NOT_SERVED_BY_ARTIFACT",
            "bandwidth is 400 MHz, the artifact was trained on 10 to 100 MHz",
        ),
        (
            {"carrierFrequency": 60e9},
            "BAND_NOT_SERVED_BY_ARTIFACT",
            "carrierFrequency is 60 GHz, the artifact was trained on 0.6 to 30 GHz",
        ),
        (
            {"array": POLARISED | {"spacing": 2.0}},
            "CELL_NOT_SERVED_BY_ARTIFACT",
            "array.spacing is 2 wavelengths, the artifact was trained on 0.4 to 0.7 wavelengths",
        ),
    ],
)
async def test_a_cell_outside_the_ranges_is_refused_wherever_it_is_described(
    tmp_path: Path, outside: Json, cause: str, reason: str
) -> None:
    fingerprints = survey(RADIO)
    file = tmp_path / "survey.safetensors"
    write_fingerprint_file(file, read_cell_input(CellInput.model_validate(RADIO | outside), "b"), fingerprints)
    async with running(settings_of(tmp_path)) as client:
        body = {"cell": RADIO, "fingerprints": without_times(fingerprints)}
        assert (await client.put("/cells/inside", json=body)).status_code == 201
        upload = {"content": file.read_bytes(), "headers": {"Content-Type": "application/octet-stream"}}
        for response in (
            await client.put("/cells/b", json={"cell": RADIO | outside}),
            await client.put("/cells/b", json=body | {"cell": RADIO | outside}),
            await client.put("/cells/b", **upload),
            await client.put("/cells/inside", json=body | {"cell": RADIO | outside}),
            await client.patch("/cells/inside", json=outside),
        ):
            assert_problem(response, 409, cause, "/cellId")
            assert response.json()["invalidParams"][0]["reason"] == f"{reason}; weighted-knn can locate users there"
        assert (await client.get("/cells/b")).status_code == 404
        assert (await client.get("/cells/inside")).json()["version"].startswith("1-")
        assert (await client.put("/cells/b?force=true", json={"cell": RADIO | outside})).status_code == 201


@pytest.mark.anyio
async def test_a_cell_that_no_model_serves_is_told_the_reason_of_each(tmp_path: Path) -> None:
    async with running(settings_of(tmp_path, lwlm=True)) as client:
        refused = await client.put("/cells/b", json={"cell": RADIO | {"bandwidth": 400e6}})
        assert_problem(refused, 409, "BAND_NOT_SERVED_BY_ARTIFACT", "/cellId")
        reason = refused.json()["invalidParams"][0]["reason"]
        assert reason == (
            "bandwidth is 400 MHz, the artifact was trained on 10 to 100 MHz; "
            "lwlm does not locate users there: array.rows is 2, the artifact lwlm was trained with 1; "
            "weighted-knn can locate users there"
        )


@pytest.mark.anyio
async def test_a_cell_that_another_model_serves_is_accepted(tmp_path: Path) -> None:
    linear = DESCRIPTION | {"array": {"rows": 1, "columns": 8, "spacing": 0.5}, "subcarriers": 16}
    async with running(settings_of(tmp_path, only(4), lwlm=True)) as client:
        measured = await client.put("/cells/b", json={"cell": linear})
        assert measured.status_code == 201, measured.text
        (listed,) = (await client.get("/cells")).json()["cells"]
        assert listed["models"] == ["lwlm"]


@pytest.mark.anyio
async def test_an_operator_can_state_that_users_have_worse_clocks_than_the_survey_had(
    tmp_path: Path, artifact_directory: Path
) -> None:
    """Users are then located worse: the canary must not take that for a fault of the fingerprints."""
    settings = Settings(
        artifact_directory=artifact_directory,
        database_directory=tmp_path / "database",
        trajectory_artifact_directory=None,
        lwlm_artifact_directory=None,
        calibration_samples=40,
        calibration_sigmas_m=(1.0,),
    )
    fingerprints = fingerprints_at(street(300, seed=3))
    array = {"rows": 1, "columns": 32, "spacing": 0.5}
    clocked = DESCRIPTION | {"array": array, "subcarriers": 32, "surveyStoNs": 0, "userStoNs": 0}
    async with running(settings) as client:
        body = {"cell": clocked, "fingerprints": without_times(fingerprints)}
        created = await client.put("/cells/clocked", json=body)
        assert created.status_code == 201, created.text
        corrected = await client.patch("/cells/clocked", json={"userStoNs": 200})
        assert corrected.status_code == 200, corrected.text
        assert corrected.json()["userStoNs"] == 200.0
        (before,), (after,) = (one.json()["quality"]["calibration"].values() for one in (created, corrected))
        assert after["rungs"][-1]["median"] > 2 * before["rungs"][-1]["median"] + 0.5
