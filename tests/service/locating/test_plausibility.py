"""Users whose CSI has another unit than the fingerprints, and coarse positions that are wrong, over real HTTP."""

import math
import re
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from tests.service.plane_cell import USER, Json, street, users_at

MakeRequest = Callable[..., Json]
EAST, NORTH = USER[0].tolist()


def scaled(body: Json, factor: float) -> Json:
    return body | {"csi": build_locate_body("plane", (users_at(USER)[0] * factor).astype(np.complex64))["csi"]}


def coarse(east: float, north: float, accuracy: float) -> Json:
    return {"coarsePosition": {"x": east, "y": north, "hAccuracy": accuracy}}


def alone(body: Json) -> Json:
    return body | {"coarsePosition": None}


def distance_from_user(answer: Json) -> float:
    point = answer["localLocationEstimate"]["point"]
    return math.dist((point["x"], point["y"]), (EAST, NORTH))


@pytest.mark.parametrize("factor", [1e-3, 1e-2, 0.1, 10.0, 100.0, 1e6])
@pytest.mark.parametrize("forbidden", [True, False])
def test_csi_of_another_unit_is_refused(
    client: httpx.Client, request_body: MakeRequest, factor: float, forbidden: bool
) -> None:
    body = scaled(request_body(allowFallback=False) if forbidden else alone(request_body()), factor)
    response = client.post("/locate", json=body)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert (problem["cause"], problem["invalidParams"][0]["param"]) == ("CSI_LEVEL_IMPLAUSIBLE", "/csi/data")
    decibels = 20 * math.log10(factor)
    stated = float(problem["detail"].split("level is ")[1].split(" dB ")[0])
    assert stated == pytest.approx(abs(decibels), abs=3)
    assert ("above" if decibels > 0 else "below") in problem["detail"]


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_gain_error_of_3_db_is_accepted(client: httpx.Client, request_body: MakeRequest, factor: float) -> None:
    response = client.post("/locate", json=scaled(alone(request_body()), factor))
    assert response.status_code == 200, response.text


def test_in_a_batch_another_unit_affects_its_own_user_only(client: httpx.Client, request_body: MakeRequest) -> None:
    good = request_body()
    results = client.post("/locate/batch", json={"items": [good, scaled(good, 10.0), good]}).json()["results"]
    assert results[1]["location"]["provenance"]["source"] == "coarse"
    assert [distance_from_user(results[row]["location"]) < 3 for row in (0, 2)] == [True, True]
    assert [results[row]["location"]["provenance"]["source"] for row in (0, 2)] == ["mateformer", "mateformer"]


def test_with_a_fix_csi_of_another_unit_leaves_the_fix(client: httpx.Client, request_body: MakeRequest) -> None:
    body = scaled(request_body(), 10.0)
    answer = client.post("/locate", json=body).json()
    assert answer["provenance"]["fallbacks"] == [{"method": "mateformer", "cause": "CSI_LEVEL_IMPLAUSIBLE"}]
    point = answer["localLocationEstimate"]["point"]
    assert (point["x"], point["y"]) == pytest.approx((body["coarsePosition"]["x"], body["coarsePosition"]["y"]))


def test_no_honest_user_is_refused_for_the_level(client: httpx.Client) -> None:
    items = [build_locate_body("plane", csi) for csi in users_at(street(200, 77))]
    results = client.post("/locate/batch", json={"items": items}).json()["results"]
    causes = [one["problem"]["cause"] for one in results if "problem" in one]
    assert "CSI_LEVEL_IMPLAUSIBLE" not in causes
    assert len(causes) <= 4  # 0.5 % of honest users are taken for foreign ones


@pytest.mark.parametrize("east", [-20.0, 25.0, -100.0])
def test_an_overconfident_fix_does_not_outweigh_the_signal(
    client: httpx.Client, request_body: MakeRequest, east: float
) -> None:
    """30 m beside the user, inside and outside the cell, and 150 m."""
    body = request_body(**coarse(EAST + east, NORTH, 1.0))
    answer, unaided = (client.post("/locate", json=one).json() for one in (body, alone(body)))
    provenance = answer["provenance"]
    assert distance_from_user(answer) == pytest.approx(distance_from_user(unaided), abs=1e-3)
    ignored = provenance["coarsePositionIgnored"]
    # One of the two is wrong: the circle holds the user in either case, unless the coarse position is of another place.
    if ignored == "COARSE_POSITION_CONTRADICTED":
        assert answer["hAccuracy"] > abs(east)
    else:
        assert answer["hAccuracy"] == unaided["hAccuracy"]
    assert provenance["coarsePositionUsed"] is False
    assert provenance["coarsePositionIgnored"] in ("COARSE_POSITION_CONTRADICTED", "COARSE_POSITION_OUTSIDE_CELL")
    assert "calibratedHAccuracy" not in provenance
    assert "coarsePositionIgnored" not in unaided["provenance"]


def test_a_fix_outside_the_cell_is_ignored_and_far_outside_it_is_refused(
    client: httpx.Client, request_body: MakeRequest
) -> None:
    answer = client.post("/locate", json=request_body(**coarse(EAST + 500, NORTH, 1.0))).json()
    assert answer["provenance"]["coarsePositionIgnored"] == "COARSE_POSITION_OUTSIDE_CELL"
    assert distance_from_user(answer) < 3
    swapped = request_body(coarsePosition={"lat": 11.256, "lon": 43.7731, "hAccuracy": 1.0})
    refused = client.post("/locate", json=swapped).json()
    assert refused["cause"] == "COARSE_POSITION_OUTSIDE_CELL"
    assert re.search(r"lies [45]\d{3} km from the area .*; are lat and lon swapped\?", refused["detail"])
    for place, distance in (
        ({"x": 5e3, "y": 0.0}, r"[45]\.\d km from the area of the cell's fingerprints$"),
        ({"lat": 48.1, "lon": 11.6}, r"4\d\d km from the area of the cell's fingerprints$"),
        ({"x": 1e300, "y": 0.0}, "more than 20000 km from the area of the cell's fingerprints$"),
    ):
        far = request_body(coarsePosition=place | {"hAccuracy": 1.0})
        assert re.search(distance, client.post("/locate", json=far).json()["detail"])


def test_an_honest_fix_is_never_refused_and_no_worse_than_none(client: httpx.Client) -> None:
    """A fix with hAccuracy 50 m, off by 120 m."""
    places = street(60, 78)
    angle = np.linspace(0, 2 * math.pi, len(places))
    fixes = places + 120 * np.column_stack([np.cos(angle), np.sin(angle)])
    plain = [build_locate_body("plane", csi) for csi in users_at(places)]
    aided = [body | coarse(*fix, 50.0) for body, fix in zip(plain, fixes.tolist(), strict=True)]
    errors = []
    for items in (plain, aided):
        results = client.post("/locate/batch", json={"items": items}).json()["results"]
        points = [one["location"]["localLocationEstimate"]["point"] for one in results]
        located = np.array([(point["x"], point["y"]) for point in points])
        errors.append(np.linalg.norm(located - places, axis=1))
    assert errors[1].mean() < errors[0].mean() + 0.05


def test_an_honest_fix_is_used(client: httpx.Client) -> None:
    places = street(100, 79)
    fixes = places + np.random.default_rng(1).standard_normal(places.shape)
    items = [
        build_locate_body("plane", csi) | coarse(*fix, 1.0)
        for csi, fix in zip(users_at(places), fixes.tolist(), strict=True)
    ]
    results = client.post("/locate/batch", json={"items": items}).json()["results"]
    used = [one["location"]["provenance"]["coarsePositionUsed"] for one in results]
    assert np.mean(used) >= 0.97


def test_metrics_count_ignored_coarse_positions(client: httpx.Client, request_body: MakeRequest) -> None:
    def ignored() -> float:
        lines = client.get("/metrics").text.splitlines()
        name = 'fingerpost_retrievals_total{coarse_position="ignored"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = ignored()
    client.post("/locate", json=request_body(**coarse(EAST + 500, NORTH, 1.0))).raise_for_status()
    assert ignored() == before + 1


@pytest.mark.parametrize("accuracy", [0.0, 1000.0])
def test_a_doubtful_circle_is_no_smaller_than_the_ellipse_and_no_larger_than_the_cell_needs(
    client: httpx.Client, request_body: MakeRequest, accuracy: float
) -> None:
    """25 m beside the user, stated exactly, or so vaguely that it says nothing."""
    body = request_body(**coarse(EAST + 25.0, NORTH, accuracy))
    answer = client.post("/locate", json=body).json()
    unaided = client.post("/locate", json=alone(body)).json()
    assert answer["hAccuracy"] >= 0.9 * unaided["hAccuracy"]
    assert answer["hAccuracy"] < 200
    if accuracy == 0.0:
        assert answer["hAccuracy"] > 24
