"""`POST /locate` where a cell's fingerprints do not locate users: the base station does, and the answer says so."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fingerpost import LocateResponse, build_locate_body
from reference_db import Cell, DirectoryStore, Fingerprints, import_fingerprints, read_contents, set_model_policy
from reference_db.manifest import ModelPolicy
from service.settings import Settings
from service.updates.cell_wire import describe_cell
from tests.service.measured_cells import create_cells, heard_from, measured_cell, write_measuring_artifacts
from tests.service.plane_cell import Json
from tests.service.running import running
from tests.service.tiny_cell import ORIGIN
from tests.service.tiny_lwlm_artifact import AOA_SIGMA, RANGE_SIGMA, SCALES

pytestmark = pytest.mark.anyio

BARE = measured_cell(yaw_deg=30)
SURVEYED, SPARSE = measured_cell("surveyed"), measured_cell("sparse")
CHOSEN, FORBIDDEN = measured_cell("chosen"), measured_cell("forbidden")
LARGER, BROAD = measured_cell("larger", columns=16), measured_cell("broad", bandwidth=100e6)


def survey(cell: Cell, n: int) -> Fingerprints:
    """Along a line east of the base station."""
    positions = np.stack([30 + np.arange(n), np.zeros(n)], axis=1).astype(np.float32)
    csi = np.stack([heard_from(cell, *place) for place in positions.tolist()])
    return Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = write_measuring_artifacts(tmp_path)
    store = DirectoryStore(settings.database_directory)
    create_cells(store, BARE, LARGER, BROAD, FORBIDDEN)
    for cell, n in ((SURVEYED, 40), (SPARSE, 10), (CHOSEN, 40)):
        import_fingerprints(store, cell, survey(cell, n), {}, ORIGIN)
    policies: tuple[tuple[str, ModelPolicy], ...] = (("chosen", "lwlm"), ("forbidden", "mateformer"))
    for cell_id, policy in policies:
        before = store.current(cell_id)
        assert before is not None
        update = set_model_policy(read_contents(store, before), policy, ORIGIN)
        store.publish(update.manifest, update.segments, before.digest)
    return settings


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


TOO_SMALL = [
    {"method": "mateformer", "cause": "CELL_TOO_SMALL"},
    {"method": "weighted-knn", "cause": "CELL_TOO_SMALL"},
]


def body(cell: Cell = BARE, east: float = 60.0, north: float = 20.0, **fields: Any) -> Json:
    return build_locate_body(cell.cell_id, heard_from(cell, east, north)) | fields


async def located(client: httpx.AsyncClient, asked: Json) -> Json:
    response = await client.post("/locate", json=asked)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    LocateResponse.model_validate_json(response.content)
    return answer


async def problem(client: httpx.AsyncClient, path: str, asked: Json) -> Json:
    found: Json = (await client.post(path, json=asked)).json()
    return found


async def test_a_cell_without_fingerprints_is_answered_by_its_base_station(client: httpx.AsyncClient) -> None:
    answer = await located(client, body(requestId="7", hAccuracy=4.0))
    local = answer["localLocationEstimate"]
    assert (local["point"]["x"], local["point"]["y"]) == pytest.approx((60, 20), abs=0.02)
    assert answer["losNlosMeasureInd"] == "LOS"
    assert (answer["requestId"], answer["accuracyFulfilmentIndicator"]) == ("7", "REQUESTED_ACCURACY_FULFILLED")
    (model,) = (one for one in (await client.get("/models")).json()["models"] if one["family"] == "lwlm")
    assert answer["provenance"] == {
        "source": "lwlm",
        "artifact": {name: model[name] for name in ("name", "version", "digest")},
        "cellVersion": (await client.get("/cells/bare")).json()["version"],
        "fallbacks": TOO_SMALL,
        "losProbability": pytest.approx(1, abs=1e-3),
    }


@pytest.mark.parametrize(
    ("length", "major", "minor", "turned"),
    [(60.0, 60 * AOA_SIGMA, RANGE_SIGMA, 90.0), (10.0, RANGE_SIGMA, 10 * AOA_SIGMA, 0.0)],
    ids=["far: across the ray", "near: along the ray"],
)
async def test_the_ellipse_is_the_calibrated_one_of_the_model(
    client: httpx.AsyncClient, length: float, major: float, minor: float, turned: float
) -> None:
    bearing = math.radians(50)  # counter-clockwise from east: a compass azimuth of 40 degrees
    answer = await located(client, body(east=length * math.cos(bearing), north=length * math.sin(bearing)))
    for estimate in (answer["locationEstimate"], answer["localLocationEstimate"]):
        ellipse = estimate["uncertaintyEllipse"]
        assert ellipse["semiMajor"] == pytest.approx(SCALES.position.factors[95] * major, rel=1e-3)
        assert ellipse["semiMinor"] == pytest.approx(SCALES.position.factors[95] * minor, rel=1e-3)
        assert ellipse["orientationMajor"] == pytest.approx(40 + turned, abs=1)
        assert estimate["confidence"] == 95
    assert answer["hAccuracy"] == answer["locationEstimate"]["uncertaintyEllipse"]["semiMajor"]


async def test_fingerprints_take_over_as_soon_as_there_are_enough(client: httpx.AsyncClient) -> None:
    first = await located(client, body(SPARSE))
    rows = [
        {"csi": body(SPARSE, *place)["csi"], "x": place[0], "y": place[1], "sigma": 0.05}
        for place in ((60.0 + i, 1.0) for i in range(30))
    ]
    added = await client.post("/cells/sparse/fingerprints?force=true", json={"fingerprints": rows})
    assert added.status_code in (200, 201), added.text
    second = await located(client, body(SPARSE))
    assert [one["provenance"]["source"] for one in (first, second)] == ["lwlm", "mateformer"]
    assert first["provenance"]["fallbacks"] == TOO_SMALL


async def test_a_cell_that_the_other_model_was_not_made_for_is_answered_too(client: httpx.AsyncClient) -> None:
    answer = await located(client, body(LARGER))
    assert answer["provenance"]["fallbacks"] == [
        {"method": "mateformer", "cause": "CELL_NOT_SERVED_BY_ARTIFACT"},
        {"method": "weighted-knn", "cause": "CELL_TOO_SMALL"},
    ]
    assert answer["localLocationEstimate"]["point"]["x"] == pytest.approx(60, abs=0.02)


async def test_enough_fingerprints_come_first(client: httpx.AsyncClient) -> None:
    answer = await located(client, body(SURVEYED))
    assert answer["provenance"]["source"] == "mateformer"
    assert "losNlosMeasureInd" not in answer


async def test_the_policy_of_a_cell_may_demand_the_base_station(client: httpx.AsyncClient) -> None:
    answer = await located(client, body(CHOSEN))
    assert answer["provenance"]["source"] == "lwlm"
    assert "fallbacks" not in answer["provenance"]


async def test_the_policy_of_a_cell_may_forbid_it(client: httpx.AsyncClient) -> None:
    found = await problem(client, "/locate", body(FORBIDDEN))
    assert found["cause"] == "POSITIONING_METHOD_FAILURE"
    assert found["fallbacks"] == TOO_SMALL
    asked = {name: value for name, value in body(FORBIDDEN).items() if name != "coarsePosition"}
    assert (await problem(client, "/measure", asked))["cause"] == "MODEL_NOT_ALLOWED_BY_CELL"


async def test_a_cell_outside_what_the_model_was_trained_with_says_which_field(client: httpx.AsyncClient) -> None:
    for _ in range(2):  # also when the description is in memory
        found = await problem(client, "/locate", body(BROAD))
        assert (found["status"], found["cause"]) == (422, "POSITIONING_METHOD_FAILURE")
        assert found["fallbacks"] == [*TOO_SMALL, {"method": "lwlm", "cause": "BAND_NOT_SERVED_BY_ARTIFACT"}]
        assert "has 0 fingerprints" in found["detail"]
        assert "bandwidth is 100 MHz, the artifact lwlm was trained with 10 to 50 MHz" in found["detail"]


async def test_without_the_artifact_the_problem_says_so(settings: Settings) -> None:
    async with running(settings.model_copy(update={"lwlm_artifact_directory": None})) as client:
        found = await problem(client, "/locate", body())
        assert found["fallbacks"] == [*TOO_SMALL, {"method": "lwlm", "cause": "NO_MEASURING_ARTIFACT"}]
        assert "the cell has 0 fingerprints, it needs 19" in found["detail"]
        found = await problem(client, "/locate", body(CHOSEN))
        assert found["fallbacks"] == [{"method": "lwlm", "cause": "NO_MEASURING_ARTIFACT"}]


@pytest.mark.parametrize(
    ("coarse", "named"),
    [
        ({"x": 61.0, "y": 18.0, "hAccuracy": 1.0}, "COARSE_POSITION_NOT_TAKEN"),
        ({"x": 90.0, "y": 20.0, "hAccuracy": 10.0}, "COARSE_POSITION_NOT_TAKEN"),
        ({"x": 90.0, "y": 20.0, "hAccuracy": 1.0}, "COARSE_POSITION_CONTRADICTED"),
        ({"lat": 11.2560, "lon": 43.7731, "hAccuracy": 1.0}, "COARSE_POSITION_CONTRADICTED"),
    ],
)
async def test_a_coarse_position_changes_nothing_and_the_answer_says_so(
    client: httpx.AsyncClient, coarse: Json, named: str
) -> None:
    without, answer = await located(client, body()), await located(client, body(coarsePosition=coarse))
    assert answer["locationEstimate"] == without["locationEstimate"]
    assert answer["provenance"]["coarsePositionIgnored"] == named
    assert "coarsePositionIgnored" not in without["provenance"]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"coarsePosition": {"lat": 1.0, "y": 2.0, "hAccuracy": 1.0}}, "COARSE_POSITION_INCORRECT"),
        ({"csi": build_locate_body("bare", np.ones((8, 8), complex))["csi"]}, "CSI_SHAPE_MISMATCH"),
        ({"csi": build_locate_body("bare", np.ones((64, 512), complex))["csi"]}, "CSI_SHAPE_MISMATCH"),
        ({"csi": build_locate_body("bare", -np.ones((8, 16), complex))["csi"]}, "ESTIMATE_NOT_FINITE"),
        ({"maxRespTime": 1e-9}, "MAX_RESP_TIME_EXCEEDED"),
    ],
)
async def test_errors_are_those_of_other_cells(client: httpx.AsyncClient, changes: Json, cause: str) -> None:
    assert (await problem(client, "/locate", body() | changes))["cause"] == cause


async def test_a_track_that_cannot_be_located_is_named_too(client: httpx.AsyncClient) -> None:
    provenance = (await located(client, body(trackId="a")))["provenance"]
    assert provenance["fallbacks"] == [{"method": "scadf-moe", "cause": "NO_TRAJECTORY_ARTIFACT"}, *TOO_SMALL]


async def test_a_batch_mixes_models_and_problems(client: httpx.AsyncClient) -> None:
    items = [body(SURVEYED), body(east=40.0), body(BROAD), body(SPARSE), body(east=50.0)]
    results = (await client.post("/locate/batch", json={"items": items})).json()["results"]
    kinds = [
        one["location"]["provenance"]["source"] if "location" in one else one["problem"]["cause"] for one in results
    ]
    assert kinds == ["mateformer", "lwlm", "POSITIONING_METHOD_FAILURE", "lwlm", "lwlm"]
    easts = [results[i]["location"]["localLocationEstimate"]["point"]["x"] for i in (1, 4)]
    assert easts == pytest.approx([40, 50], abs=0.02)


async def test_metrics_name_the_model_and_the_fallback(client: httpx.AsyncClient) -> None:
    await located(client, body())
    await located(client, body(CHOSEN))
    lines = (await client.get("/metrics")).text.splitlines()
    for fallback in ("CELL_TOO_SMALL", "none"):
        assert f'fingerpost_locations_total{{fallback="{fallback}",outcome="located",source="lwlm"}} 1.0' in lines


async def test_the_list_of_cells_names_the_model_that_answers(client: httpx.AsyncClient) -> None:
    listed = {one["cellId"]: one for one in (await client.get("/cells")).json()["cells"]}
    models = {cell_id: one["models"] for cell_id, one in listed.items()}
    assert models == {
        "bare": ["lwlm"],
        "broad": [],
        "chosen": ["lwlm"],
        "forbidden": [],
        "larger": ["lwlm"],
        "sparse": ["lwlm"],
        "surveyed": ["mateformer"],
    }
    assert "notServed" not in listed["bare"]
    assert listed["broad"]["notServed"]["cause"] == "CELL_TOO_SMALL"
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    ("cell", "status", "cause"),
    [
        (measured_cell("new", columns=16), 201, None),
        (measured_cell("new", columns=5), 409, "CELL_NOT_SERVED_BY_ARTIFACT"),
    ],
)
async def test_a_description_alone_makes_a_cell_if_a_model_serves_it(
    client: httpx.AsyncClient, cell: Cell, status: int, cause: str | None
) -> None:
    described = describe_cell(cell).model_dump(mode="json")
    response = await client.put("/cells/new", json={"cell": described})
    assert (response.status_code, response.json().get("cause")) == (status, cause)
    if status == 201:
        assert response.json()["quality"].get("findings") is None
        assert (await located(client, body(cell)))["provenance"]["source"] == "lwlm"


@pytest.mark.parametrize(
    ("cell_id", "status", "cause"),
    [("surveyed", 200, None), ("bare", 200, None), ("broad", 409, "BAND_NOT_SERVED_BY_ARTIFACT")],
)
async def test_a_policy_needs_a_cell_that_the_model_serves(
    client: httpx.AsyncClient, cell_id: str, status: int, cause: str | None
) -> None:
    response = await client.put(f"/cells/{cell_id}/model", json={"policy": "lwlm"})
    assert (response.status_code, response.json().get("cause")) == (status, cause)


async def test_a_policy_needs_the_artifact(settings: Settings) -> None:
    async with running(settings.model_copy(update={"lwlm_artifact_directory": None})) as client:
        response = await client.put("/cells/bare/model", json={"policy": "lwlm"})
        assert (response.status_code, response.json()["cause"]) == (501, "NO_MEASURING_ARTIFACT")


async def test_users_feel_a_policy_at_once(client: httpx.AsyncClient) -> None:
    assert (await located(client, body()))["provenance"]["source"] == "lwlm"
    await client.put("/cells/bare/model", json={"policy": "mateformer"})
    assert (await problem(client, "/locate", body()))["cause"] == "POSITIONING_METHOD_FAILURE"
    await client.put("/cells/bare/model", json={"policy": "auto"})
    assert (await located(client, body()))["provenance"]["source"] == "lwlm"


async def test_a_cell_whose_azimuth_is_corrected_turns_its_users(client: httpx.AsyncClient) -> None:
    await located(client, body())
    corrected = await client.patch("/cells/bare", json={"azimuthDeg": -30.0})
    assert corrected.status_code == 200, corrected.text
    point = (await located(client, body()))["localLocationEstimate"]["point"]
    assert (point["x"], point["y"]) == pytest.approx((-20, 60), abs=0.02)


async def test_a_deleted_cell_is_gone(client: httpx.AsyncClient) -> None:
    await located(client, body())
    assert (await client.delete("/cells/bare?force=true")).status_code == 200
    assert (await problem(client, "/locate", body()))["cause"] == "CELL_NOT_FOUND"
