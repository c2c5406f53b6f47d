"""The quality that requests ask for and answers state: accuracy, confidence, shapes and age."""

import math
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

import httpx
import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Geod

from fingerpost import LocateRequest, LocateResponse, TrajectoryResponse, build_locate_body
from models.artifact import Scales
from reference_db import Cell, DirectoryStore, Fingerprints, LocalFrame, import_fingerprints
from service.locating.estimates import Uncertainty
from service.locating.quality import Statement, state_location
from service.settings import Settings
from tests.service.learned_cells import TRAJECTORY, snapshot, trajectory
from tests.service.measured_cells import create_cells, heard_from, measured_cell, write_measuring_artifacts
from tests.service.plane_cell import Json
from tests.service.running import running
from tests.service.tiny_cell import ORIGIN

ELLIPSE, CIRCLE, POINT = "POINT_UNCERTAINTY_ELLIPSE", "POINT_UNCERTAINTY_CIRCLE", "POINT"
LOCAL, POLYGON = "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE", "POLYGON"
USER = (60.0, 20.0)  # metres east and north of the first base station
BARE, SURVEYED = measured_cell(yaw_deg=30), measured_cell("surveyed")
SOUTH = measured_cell("south", yaw_deg=90, latitude_deg=LocalFrame(43.7731, 11.2560).to_wgs84(60.0, -40.0)[0])


class Placed(NamedTuple):
    position: NDArray[np.floating]
    cell: Cell
    frame: LocalFrame
    uncertainty: Uncertainty


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = write_measuring_artifacts(tmp_path_factory.mktemp("quality"))
    store = DirectoryStore(settings.database_directory)
    create_cells(store, BARE, SOUTH)
    positions = np.stack([30 + np.arange(40), np.zeros(40)], axis=1).astype(np.float32)
    csi = np.stack([heard_from(SURVEYED, *place) for place in positions.tolist()])
    fingerprints = Fingerprints(csi, positions, np.zeros(40), np.full(40, 0.05, np.float32))
    import_fingerprints(store, SURVEYED, fingerprints, {}, ORIGIN)
    return settings


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


def body_of(kind: str, **fields: Any) -> Json:
    """A user located by fingerprints, by one base station, or by two."""
    if kind == "stations":
        bodies = [build_locate_body(BARE.cell_id, heard_from(BARE, *USER))]
        south = LocalFrame(SOUTH.latitude_deg, SOUTH.longitude_deg)
        bodies.append(build_locate_body(SOUTH.cell_id, heard_from(SOUTH, *south.to_local(*_on_earth(USER)))))
        return {"measurements": bodies} | fields
    cell = SURVEYED if kind == "fingerprints" else BARE
    return build_locate_body(cell.cell_id, heard_from(cell, *USER)) | fields


def _on_earth(place: tuple[float, float]) -> tuple[float, float]:
    return LocalFrame(BARE.latitude_deg, BARE.longitude_deg).to_wgs84(*place)


KINDS = ("fingerprints", "station", "stations")


async def located(client: httpx.AsyncClient, asked: Json) -> Json:
    response = await client.post("/locate", json=asked)
    assert response.status_code == 200, response.text
    LocateResponse.model_validate_json(response.content)
    answer: Json = response.json()
    return answer


def stated(covariance: NDArray[np.float64], scales: Scales, **asked: Any) -> Statement:
    frame = LocalFrame(BARE.latitude_deg, BARE.longitude_deg)
    place = Placed(np.array(USER), BARE, frame, Uncertainty(covariance, scales))
    request = LocateRequest.model_validate(body_of("station", **asked), strict=False)
    return state_location(place, request, usual=95)


# Shapes
def subsets() -> Iterator[list[str]]:
    shapes = (POINT, CIRCLE, ELLIPSE, LOCAL, POLYGON)
    for size in range(1, len(shapes) + 1):
        yield from map(list, combinations(shapes, size))


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_every_list_of_shapes_gets_the_best_of_them(client: httpx.AsyncClient, kind: str) -> None:
    document = (await client.get("/openapi.json")).json()
    schema = {"$ref": "#/components/schemas/LocateResponse", "components": document["components"]}
    usual = await located(client, body_of(kind))
    ellipse = usual["locationEstimate"]["uncertaintyEllipse"]
    for shapes in subsets():
        if shapes == [POLYGON]:
            continue
        answer = await located(client, body_of(kind, supportedGADShapes=shapes))
        jsonschema.validate(answer, schema)
        estimate = answer["locationEstimate"]
        expected = next((shape for shape in (ELLIPSE, CIRCLE, POINT) if shape in shapes), POINT)
        assert estimate["shape"] == expected
        assert estimate["point"] == usual["locationEstimate"]["point"]
        assert estimate.get("uncertaintyEllipse") == (ellipse if expected == ELLIPSE else None)
        assert estimate.get("uncertainty") == (ellipse["semiMajor"] if expected == CIRCLE else None)
        assert answer.get("localLocationEstimate") == (usual["localLocationEstimate"] if LOCAL in shapes else None)
        assert answer["hAccuracy"] == ellipse["semiMajor"]
        assert answer["confidence"] == usual["confidence"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_list_without_a_shape_of_answers_is_refused_before_the_csi_is_read(
    client: httpx.AsyncClient, kind: str
) -> None:
    asked = body_of(kind, supportedGADShapes=[POLYGON, "ELLIPSOID_ARC", "OF_A_LATER_RELEASE"])
    for part in asked.get("measurements", [asked]):
        part["csi"]["data"] = ""
    problem = (await client.post("/locate", json=asked)).json()
    assert (problem["status"], problem["cause"]) == (422, "GAD_SHAPES_NOT_SUPPORTED")
    (invalid,) = problem["invalidParams"]
    assert invalid["param"] == "/supportedGADShapes"
    assert LOCAL in invalid["reason"]


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [[], "POINT", [1], ["point"], ["A" * 65], ["POINT"] * 17])
async def test_a_list_of_another_form_is_refused(client: httpx.AsyncClient, wrong: Any) -> None:
    problem = (await client.post("/locate", json=body_of("station", supportedGADShapes=wrong))).json()
    assert (problem["status"], problem["cause"]) == (400, "MANDATORY_IE_INCORRECT")
    assert problem["invalidParams"][0]["param"].startswith("/supportedGADShapes")


@pytest.mark.anyio
async def test_users_of_a_batch_ask_for_shapes_of_their_own(client: httpx.AsyncClient) -> None:
    asked = [[CIRCLE], [POLYGON], [LOCAL], None]
    items = [body_of("station", supportedGADShapes=shapes) for shapes in asked]
    first, refused, third, fourth = (await client.post("/locate/batch", json={"items": items})).json()["results"]
    assert first["location"]["locationEstimate"]["shape"] == CIRCLE
    assert refused["problem"]["cause"] == "GAD_SHAPES_NOT_SUPPORTED"
    assert third["location"]["locationEstimate"]["shape"] == POINT
    assert third["location"]["localLocationEstimate"]["shape"] == LOCAL
    assert fourth["location"]["locationEstimate"]["shape"] == ELLIPSE


def random_statements(**asked: Any) -> Iterator[Statement]:
    rng = np.random.default_rng(3)
    scales = Scales.of_distances(np.hypot(*rng.standard_normal((2, 500))))
    assert scales is not None
    for factor in rng.standard_normal((60, 2, 2)):
        confidence = int(rng.integers(50, 100))
        yield stated(factor @ factor.T, scales, confidence=confidence, **asked)


def boundary(ellipse: Json) -> NDArray[np.float64]:
    """Points `[n, 2]` of an ellipse around the origin, metres east and north."""
    around = np.linspace(0, 2 * np.pi, 73)
    azimuth = math.radians(ellipse["orientationMajor"])
    along, across = ellipse["semiMajor"] * np.cos(around), ellipse["semiMinor"] * np.sin(around)
    east = along * math.sin(azimuth) + across * math.cos(azimuth)
    return np.stack([east, along * math.cos(azimuth) - across * math.sin(azimuth)], axis=1)


def test_the_circle_contains_the_ellipse() -> None:
    for ellipse, circle in zip(random_statements(), random_statements(supportedGADShapes=[CIRCLE, LOCAL]), strict=True):
        points = boundary(ellipse.fields["localLocationEstimate"]["uncertaintyEllipse"])
        radius = circle.fields["locationEstimate"]["uncertainty"]
        assert np.hypot(*points.T).max() <= radius * (1 + 1e-9)
        assert circle.confidence == ellipse.confidence


def test_the_ellipses_on_the_globe_and_in_the_cell_are_the_same_places() -> None:
    geod, frame = Geod(ellps="WGS84"), LocalFrame(BARE.latitude_deg, BARE.longitude_deg)
    for one in random_statements():
        globe, local = one.fields["locationEstimate"], one.fields["localLocationEstimate"]
        east, north = boundary(globe["uncertaintyEllipse"]).T
        point, places = globe["point"], []
        for azimuth, away in zip(np.degrees(np.arctan2(east, north)), np.hypot(east, north), strict=True):
            lon, lat, _ = geod.fwd(point["lon"], point["lat"], azimuth, away)
            places.append(frame.to_local(lat, lon))
        centre = np.array([local["point"]["x"], local["point"]["y"]])
        expected = centre + boundary(local["uncertaintyEllipse"])
        assert np.array(places) == pytest.approx(expected, abs=2e-3)


def test_the_ellipse_is_where_errors_of_the_covariance_are_at_the_asked_confidence() -> None:
    covariance = np.array([[4.0, 1.5], [1.5, 1.0]])
    scales = Scales(factors={50: 1.2, 95: 2.4, 99: 3.0})
    for confidence, factor in scales.factors.items():
        one = stated(covariance, scales, confidence=confidence)
        points = boundary(one.fields["localLocationEstimate"]["uncertaintyEllipse"])
        distances = np.sqrt(np.einsum("ni,ij,nj->n", points, np.linalg.inv(covariance), points))
        assert distances == pytest.approx(factor, rel=0.02)  # the orientation is in whole degrees
        assert one.confidence == confidence


# Confidence and accuracy
@pytest.mark.parametrize(
    ("asked", "answered", "accuracy", "fulfilled"),
    [(80, 80, 2.0, True), (80, 80, 1.99, False), (99, 95, 100.0, False), (60, 80, 2.0, True), (None, 95, 3.0, True)],
)
def test_accuracy_is_fulfilled_at_no_less_than_the_confidence_asked_for(
    asked: int | None, answered: int, accuracy: float, fulfilled: bool
) -> None:
    one = stated(np.eye(2), Scales(factors={80: 2.0, 95: 3.0}), confidence=asked, hAccuracy=accuracy)
    assert one.confidence == answered
    assert (one.indicator == "REQUESTED_ACCURACY_FULFILLED") is fulfilled


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_says_which_confidence_it_has(client: httpx.AsyncClient, kind: str) -> None:
    for asked in (50, 95, 99):
        answer = await located(client, body_of(kind, confidence=asked, hAccuracy=1000.0))
        confidence = answer["confidence"]
        assert confidence == answer["locationEstimate"]["confidence"] == answer["localLocationEstimate"]["confidence"]
        fulfilled = answer["accuracyFulfilmentIndicator"] == "REQUESTED_ACCURACY_FULFILLED"
        assert fulfilled is (confidence >= asked)


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [49, 100, 0.95, "95", True])
async def test_a_confidence_is_a_whole_number_of_50_to_99_per_cent(client: httpx.AsyncClient, wrong: Any) -> None:
    problem = (await client.post("/locate", json=body_of("station", confidence=wrong))).json()
    assert (problem["cause"], problem["invalidParams"][0]["param"]) == ("MANDATORY_IE_INCORRECT", "/confidence")


# Age
def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def assert_too_old(problem: Json, param: str) -> None:
    assert (problem["status"], problem["cause"]) == (422, "LOCATION_TOO_OLD"), problem
    (invalid,) = problem["invalidParams"]
    assert invalid["param"] == param
    assert "maxAge allows 60 s" in invalid["reason"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["fingerprints", "station"])
async def test_a_snapshot_older_than_allowed_is_refused_before_its_csi_is_read(
    client: httpx.AsyncClient, kind: str
) -> None:
    old, new = body_of(kind, timestamp=ago(70), maxAge=60), body_of(kind, timestamp=ago(30), maxAge=60)
    assert_too_old((await client.post("/locate", json=old | {"cellId": "nowhere"})).json(), "/timestamp")
    old["csi"]["data"] = ""
    results = (await client.post("/locate/batch", json={"items": [old, new]})).json()["results"]
    assert_too_old(results[0]["problem"], "/timestamp")
    assert "location" in results[1]
    assert (await located(client, body_of(kind, maxAge=0.001)))["ageOfLocationEstimate"] == 0


@pytest.mark.anyio
async def test_of_several_base_stations_the_oldest_snapshot_counts(client: httpx.AsyncClient) -> None:
    asked = body_of("stations", maxAge=60)
    asked["measurements"][0]["timestamp"] = ago(30)
    assert (await located(client, asked))["ageOfLocationEstimate"] == 0
    asked["measurements"][1]["timestamp"] = ago(70)
    assert_too_old((await client.post("/locate", json=asked)).json(), "/measurements/1/timestamp")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/locate", "/measure"])
async def test_a_large_body_is_refused_before_its_cell_is_looked_for(client: httpx.AsyncClient, path: str) -> None:
    asked = body_of("station", cellId="nowhere", timestamp=ago(70), maxAge=60)
    asked["csi"]["data"] = "A" * 400_000
    assert_too_old((await client.post(path, json=asked)).json(), "/timestamp")
    asked |= {"maxAge": 100}
    assert (await client.post(path, json=asked)).json()["cause"] == "CELL_NOT_FOUND"


@pytest.mark.anyio
async def test_a_large_body_of_several_base_stations_is_refused_before_its_cells_are(client: httpx.AsyncClient) -> None:
    asked = body_of("stations", maxAge=60)
    for one in asked["measurements"]:
        one["csi"]["data"] = "A" * 400_000
    asked["measurements"][1] |= {"cellId": "nowhere", "timestamp": ago(70)}
    assert_too_old((await client.post("/locate", json=asked)).json(), "/measurements/1/timestamp")


@pytest.mark.anyio
async def test_a_measurement_has_an_age_and_a_confidence_too(client: httpx.AsyncClient) -> None:
    old = body_of("station", timestamp=ago(70), maxAge=60)
    assert_too_old((await client.post("/measure", json=old)).json(), "/timestamp")
    answer = (await client.post("/measure", json=old | {"maxAge": 100, "confidence": 99})).json()
    assert answer["confidence"] == 95


# Tracks and trajectories
def test_the_points_of_a_trajectory_have_the_quality_asked_for(learned: httpx.Client) -> None:
    asked = trajectory() | {"supportedGADShapes": [CIRCLE], "confidence": 99, "hAccuracy": 1000.0}
    response = learned.post("/locate/trajectory", json=asked)
    answer = TrajectoryResponse.model_validate_json(response.content)
    for place in (*answer.points, answer.centroid):
        assert place.location_estimate.shape == CIRCLE
        assert place.location_estimate.uncertainty == place.h_accuracy
        assert place.local_location_estimate is None
        assert place.confidence == 95
        assert place.accuracy_fulfilment_indicator == "REQUESTED_ACCURACY_NOT_FULFILLED"


def test_a_trajectory_with_a_snapshot_that_is_too_old_is_refused(learned: httpx.Client) -> None:
    asked = trajectory() | {"maxAge": 60}
    asked["snapshots"][1]["timestamp"] = ago(70)
    assert_too_old(learned.post("/locate/trajectory", json=asked).json(), "/snapshots/1/timestamp")
    refused = learned.post("/locate/trajectory", json=trajectory() | {"supportedGADShapes": [POLYGON]}).json()
    assert refused["cause"] == "GAD_SHAPES_NOT_SUPPORTED"


def test_a_track_is_answered_in_the_quality_asked_for(learned: httpx.Client) -> None:
    for i, place in enumerate(TRAJECTORY):
        sent = snapshot("quality", place, requestId=str(i), supportedGADShapes=[CIRCLE], maxAge=60)
        answer = learned.post("/locate", json=sent).json()
    assert answer["provenance"]["source"] == "scadf-moe"
    assert answer["locationEstimate"] == {
        "shape": CIRCLE,
        "point": answer["locationEstimate"]["point"],
        "uncertainty": answer["hAccuracy"],
    }
    old = snapshot("quality", TRAJECTORY[0], timestamp=ago(70), maxAge=60)
    assert_too_old(learned.post("/locate", json=old).json(), "/timestamp")


# What operators see
@pytest.mark.anyio
async def test_metrics_count_what_was_asked(client: httpx.AsyncClient) -> None:
    await located(client, body_of("station", confidence=99, supportedGADShapes=[CIRCLE]))
    await located(client, body_of("station", confidence=95, supportedGADShapes=[LOCAL]))
    await client.post("/locate", json=body_of("station", supportedGADShapes=[POLYGON]))
    text = (await client.get("/metrics")).text
    assert 'fingerpost_confidence_requests_total{confidence="90",stated="nearest"} 1.0' in text
    assert 'fingerpost_confidence_requests_total{confidence="90",stated="requested"} 1.0' in text
    assert 'fingerpost_shape_requests_total{shape="POINT_UNCERTAINTY_CIRCLE"} 1.0' in text
    assert 'fingerpost_shape_requests_total{shape="POINT"} 1.0' in text
    assert 'outcome="GAD_SHAPES_NOT_SUPPORTED"' in text


@pytest.mark.anyio
async def test_operators_see_the_ellipse_whatever_the_caller_can_read(settings: Settings) -> None:
    async with running(settings.model_copy(update={"console_live": True})) as client:
        await client.get("/cells/bare/live")
        usual = await located(client, body_of("station"))
        await located(client, body_of("station", supportedGADShapes=[POINT], confidence=60))
        estimates = (await client.get("/cells/bare/live")).json()["estimates"]
    local = usual["localLocationEstimate"]
    assert local["uncertaintyEllipse"]["semiMajor"] > 1.5 * local["uncertaintyEllipse"]["semiMinor"]
    for one in estimates:
        assert one["point"] == local["point"]
        assert one["uncertaintyEllipse"] == local["uncertaintyEllipse"]
        assert one["confidence"] == 95
