"""`POST /locate` with `measurements` of several base stations, by a model that is exact for a channel of one path."""

import math
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from fingerpost import (
    AsyncClient,
    Client,
    LocateResponse,
    LwlmProvenance,
    Refused,
    build_locate_body,
    build_stations_request,
)
from reference_db import Cell, DirectoryStore, LocalFrame
from service.locating import user_reader
from service.settings import Settings
from service.web.media import LARGE_BYTES
from tests.damage import damage
from tests.service.learned_cells import set_policy
from tests.service.measured_cells import create_cells, heard_from, measured_cell, write_measuring_artifacts
from tests.service.plane_cell import Json
from tests.service.running import running
from tests.service.serving import serving
from tests.service.tiny_lwlm_artifact import SCALES, STATIONS

pytestmark = pytest.mark.anyio

HOME = LocalFrame(43.7731, 11.2560)
USER = HOME.to_wgs84(40.0, 55.0)  # degrees


def cell_at(cell_id: str, east: float, north: float, **fields: Any) -> Cell:
    """A base station so many metres from `HOME` whose array looks at the user."""
    latitude, longitude = HOME.to_wgs84(east, north)
    to_east, to_north = LocalFrame(latitude, longitude).to_local(*USER)
    yaw_deg = fields.pop("yaw_deg", math.degrees(math.atan2(to_north, to_east)) + 10)
    return measured_cell(cell_id, yaw_deg=yaw_deg, latitude_deg=latitude, longitude_deg=longitude, **fields)


SOUTH, WEST = cell_at("south", 45.0, -25.0), cell_at("west", -40.0, 60.0)
EAST, FAR = cell_at("east", 100.0, 40.0, columns=16, subcarriers=32), cell_at("far", 21_000.0, 0.0)
NARROW = {"bandwidth": 10e6, "subcarriers": 32}  # heard without ambiguity up to 960 m
LEFT, RIGHT = cell_at("left", -760.0, 55.0, **NARROW), cell_at("right", 840.0, 55.0, **NARROW)
NORTH = cell_at("north", 50.0, 130.0)
BROAD = cell_at("broad", 0.0, 0.0, bandwidth=100e6)
CELLS = (SOUTH, WEST, EAST, NORTH, FAR, LEFT, RIGHT, BROAD)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = write_measuring_artifacts(tmp_path)
    create_cells(DirectoryStore(settings.database_directory), *CELLS)
    return settings


@pytest.fixture
async def fresh(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service in this process that nobody has asked before."""
    async with running(settings) as client:
        yield client


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service as a process of its own."""
    settings = write_measuring_artifacts(tmp_path_factory.mktemp("stations"))
    create_cells(DirectoryStore(settings.database_directory), *CELLS)
    with serving(settings) as address:
        yield address


def heard(cell: Cell, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """What a cell's base station hears of the user. `noise`: amplitude relative to the signal's."""
    csi = heard_from(cell, *LocalFrame(cell.latitude_deg, cell.longitude_deg).to_local(*USER))
    rng = np.random.default_rng([seed, *cell.cell_id.encode()])
    parts = rng.standard_normal((2, *csi.shape)) * noise * np.abs(csi) / math.sqrt(2)
    return np.asarray(csi + parts[0] + 1j * parts[1], np.complex64)


def body(*cells: Cell, **fields: Any) -> Json:
    """A good request's JSON; keywords replace or add fields."""
    return {"measurements": [body_of_one(cell) for cell in cells]} | fields


def body_of_one(cell: Cell) -> Json:
    return build_locate_body(cell.cell_id, heard(cell))


def error_of(answer: LocateResponse) -> float:
    """Metres from the user, on Earth."""
    point = answer.location_estimate.point
    return math.hypot(*LocalFrame(*USER).to_local(point.lat, point.lon))


async def locate(client: httpx.AsyncClient, asked: Json) -> LocateResponse:
    response = await client.post("/locate", json=asked)
    assert response.status_code == 200, response.text
    return LocateResponse.model_validate_json(response.content)


async def problem(client: httpx.AsyncClient, asked: Json) -> tuple[int, str, str | None]:
    """The status, the cause and the field at fault."""
    response = await client.post("/locate", json=asked)
    found = response.json()
    return response.status_code, found["cause"], found.get("invalidParams", [{"param": None}])[0]["param"]


def made(answer: LocateResponse) -> LwlmProvenance:
    assert isinstance(answer.provenance, LwlmProvenance)
    return answer.provenance


def test_two_base_stations_locate_a_user_to_centimetres_and_better_than_one_where_both_are_noisy(url: str) -> None:
    with Client(url) as client:
        exact = client.locate_by_stations({cell.cell_id: heard(cell) for cell in (SOUTH, WEST)}, request_id="7")
        errors = []
        for seed in range(30):
            noisy = {cell.cell_id: heard(cell, 0.3, seed) for cell in (SOUTH, WEST)}
            alone = [client.locate(*one) for one in noisy.items()]
            errors.append([error_of(one) for one in (*alone, client.locate_by_stations(noisy))])
    assert error_of(exact) < 0.02
    assert exact.request_id == "7"
    south, west, together = np.mean(errors, axis=0)
    assert 0.1 < together < 0.9 * min(south, west)


async def test_the_answer_is_in_the_frame_of_the_first_cell_and_says_who_counted(client: httpx.AsyncClient) -> None:
    answer = await locate(client, body(SOUTH, WEST, EAST, hAccuracy=1000.0))
    local = answer.local_location_estimate
    frame = LocalFrame(SOUTH.latitude_deg, SOUTH.longitude_deg)
    assert local.local_origin.coordinate_id == "south"
    assert (local.point.x, local.point.y) == pytest.approx(frame.to_local(*USER), abs=0.02)
    provenance = made(answer)
    assert (provenance.source, provenance.artifact.name) == ("lwlm", "phase-slopes")
    assert (provenance.fallbacks, provenance.disagreement, provenance.los_probability) == (None, None, None)
    assert provenance.stations is not None
    assert [one.cell_id for one in provenance.stations] == ["south", "west", "east"]
    assert {one.cell_version for one in provenance.stations} >= {provenance.cell_version}
    assert sum(one.weight for one in provenance.stations) == pytest.approx(1, abs=1e-5)
    nearest = max(provenance.stations, key=lambda one: one.weight)
    assert nearest.cell_id == "east"  # its angle is worth the most
    assert max(one.distance for one in provenance.stations) < 0.05
    assert not any(one.outvoted for one in provenance.stations)
    assert min(one.los_probability for one in provenance.stations) > 0.99
    assert answer.accuracy_fulfilment_indicator == "REQUESTED_ACCURACY_FULFILLED"


async def test_the_ellipse_is_the_fused_covariance_with_its_calibrated_scale(client: httpx.AsyncClient) -> None:
    answer = await locate(client, body(SOUTH, WEST))
    ellipse = answer.location_estimate.uncertainty_ellipse
    alone = (await locate(client, body_of_one(SOUTH))).location_estimate.uncertainty_ellipse
    # Two perpendicular ellipses: their mean has half the sum of the variances, and both axes are alike.
    expected = (
        SCALES.fused.factors[95] * math.hypot(alone.semi_major, alone.semi_minor) / SCALES.position.factors[95] / 2
    )
    assert ellipse.semi_major == pytest.approx(expected, rel=0.2)
    assert ellipse.semi_minor == pytest.approx(expected, rel=0.2)
    assert answer.h_accuracy == ellipse.semi_major
    assert answer.location_estimate.confidence == 95


async def test_every_order_gives_the_same_place_on_earth(client: httpx.AsyncClient) -> None:
    answers = [await locate(client, body(*order)) for order in ((SOUTH, WEST, EAST), (EAST, SOUTH, WEST))]
    first, second = (answer.location_estimate.point for answer in answers)
    assert math.hypot(*LocalFrame(first.lat, first.lon).to_local(second.lat, second.lon)) < 1e-3


async def test_base_stations_far_apart_are_joined_in_frames_turned_to_each_other(client: httpx.AsyncClient) -> None:
    """Without the convergence of the meridians the right base station would be heard 20 cm wrong."""
    answer = await locate(client, body(LEFT, RIGHT))
    shares = made(answer).stations
    assert shares is not None
    assert error_of(answer) < 0.03
    assert max(one.distance for one in shares) < 0.03


async def test_users_of_one_and_of_several_base_stations_share_a_batch(client: httpx.AsyncClient) -> None:
    items = [body_of_one(SOUTH), body(SOUTH, WEST), body(SOUTH, measured_cell("nowhere")), body_of_one(WEST)]
    response = await client.post("/locate/batch", json={"items": [*items, body(EAST, WEST, SOUTH, NORTH)]})
    first, second, third, fourth, fifth = response.json()["results"]
    assert [len(one["location"]["provenance"].get("stations", [])) for one in (first, second, fourth, fifth)] == [
        0,
        2,
        0,
        4,
    ]
    assert [
        one["location"]["localLocationEstimate"]["localOrigin"]["coordinateId"]
        for one in (first, second, fourth, fifth)
    ] == [
        "south",
        "south",
        "west",
        "east",
    ]
    assert (third["problem"]["cause"], third["problem"]["invalidParams"][0]["param"]) == (
        "CELL_NOT_FOUND",
        "/measurements/1/cellId",
    )


async def test_msgpack_carries_csi_as_bytes(client: httpx.AsyncClient) -> None:
    request = build_stations_request({cell.cell_id: heard(cell) for cell in (SOUTH, WEST)})
    packed = msgspec.msgpack.encode(request.model_dump())
    response = await client.post("/locate", content=packed, headers={"Content-Type": "application/msgpack"})
    answer = LocateResponse.model_validate(msgspec.msgpack.decode(response.content))
    assert error_of(answer) < 0.02


async def test_the_answer_is_as_old_as_the_oldest_snapshot(client: httpx.AsyncClient) -> None:
    asked = body(SOUTH, WEST)
    asked["measurements"][0]["timestamp"] = "2026-01-01T00:00:01Z"
    asked["measurements"][1]["timestamp"] = "2026-01-01T00:00:00.5Z"
    answer = await locate(client, asked)
    assert answer.timestamp_of_location_estimate.isoformat() == "2026-01-01T00:00:00.500000+00:00"


@pytest.mark.parametrize(("yaw_off_deg", "disagree"), [(0, False), (2, False), (40, True)])
async def test_a_base_station_that_contradicts_the_other_makes_no_confident_answer(
    tmp_path: Path, yaw_off_deg: float, disagree: bool
) -> None:
    """The array of one base station is turned, and the description of its cell does not say so."""
    settings = write_measuring_artifacts(tmp_path)
    wrong = cell_at("wrong", -40.0, 60.0, yaw_deg=math.degrees(WEST.yaw) + yaw_off_deg)
    create_cells(DirectoryStore(settings.database_directory), SOUTH, wrong, EAST)
    asked = body(SOUTH, WEST)
    asked["measurements"][1]["cellId"] = "wrong"
    async with running(settings) as client:
        answer = await locate(client, asked)
        outnumbered = await locate(client, {"measurements": [*asked["measurements"], body_of_one(EAST)]})
        alone = [await locate(client, {"cellId": one["cellId"], "csi": one["csi"]}) for one in asked["measurements"]]
    assert made(answer).disagreement == ("STATIONS_DISAGREE" if disagree else None)
    shares = made(outnumbered).stations
    assert shares is not None
    assert [one.outvoted for one in shares] == [False, disagree, False]
    if disagree:
        assert made(outnumbered).disagreement == "STATIONS_DISAGREE"  # the artifact's average is nobody's answer
        at = answer.location_estimate
        assert at.uncertainty_ellipse.semi_major == at.uncertainty_ellipse.semi_minor == answer.h_accuracy
        for one in alone:  # the circle holds each of their ellipses, and so the user
            point = one.location_estimate.point
            away = math.hypot(*LocalFrame(at.point.lat, at.point.lon).to_local(point.lat, point.lon))
            assert away + one.h_accuracy <= answer.h_accuracy + 1e-3
        assert error_of(answer) < answer.h_accuracy


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (400, "MANDATORY_IE_MISSING", "/cellId")),
        ({"measurements": []}, (400, "MANDATORY_IE_INCORRECT", "/measurements")),
        (body(SOUTH), (400, "MANDATORY_IE_INCORRECT", "/measurements")),
        (body(SOUTH, WEST) | body_of_one(SOUTH), (400, "MANDATORY_IE_INCORRECT", "/measurements")),
        (body(SOUTH, WEST, coarsePosition={"x": 1, "y": 1}), (400, "UNKNOWN_FIELD", "/coarsePosition")),
        (body(SOUTH, WEST, trackId="a"), (400, "UNKNOWN_FIELD", "/trackId")),
        ({"measurements": [*body(SOUTH, WEST)["measurements"], 7]}, (400, "MANDATORY_IE_INCORRECT", "/measurements/2")),
        (body(SOUTH, WEST, SOUTH), (400, "MANDATORY_IE_INCORRECT", "/measurements/2/cellId")),
        (body(SOUTH, WEST, EAST, NORTH, BROAD), (400, "TOO_MANY_STATIONS", "/measurements")),
        (body(SOUTH, measured_cell("nowhere")), (404, "CELL_NOT_FOUND", "/measurements/1/cellId")),
        (body(SOUTH, WEST, BROAD), (409, "BAND_NOT_SERVED_BY_ARTIFACT", "/measurements/2/cellId")),
        (body(SOUTH, FAR), (422, "STATIONS_TOO_FAR", "/measurements/1/cellId")),
    ],
)  # fmt: skip
async def test_a_request_that_cannot_be_answered_names_the_field_at_fault(
    client: httpx.AsyncClient, asked: Json, expected: tuple[int, str, str]
) -> None:
    assert await problem(client, asked) == expected


@pytest.mark.parametrize(
    ("number", "field", "value", "expected"),
    [
        (1, "data", "AA==", ("CSI_LENGTH_MISMATCH", "/measurements/1/csi/data")),
        (0, "data", "?", ("CSI_NOT_BASE64", "/measurements/0/csi/data")),
        (1, "data", b64encode(bytes(1024)).decode(), ("CSI_ALL_ZERO", "/measurements/1/csi/data")),
        (1, "shape", [16, 8], ("CSI_SHAPE_MISMATCH", "/measurements/1/csi/shape")),
        (0, "encoding", "int8", ("MANDATORY_IE_INCORRECT", "/measurements/0/csi/encoding")),
    ],
)  # fmt: skip
async def test_wrong_csi_names_its_measurement(
    client: httpx.AsyncClient, number: int, field: str, value: Any, expected: tuple[str, str]
) -> None:
    asked = body(SOUTH, WEST)
    asked["measurements"][number]["csi"][field] = value
    assert (await problem(client, asked))[1:] == expected


async def test_csi_that_the_model_cannot_measure_names_its_cell(client: httpx.AsyncClient) -> None:
    request = build_stations_request({"south": heard(SOUTH), "west": -heard(WEST)})
    response = await client.post("/locate", json=request.model_dump(mode="json"))
    assert response.json()["cause"] == "ESTIMATE_NOT_FINITE"
    assert "cell west" in response.json()["detail"]


async def test_a_timestamp_in_the_future_names_its_measurement(client: httpx.AsyncClient) -> None:
    asked = body(SOUTH, WEST)
    asked["measurements"][1]["timestamp"] = "2126-01-01T00:00:00Z"
    assert await problem(client, asked) == (400, "TIMESTAMP_IMPLAUSIBLE", "/measurements/1/timestamp")


async def test_a_cell_whose_policy_excludes_the_model_is_named(settings: Settings) -> None:
    set_policy(DirectoryStore(settings.database_directory), "west", "mateformer")
    async with running(settings) as client:
        assert await problem(client, body(SOUTH, WEST)) == (409, "MODEL_NOT_ALLOWED_BY_CELL", "/measurements/1/cellId")


async def test_a_cell_that_cannot_be_read_is_named_and_fails_the_whole_request(settings: Settings) -> None:
    for file in (settings.database_directory / "cells" / "west").rglob("*"):
        if file.is_file():
            damage(file, b"{")
    async with running(settings) as client:
        response = await client.post("/locate", json=body(SOUTH, WEST, EAST))
        found = response.json()
    assert (response.status_code, found["cause"]) == (500, "CELL_UNREADABLE")
    assert "cell west" in found["detail"]
    assert found["invalidParams"][0]["param"] == "/measurements/1"


async def test_a_service_without_the_artifact_says_so(settings: Settings) -> None:
    async with running(settings.model_copy(update={"lwlm_artifact_directory": None})) as client:
        assert await problem(client, body(SOUTH, WEST)) == (501, "NO_MEASURING_ARTIFACT", None)


async def test_users_of_several_base_stations_are_counted_like_others(fresh: httpx.AsyncClient) -> None:
    await locate(fresh, body(SOUTH, WEST))
    await problem(fresh, body(SOUTH, FAR))
    metrics = (await fresh.get("/metrics")).text
    assert 'fingerpost_locations_total{fallback="none",outcome="located",source="lwlm"} 1.0' in metrics
    assert 'fingerpost_locations_total{fallback="none",outcome="STATIONS_TOO_FAR",source="none"} 1.0' in metrics
    assert 'fingerpost_joined_users_total{agreement="agree"} 1.0' in metrics
    assert 'fingerpost_stage_duration_seconds_count{stage="fuse"} 1.0' in metrics


async def test_an_operator_sees_which_model_located_the_user(settings: Settings) -> None:
    async with running(settings.model_copy(update={"console_live": True})) as client:
        await client.get("/cells/west/live")
        await locate(client, body(WEST, SOUTH))
        await locate(client, body(SOUTH, WEST))
        (estimate,) = (await client.get("/cells/west/live")).json()["estimates"]
    assert (estimate["source"], estimate["coarsePositionUsed"]) == ("lwlm", False)


async def test_the_documented_example_is_answered(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    content = document["paths"]["/locate"]["post"]["requestBody"]["content"]["application/json"]
    example = content["examples"]["two base stations"]["value"]
    assert len(example["measurements"]) == 2
    await locate(client, example)
    forms = [one["$ref"].rpartition("/")[2] for one in content["schema"]["anyOf"]]
    assert forms == ["LocateRequest", "StationsRequest"]


async def test_large_bodies_are_checked_before_their_csi_is_decoded(
    fresh: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    decode = user_reader.decode_csi
    monkeypatch.setattr(user_reader, "decode_csi", lambda csi: decoded.append(csi) or decode(csi))

    async def post(asked: Json) -> Json:
        padded = msgspec.json.encode(asked) + b" " * LARGE_BYTES
        answer: Json = (
            await fresh.post("/locate", content=padded, headers={"Content-Type": "application/json"})
        ).json()
        return answer

    wrong = body(SOUTH, WEST)
    wrong["measurements"][1]["csi"]["shape"] = [512, 512]
    for asked, cause, param in (
        (wrong, "CSI_SHAPE_MISMATCH", "/measurements/1/csi/shape"),
        (body(SOUTH, measured_cell("nowhere")), "CELL_NOT_FOUND", "/measurements/1/cellId"),
        ({"measurements": 17 * body(SOUTH)["measurements"]}, "TOO_MANY_STATIONS", "/measurements"),
        ({"measurements": [7, {"cellId": "../x"}]}, "MANDATORY_IE_INCORRECT", "/measurements/0"),
    ):
        found = await post(asked)
        assert (found["cause"], found["invalidParams"][0]["param"]) == (cause, param)
    assert decoded == []
    sound = LocateResponse.model_validate(await post(body(SOUTH, WEST)) | {}, strict=False)
    assert error_of(sound) < 0.02
    assert len(decoded) == 2


async def test_the_async_client_sends_measurements_too(url: str) -> None:
    async with AsyncClient(url) as client:
        answer = await client.locate_by_stations({cell.cell_id: heard(cell) for cell in (WEST, EAST)})
        one, several = await client.locate_batch(
            [
                build_stations_request({cell.cell_id: heard(cell) for cell in (SOUTH, EAST)}),
                build_stations_request({cell.cell_id: heard(cell) for cell in (SOUTH, WEST, EAST, NORTH)}),
            ]
        )
        with pytest.raises(Refused, match="TOO_MANY_STATIONS"):
            await client.locate_by_stations({cell.cell_id: heard(cell) for cell in CELLS[: STATIONS + 1]})
    for found in (answer, one, several):
        assert isinstance(found, LocateResponse)
        assert error_of(found) < 0.02
