import base64
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import numpy as np
import pytest

from fingerpost import build_locate_body
from fingerpost.wire_trajectory import TrajectoryRequest, TrajectoryResponse
from reference_db import DirectoryStore, LocalFrame
from service.app import create_app
from service.settings import Settings
from tests.service.learned_cells import (
    ANTENNAS,
    SUBCARRIERS,
    TRAJECTORY,
    fill,
    local_points,
    seen_at,
    trajectory,
    write_artifacts,
)
from tests.service.plane_cell import Json
from tests.service.tiny_trajectory_artifact import SCALES, VERTICES

CENTROID = TRAJECTORY.mean(axis=0)


def ask(client: httpx.Client, body: Json) -> Json:
    response = client.post("/locate/trajectory", json=body)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def test_locates_every_point_and_the_centroid(learned: httpx.Client) -> None:
    answer = ask(learned, trajectory(requestId="r-1", hAccuracy=0.3))
    assert answer["requestId"] == "r-1"
    np.testing.assert_allclose(local_points(answer), TRAJECTORY, atol=1e-3)
    centroid = answer["centroid"]["localLocationEstimate"]["point"]
    np.testing.assert_allclose((centroid["x"], centroid["y"]), CENTROID, atol=1e-3)
    frame = LocalFrame(43.7731, 11.2560)
    for place in (*answer["points"], answer["centroid"]):
        globe, local = place["locationEstimate"], place["localLocationEstimate"]
        point = globe["point"]
        assert frame.to_local(point["lat"], point["lon"]) == pytest.approx(tuple(local["point"].values()), abs=1e-3)
        assert globe["uncertaintyEllipse"] == local["uncertaintyEllipse"]
        assert globe["uncertaintyEllipse"]["semiMajor"] == place["hAccuracy"]
        assert globe["confidence"] == 95
        assert local["localOrigin"]["coordinateId"] == "both"
        # The tiny model says that errors are largest eastwards.
        assert globe["uncertaintyEllipse"]["semiMinor"] == place["hAccuracy"] / 2
        assert globe["uncertaintyEllipse"]["orientationMajor"] == 90
    assert [place["hAccuracy"] for place in answer["points"]] == [SCALES.measured.vertex.factors[95]] * VERTICES
    assert answer["points"][0]["accuracyFulfilmentIndicator"] == "REQUESTED_ACCURACY_NOT_FULFILLED"
    assert answer["centroid"]["hAccuracy"] == SCALES.measured.centroid.factors[95]
    assert answer["centroid"]["accuracyFulfilmentIndicator"] == "REQUESTED_ACCURACY_FULFILLED"


def test_provenance_names_artifact_cell_version_and_cues(learned: httpx.Client) -> None:
    answer = ask(learned, trajectory())
    (model,) = (one for one in learned.get("/models").json()["models"] if one["family"] == "scadf-moe")
    assert answer["provenance"] == {
        "source": "scadf-moe",
        "artifact": {name: model[name] for name in ("name", "version", "digest")},
        "cellVersion": learned.get("/cells/both").json()["version"],
        "pathFeatures": "measured",
        "withinRadius": True,
    }
    assert {source for point in answer["points"] for source in point["pathFeatures"].values()} == {"measured"}


def test_cues_left_out_are_estimated_from_the_csi_and_named(learned: httpx.Client) -> None:
    body = trajectory()
    del body["snapshots"][0]["pathFeatures"], body["snapshots"][1]["pathFeatures"]["distance"]
    answer = ask(learned, body)
    estimated, partly, measured = (point["pathFeatures"] for point in answer["points"])
    assert set(estimated.values()) == {"estimated"}
    assert partly == {
        "departureAzimuthDeg": "measured",
        "arrivalAzimuthDeg": "measured",
        "distance": "estimated",
        "gainDb": "measured",
    }
    assert set(measured.values()) == {"measured"}
    assert answer["provenance"]["pathFeatures"] == "estimated"
    assert answer["centroid"]["hAccuracy"] == SCALES.estimated.centroid.factors[95]
    found = local_points(answer)
    np.testing.assert_allclose(found[:2], TRAJECTORY[:2], atol=0.5)
    np.testing.assert_allclose(found[2], TRAJECTORY[2], atol=1e-3)


def test_a_cell_without_fingerprints_is_good_enough(learned: httpx.Client) -> None:
    np.testing.assert_allclose(local_points(ask(learned, trajectory("bare"))), TRAJECTORY, atol=1e-3)


def test_msgpack_and_json_give_one_answer(learned: httpx.Client) -> None:
    body = trajectory()
    for one in body["snapshots"]:
        one["timestamp"] = "2026-01-02T03:04:05Z"
    packed = msgspec.msgpack.encode(TrajectoryRequest.model_validate(body).model_dump())
    as_msgpack = learned.post("/locate/trajectory", content=packed, headers={"content-type": "application/msgpack"})
    found = TrajectoryResponse.model_validate(msgspec.msgpack.decode(as_msgpack.content))
    as_json = learned.post("/locate/trajectory", json=body)
    assert found == TrajectoryResponse.model_validate_json(as_json.content)


def test_keeps_the_time_of_each_measurement(learned: httpx.Client) -> None:
    body, measured = trajectory(), datetime.now(UTC) - timedelta(hours=1)
    body["snapshots"][0]["timestamp"] = measured.isoformat()
    first, second, _ = ask(learned, body)["points"]
    assert datetime.fromisoformat(first["timestampOfLocationEstimate"]) == measured
    assert first["ageOfLocationEstimate"] >= 60
    assert second["ageOfLocationEstimate"] == 0


def test_says_when_the_points_lie_too_far_apart_for_the_circles_to_hold(learned: httpx.Client) -> None:
    far = TRAJECTORY + np.array([[0, 0], [0, 0], [10, 0]])
    answer = ask(learned, trajectory(positions=far))
    np.testing.assert_allclose(local_points(answer), far, atol=1e-3)
    assert not answer["provenance"]["withinRadius"]


def test_many_at_once_each_get_their_own_answer(learned: httpx.Client) -> None:
    def error(east: float) -> float:
        positions = TRAJECTORY + np.array([east, 0.0])
        cell_id = "both" if east % 2 else "bare"
        body = trajectory(cell_id, positions)
        for one in body["snapshots"]:
            del one["pathFeatures"]["arrivalAzimuthDeg"]  # estimated: of both cells in one run
        return float(np.abs(local_points(ask(learned, body)) - positions).max())

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(error, range(32))) < 1e-3


def without_last(body: Json) -> None:
    body["snapshots"].pop()


def of_other_shape(body: Json) -> None:
    csi = body["snapshots"][1]["csi"]
    csi["shape"] = [SUBCARRIERS, ANTENNAS]


def all_zero(body: Json) -> None:
    csi = body["snapshots"][2]["csi"]
    csi["data"] = base64.b64encode(bytes(8 * ANTENNAS * SUBCARRIERS)).decode()


@pytest.mark.parametrize(
    ("change", "status", "cause", "param"),
    [
        (without_last, 400, "TRAJECTORY_LENGTH", "/snapshots"),
        (lambda body: body["snapshots"].append(body["snapshots"][0]), 400, "TRAJECTORY_LENGTH", "/snapshots"),
        (lambda body: body.update(snapshots=body["snapshots"] * 100), 400, "TRAJECTORY_LENGTH", "/snapshots"),
        (lambda body: body["snapshots"].clear(), 400, "MANDATORY_IE_INCORRECT", "/snapshots"),
        (of_other_shape, 400, "CSI_SHAPE_MISMATCH", "/snapshots/1/csi/shape"),
        (all_zero, 400, "CSI_ALL_ZERO", "/snapshots/2/csi/data"),
        (lambda body: body["snapshots"][0]["pathFeatures"].update(distance=-1), 400, "MANDATORY_IE_INCORRECT", None),
        (lambda body: body["snapshots"][0]["pathFeatures"].update(aodRad=1), 400, "UNKNOWN_FIELD", None),
        (lambda body: body.update(cellId="nowhere"), 404, "CELL_NOT_FOUND", "/cellId"),
        (lambda body: body.update(cellId="unlearned"), 409, "CELL_NOT_SERVED_BY_ARTIFACT", "/cellId"),
        (lambda body: body.update(cellId="other-band"), 409, "BAND_NOT_SERVED_BY_ARTIFACT", "/cellId"),
        (lambda body: body.update(cellId="only-fingerprints"), 409, "MODEL_NOT_ALLOWED_BY_CELL", "/cellId"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    learned: httpx.Client, change: Callable[[Json], None], status: int, cause: str, param: str | None
) -> None:
    body = trajectory()
    change(body)
    response = learned.post("/locate/trajectory", json=body)
    assert (response.status_code, response.json()["cause"]) == (status, cause)
    assert response.headers["content-type"] == "application/problem+json"
    if param is not None:
        assert [one["param"] for one in response.json()["invalidParams"]] == [param]


def test_a_network_that_answers_nan_gives_a_problem_and_spoils_no_other(learned: httpx.Client) -> None:
    bad = trajectory()
    bad["snapshots"][0]["csi"] = build_locate_body("both", -seen_at(TRAJECTORY[:1])[0])["csi"]
    response = learned.post("/locate/trajectory", json=bad)
    assert (response.status_code, response.json()["cause"]) == (500, "ESTIMATE_NOT_FINITE")
    ask(learned, trajectory())


def test_a_deadline_that_has_passed_is_told(learned: httpx.Client) -> None:
    response = learned.post("/locate/trajectory", json=trajectory(maxRespTime=1e-9))
    assert (response.status_code, response.json()["cause"]) == (504, "MAX_RESP_TIME_EXCEEDED")


def test_metrics_count_trajectories_by_outcome(learned: httpx.Client) -> None:
    learned.post("/locate/trajectory", json=trajectory("unlearned"))
    ask(learned, trajectory())
    metrics = learned.get("/metrics").text
    assert 'fingerpost_trajectories_total{outcome="CELL_NOT_SERVED_BY_ARTIFACT"}' in metrics
    assert 'fingerpost_trajectories_total{outcome="located"}' in metrics
    assert 'fingerpost_requests_total{route="/locate/trajectory",status="200"}' in metrics
    assert 'fingerpost_stage_duration_seconds_count{stage="joint"}' in metrics
    assert "both" not in metrics


@pytest.mark.anyio
async def test_without_an_artifact_for_them_trajectories_are_not_implemented(tmp_path_factory) -> None:
    configured = write_artifacts(tmp_path_factory.mktemp("without"))
    settings: Settings = configured.model_copy(update={"trajectory_artifact_directory": None})
    fill(DirectoryStore(settings.database_directory))
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        response = await client.post("/locate/trajectory", json=trajectory())
        document = (await client.get("/openapi.json")).json()
        models = (await client.get("/models")).json()["models"]
    (model,) = (model for model in models if model["state"] == "active")
    assert (response.status_code, response.json()["cause"]) == (501, "NO_TRAJECTORY_ARTIFACT")
    assert "/locate/trajectory" in document["paths"]
    assert model["family"] == "mateformer"
    assert math.isfinite(model["tilePitch"])


def test_each_confidence_has_its_own_ellipse(learned: httpx.Client) -> None:
    at_50 = ask(learned, trajectory(confidence=50))
    assert at_50["centroid"]["confidence"] == 50
    assert at_50["centroid"]["hAccuracy"] == SCALES.measured.centroid.factors[50]
    assert {point["hAccuracy"] for point in at_50["points"]} == {SCALES.measured.vertex.factors[50]}
