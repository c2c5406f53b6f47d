import base64
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import numpy as np
import pytest

from fingerpost import Provenance, build_locate_body, wire
from reference_db import LocalFrame
from service.settings import Settings
from tests.service.plane_cell import USER, Json, users_at

MakeRequest = Callable[..., Json]
FRAME = LocalFrame(43.7731, 11.2560)


def local_point(answer: Json) -> tuple[float, float]:
    point = answer["localLocationEstimate"]["point"]
    return point["x"], point["y"]


def test_answers_with_both_shapes_of_one_ellipse(client: httpx.Client, request_body: MakeRequest) -> None:
    response = client.post("/locate", json=request_body())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    globe, local = answer["locationEstimate"], answer["localLocationEstimate"]
    assert globe["shape"] == "POINT_UNCERTAINTY_ELLIPSE"
    assert local["shape"] == "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE"
    assert globe["confidence"] == local["confidence"] == 95
    assert globe["uncertaintyEllipse"] == local["uncertaintyEllipse"]
    ellipse = globe["uncertaintyEllipse"]
    assert answer["hAccuracy"] == ellipse["semiMajor"] >= ellipse["semiMinor"] > 0
    assert 0 <= ellipse["orientationMajor"] < 180
    assert local["localOrigin"] == {"coordinateId": "plane", "point": {"lat": 43.7731, "lon": 11.256}}
    assert FRAME.to_local(globe["point"]["lat"], globe["point"]["lon"]) == pytest.approx(local_point(answer), abs=1e-3)


def test_answer_decodes_as_the_schema_says(client: httpx.Client, request_body: MakeRequest) -> None:
    response = client.post("/locate", json=request_body())
    assert isinstance(wire.LocateResponse.model_validate_json(response.content).provenance, Provenance)


def test_wgs84_and_local_coarse_position_give_one_answer(client: httpx.Client, request_body: MakeRequest) -> None:
    lat, lon = FRAME.to_wgs84(50.6, 4.5)
    wgs84 = request_body(coarsePosition={"lat": lat, "lon": lon, "hAccuracy": 1.0})
    answers = [client.post("/locate", json=body).json() for body in (wgs84, request_body())]
    assert local_point(answers[0]) == pytest.approx(local_point(answers[1]), abs=1e-3)


def test_msgpack_and_json_give_one_answer(client: httpx.Client, request_body: MakeRequest) -> None:
    body = request_body(timestamp="2026-01-02T03:04:05Z")
    as_json = client.post("/locate", json=body)
    packed = msgspec.msgpack.encode(wire.LocateRequest.model_validate(body).model_dump())
    as_msgpack = client.post("/locate", content=packed, headers={"content-type": "application/msgpack"})
    assert as_msgpack.headers["content-type"] == "application/msgpack"
    found = wire.LocateResponse.model_validate(msgspec.msgpack.decode(as_msgpack.content))
    assert found == wire.LocateResponse.model_validate_json(as_json.content)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/msgpack", "application/msgpack"),
        ("text/html, application/json;q=0.5", "application/json"),
        ("application/json;q=0, */*", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_answers_in_the_format_that_is_accepted(
    client: httpx.Client, request_body: MakeRequest, accept: str, content_type: str
) -> None:
    response = client.post("/locate", json=request_body(), headers={"accept": accept})
    assert response.headers["content-type"] == content_type


def test_complex32_is_as_good_as_complex64(client: httpx.Client, request_body: MakeRequest) -> None:
    csi = users_at(USER)[0]
    scale = float(np.abs(csi).max())
    halves = np.stack([csi.real, csi.imag], axis=-1) / scale
    sent = {"encoding": "complex32", "shape": [32, 32], "data": halves.astype("<f2").tobytes(), "scale": scale}
    half = request_body(csi=msgspec.to_builtins(sent))
    answers = [client.post("/locate", json=body).json() for body in (half, request_body())]
    assert math.dist(*map(local_point, answers)) < 0.1


def test_provenance_names_artifact_and_cell_version(client: httpx.Client, request_body: MakeRequest) -> None:
    provenance = client.post("/locate", json=request_body()).json()["provenance"]
    model, *_ = client.get("/models").json()["models"]
    assert provenance == {
        "source": "mateformer",
        "artifact": {name: model[name] for name in ("name", "version", "digest")},
        "cellVersion": client.get("/cells/plane").json()["version"],
        "neighbours": model["neighbourhoodSize"],
        "passes": model["passes"],
        "retrieval": "fused",
        "coarsePositionUsed": True,
        "calibratedHAccuracy": 1.0,
    }


def without_coarse_position(body: Json) -> Json:
    return {name: value for name, value in body.items() if name != "coarsePosition"}


def test_locates_a_user_by_the_signal_alone(client: httpx.Client, request_body: MakeRequest) -> None:
    answer = client.post("/locate", json=without_coarse_position(request_body())).json()
    assert math.dist(local_point(answer), USER[0].tolist()) < 3
    provenance = answer["provenance"]
    assert (provenance["retrieval"], provenance["coarsePositionUsed"]) == ("fused", False)
    assert "calibratedHAccuracy" not in provenance
    assert math.dist(local_point(answer), USER[0].tolist()) < 2 * answer["hAccuracy"]


def test_a_fix_worse_than_any_calibrated_one_gets_the_ellipse_of_none(
    client: httpx.Client, request_body: MakeRequest
) -> None:
    bad = request_body(coarsePosition={"x": 60.0, "y": -10.0, "hAccuracy": 30.0})
    answer, alone = (client.post("/locate", json=body).json() for body in (bad, without_coarse_position(bad)))
    assert answer["hAccuracy"] == pytest.approx(alone["hAccuracy"], rel=0.05)  # the model saw the fix
    assert answer["provenance"]["coarsePositionUsed"]
    assert "calibratedHAccuracy" not in answer["provenance"]
    assert math.dist(local_point(answer), USER[0].tolist()) < 3


def test_names_the_accuracy_that_was_calibrated(
    client: httpx.Client, request_body: MakeRequest, settings: Settings
) -> None:
    for accuracy, rung in ((0.0, 0), (1.0, 0), (1.01, 1), (5.0, 1)):
        body = request_body(coarsePosition={"x": 50.6, "y": 4.5, "hAccuracy": accuracy})
        answer = client.post("/locate", json=body).json()
        assert answer["provenance"]["calibratedHAccuracy"] == settings.calibration_sigmas_m[rung]


def test_says_whether_the_accuracy_wanted_was_met(client: httpx.Client, request_body: MakeRequest) -> None:
    answers = [client.post("/locate", json=request_body(hAccuracy=wanted)).json() for wanted in (0.001, 1e4)]
    indicators = [answer["accuracyFulfilmentIndicator"] for answer in answers]
    assert indicators == ["REQUESTED_ACCURACY_NOT_FULFILLED", "REQUESTED_ACCURACY_FULFILLED"]
    assert "accuracyFulfilmentIndicator" not in client.post("/locate", json=request_body()).json()


def test_keeps_the_time_of_the_measurement_and_counts_whole_minutes(
    client: httpx.Client, request_body: MakeRequest
) -> None:
    measured = datetime.now(UTC) - timedelta(hours=2)
    answer = client.post("/locate", json=request_body(timestamp=measured.isoformat())).json()
    assert datetime.fromisoformat(answer["timestampOfLocationEstimate"]) == measured
    assert answer["ageOfLocationEstimate"] >= 120
    assert client.post("/locate", json=request_body()).json()["ageOfLocationEstimate"] == 0


def test_returns_the_request_id(client: httpx.Client, request_body: MakeRequest) -> None:
    assert client.post("/locate", json=request_body(requestId="r-1")).json()["requestId"] == "r-1"
    assert "requestId" not in client.post("/locate", json=request_body()).json()


def test_serves_two_cells_at_once_as_one_after_the_other(client: httpx.Client) -> None:
    def ask(cell_id: str) -> float:
        coarse = {"x": 50.6, "y": 4.5, "hAccuracy": 1.0}
        response = client.post("/locate", json=build_locate_body(cell_id, users_at(USER)[0], coarse))
        assert response.status_code == 200, response.text
        return math.dist(local_point(response.json()), (0, 0))

    asked = ["plane", "other"] * 4
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, asked)) == pytest.approx([ask(cell_id) for cell_id in asked], abs=1e-3)


def test_calibrates_a_cell_that_was_imported_without(client: httpx.Client) -> None:
    body = build_locate_body("fresh", users_at(USER)[0], {"x": 50.6, "y": 4.5, "hAccuracy": 1.0})
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: client.post("/locate", json=body).json(), range(4)))
    assert len({answer["hAccuracy"] for answer in answers}) == 1
    assert 0 < answers[0]["hAccuracy"] < 1e3


def test_every_optional_field_may_be_null(client: httpx.Client, request_body: MakeRequest) -> None:
    body = request_body()
    absent = client.post("/locate", json=body).json()
    nulls = dict.fromkeys(("timestamp", "hAccuracy", "maxRespTime", "requestId", "trackId"))
    place = body["coarsePosition"] | {"lat": None, "lon": None}
    sent = body | nulls | {"coarsePosition": place, "csi": body["csi"] | {"scale": None}}
    assert client.post("/locate", json=sent).json().keys() == absent.keys()
    alone = client.post("/locate", json=body | {"coarsePosition": None})
    assert alone.json()["provenance"]["coarsePositionUsed"] is False


def test_csi_of_no_user_of_the_cell_is_refused_by_name(client: httpx.Client, request_body: MakeRequest) -> None:
    body = request_body()
    csi = np.frombuffer(base64.b64decode(body["csi"]["data"]), np.complex64)
    body["csi"]["data"] = base64.b64encode(csi.conj().tobytes()).decode()
    response = client.post("/locate", json=without_coarse_position(body))
    assert (response.status_code, response.json()["cause"]) == (422, "CSI_FOREIGN")
    assert response.json()["invalidParams"][0]["param"] == "/csi/data"


def test_noise_in_the_csi_widens_the_ellipse(client: httpx.Client, request_body: MakeRequest) -> None:
    body = request_body()
    csi = np.frombuffer(base64.b64decode(body["csi"]["data"]), np.complex64)
    rng = np.random.default_rng(1)
    sigma = np.sqrt(np.square(np.abs(csi)).mean() / 2 / 10)  # 10 dB
    noisy = csi + sigma * (rng.standard_normal(csi.shape) + 1j * rng.standard_normal(csi.shape))
    clean = client.post("/locate", json=body).json()
    body["csi"]["data"] = base64.b64encode(noisy.astype(np.complex64).tobytes()).decode()
    assert client.post("/locate", json=body).json()["hAccuracy"] > 1.2 * clean["hAccuracy"]
