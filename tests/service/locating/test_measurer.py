"""`POST /measure`, by a model that is exact for a channel of one path."""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from fingerpost import build_locate_body, build_measure_request
from fingerpost.wire_measure import MeasureResponse
from reference_db import Cell, DirectoryStore
from reference_db.path_features import SPEED_OF_LIGHT
from service.settings import Settings
from service.web.media import LARGE_BYTES
from tests.service.measured_cells import (
    create_cells,
    heard_from,
    measured_cell,
    write_measuring_artifacts,
)
from tests.service.plane_cell import Json
from tests.service.running import running
from tests.service.tiny_lwlm_artifact import AOA_SIGMA, RANGE_SIGMA, SCALES

pytestmark = pytest.mark.anyio

BARE = measured_cell(yaw_deg=30)
CELLS = (
    BARE,
    measured_cell("two-rows", rows=2, columns=4),
    measured_cell("wide-spaced", spacing=0.7),
    measured_cell("five-antennas", columns=5),
    measured_cell("few-subcarriers", subcarriers=12),
    measured_cell("satellite", height=2000.0),
    measured_cell("mine", height=-200.0),
    measured_cell("broad", bandwidth=100e6),
    measured_cell("millimetre-waves", carrier_frequency=28e9),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = write_measuring_artifacts(tmp_path)
    create_cells(DirectoryStore(settings.database_directory), *CELLS)
    return settings


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


def body(cell: Cell = BARE, east: float = 60.0, north: float = 0.0, delay: float = 0.0, **fields: Any) -> Json:
    request = build_measure_request(cell.cell_id, heard_from(cell, east, north, delay))
    return request.model_dump(mode="json") | fields


async def measured(client: httpx.AsyncClient, asked: Json) -> Json:
    response = await client.post("/measure", json=asked)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    MeasureResponse.model_validate_json(response.content)
    return answer


async def problem(client: httpx.AsyncClient, asked: Json) -> Json:
    response = await client.post("/measure", json=asked)
    assert response.headers["content-type"] == "application/problem+json", response.text
    found: Json = response.json()
    return found


async def test_measures_the_first_path_with_calibrated_uncertainties(client: httpx.AsyncClient) -> None:
    answer = await measured(client, body(east=0.0, north=60.0))
    assert answer["range"] == pytest.approx(60, abs=1e-2)
    assert answer["rangeUncertainty"] == pytest.approx(SCALES.range.factors[95] * RANGE_SIGMA)
    assert answer["timeOfArrival"] == pytest.approx(60 / SPEED_OF_LIGHT, abs=1e-10)
    assert answer["timeOfArrivalUncertainty"] == pytest.approx(SCALES.range.factors[95] * RANGE_SIGMA / SPEED_OF_LIGHT)
    assert min(answer["aoaDeg"], 360 - answer["aoaDeg"]) == pytest.approx(0, abs=1e-2)  # north
    assert answer["aoaUncertaintyDeg"] == pytest.approx(math.degrees(SCALES.aoa.factors[95] * AOA_SIGMA))
    assert answer["losProbability"] == pytest.approx(1, abs=1e-3)
    assert (answer["losNlosMeasureInd"], answer["confidence"]) == ("LOS", 95)


@pytest.mark.parametrize(("east", "north", "azimuth"), [(50.0, 0.0, 90.0), (30.0, 30.0, 45.0), (50.0, -20.0, 111.8)])
async def test_the_angle_is_a_compass_azimuth(
    client: httpx.AsyncClient, east: float, north: float, azimuth: float
) -> None:
    answer = await measured(client, body(east=east, north=north))
    assert answer["aoaDeg"] == pytest.approx(azimuth, abs=0.01)


async def test_a_user_behind_a_linear_array_is_taken_to_be_in_front(client: httpx.AsyncClient) -> None:
    """As the description of the field says."""
    behind = math.radians(30 + 180 - 20)  # 20 degrees off the back of the array
    answer = await measured(client, body(east=60 * math.cos(behind), north=60 * math.sin(behind)))
    assert answer["aoaDeg"] == pytest.approx(90 - 30 - 20, abs=0.01)


async def test_a_clock_that_is_late_lengthens_the_range(client: httpx.AsyncClient) -> None:
    """As the description of the field says."""
    answer = await measured(client, body(delay=20e-9))
    assert answer["range"] == pytest.approx(60 + 20e-9 * SPEED_OF_LIGHT, abs=1e-2)


async def test_a_channel_of_two_paths_is_less_likely_in_line_of_sight(client: httpx.AsyncClient) -> None:
    csi = heard_from(BARE, 60, 0) + 0.99 * heard_from(BARE, 30, 51, delay=200e-9)
    asked = build_measure_request("bare", csi).model_dump(mode="json")
    answer = await measured(client, asked)
    assert answer["losProbability"] < 0.5
    assert answer["losNlosMeasureInd"] == "NLOS"


async def test_provenance_names_model_and_version_of_the_cell(client: httpx.AsyncClient) -> None:
    answer = await measured(client, body(requestId="7", timestamp="2026-01-02T03:04:05Z"))
    (model,) = (one for one in (await client.get("/models")).json()["models"] if one["family"] == "lwlm")
    assert answer["provenance"] == {
        "source": "lwlm",
        "artifact": {name: model[name] for name in ("name", "version", "digest")},
        "cellVersion": (await client.get("/cells/bare")).json()["version"],
    }
    assert (answer["requestId"], answer["timestamp"]) == ("7", "2026-01-02T03:04:05Z")


async def test_speaks_msgpack(client: httpx.AsyncClient) -> None:
    asked = body() | {"csi": build_measure_request("bare", heard_from(BARE, 60, 0)).csi.model_dump()}
    headers = {"Content-Type": "application/msgpack"}
    response = await client.post("/measure", content=msgspec.msgpack.encode(asked), headers=headers)
    assert response.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(response.content)["range"] == pytest.approx(60, abs=1e-2)


@pytest.mark.parametrize(
    ("cell_id", "cause", "reason"),
    [
        ("two-rows", "CELL_NOT_SERVED_BY_ARTIFACT", "array.rows is 2, the artifact lwlm was trained with 1"),
        ("wide-spaced", "CELL_NOT_SERVED_BY_ARTIFACT", "array.spacing is 0.7, the artifact lwlm was trained with 0.5"),
        (
            "five-antennas",
            "CELL_NOT_SERVED_BY_ARTIFACT",
            "array.columns is 5, .* was trained with 8, 16",
        ),
        ("satellite", "CELL_NOT_SERVED_BY_ARTIFACT", "height is 2000 m, the artifact lwlm locates users within 150 m"),
        ("mine", "CELL_NOT_SERVED_BY_ARTIFACT", "height is -200 m, .* within 150 m"),
        ("few-subcarriers", "CELL_NOT_SERVED_BY_ARTIFACT", "subcarriers is 12, .* trained with 16, 32"),
        ("broad", "BAND_NOT_SERVED_BY_ARTIFACT", "bandwidth is 100 MHz, .* trained with 10 to 50 MHz"),
        ("millimetre-waves", "BAND_NOT_SERVED_BY_ARTIFACT", "carrierFrequency is 28000 MHz, .* 2000 to 6000 MHz"),
    ],
)
async def test_a_cell_outside_what_the_model_was_trained_with_is_refused_by_the_field(
    client: httpx.AsyncClient, cell_id: str, cause: str, reason: str
) -> None:
    (cell,) = (one for one in CELLS if one.cell_id == cell_id)
    found = await problem(client, body(cell))
    assert (found["status"], found["cause"]) == (409, cause)
    assert found["invalidParams"][0]["param"] == "/cellId"
    assert re.search(reason, found["detail"]), found["detail"]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"cellId": "nowhere"}, "CELL_NOT_FOUND"),
        ({"coarsePosition": {"x": 1.0, "y": 2.0, "hAccuracy": 1.0}}, "UNKNOWN_FIELD"),
        ({"timestamp": "2001-01-01T00:00:00Z"}, "TIMESTAMP_IMPLAUSIBLE"),
        ({"maxRespTime": 1e-9}, "MAX_RESP_TIME_EXCEEDED"),
        ({"csi": build_locate_body("bare", np.ones((8, 8), complex))["csi"]}, "CSI_SHAPE_MISMATCH"),
        ({"csi": build_locate_body("bare", np.zeros((8, 16), complex))["csi"]}, "CSI_ALL_ZERO"),
        ({"csi": build_locate_body("bare", -np.ones((8, 16), complex))["csi"]}, "ESTIMATE_NOT_FINITE"),
    ],
)
async def test_errors_are_those_of_locate(client: httpx.AsyncClient, changes: Json, cause: str) -> None:
    assert (await problem(client, body() | changes))["cause"] == cause


async def test_a_large_body_is_refused_by_the_shape_that_it_declares(client: httpx.AsyncClient) -> None:
    large = build_measure_request("bare", np.ones((64, 512), complex)).model_dump(mode="json")
    assert (await problem(client, large))["cause"] == "CSI_SHAPE_MISMATCH"
    unknown = large | {"cellId": "nowhere"}
    assert (await problem(client, unknown))["cause"] == "CELL_NOT_FOUND"


async def test_a_large_body_is_measured_as_a_small_one(client: httpx.AsyncClient) -> None:
    content = msgspec.json.encode(body())
    headers = {"Content-Type": "application/json"}
    small, large = [
        (await client.post("/measure", content=content + padding, headers=headers)).json()
        for padding in (b"", b" " * LARGE_BYTES)
    ]
    assert {**large, "timestamp": None} == {**small, "timestamp": None}


@pytest.mark.parametrize("content", [b"{", b"[]", b"7", b'{"cellId": 7}', b'{"cellId": "bare", "csi": 7}'])
async def test_a_large_body_that_is_no_message_is_refused_as_a_small_one(
    client: httpx.AsyncClient, content: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    small, large = [
        (await client.post("/measure", content=content + padding, headers=headers)).json()
        for padding in (b"", b" " * LARGE_BYTES)
    ]
    assert (large["cause"], large.get("invalidParams")) == (small["cause"], small.get("invalidParams"))


async def test_many_users_at_once_get_their_own_measurements(client: httpx.AsyncClient) -> None:
    ranges = [20.0 + i for i in range(40)]
    answers = await asyncio.gather(*(measured(client, body(east=length, requestId=str(length))) for length in ranges))
    assert [one["range"] for one in answers] == pytest.approx(ranges, abs=1e-2)
    assert [one["requestId"] for one in answers] == [str(length) for length in ranges]


async def test_metrics_count_measurements_by_outcome(client: httpx.AsyncClient) -> None:
    await measured(client, body())
    await problem(client, body() | {"cellId": "nowhere"})
    lines = (await client.get("/metrics")).text.splitlines()
    assert 'fingerpost_measures_total{outcome="measured"} 1.0' in lines
    assert 'fingerpost_measures_total{outcome="CELL_NOT_FOUND"} 1.0' in lines
    assert "fingerpost_dispatch_measures_count 1.0" in lines
    assert any(line.startswith('fingerpost_stage_duration_seconds_count{stage="measure"} 1') for line in lines)
    assert any(line.startswith("fingerpost_measure_artifact_info{") for line in lines)


async def test_a_service_without_the_artifact_says_so(settings: Settings) -> None:
    async with running(settings.model_copy(update={"lwlm_artifact_directory": None})) as client:
        found = await problem(client, body())
    assert (found["status"], found["cause"]) == (501, "NO_MEASURING_ARTIFACT")


async def test_the_example_of_the_description_is_answered(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/measure"]["post"]
    (example,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
    answer = await measured(client, example["value"])
    assert answer["requestId"] == "example"
