import base64
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from fingerpost import build_locate_body
from service.settings import Settings
from tests.service.plane_cell import Json, street, users_at

MakeRequest = Callable[..., Json]


def requests_at(positions: np.ndarray, cell_id: str = "plane") -> list[Json]:
    return [
        build_locate_body(cell_id, csi, {"x": x, "y": y, "hAccuracy": 1.0})
        for csi, (x, y) in zip(users_at(positions), positions.tolist(), strict=True)
    ]


def x_of(location: Json) -> float:
    return float(location["localLocationEstimate"]["point"]["x"])


def test_results_keep_the_order_of_the_items_across_cells(client: httpx.Client) -> None:
    positions = street(6, seed=8)
    one_by_one = zip(requests_at(positions), requests_at(positions, "other"), strict=True)
    items = [item for pair in one_by_one for item in pair]
    results = client.post("/locate/batch", json={"items": items}).json()["results"]
    alone = [client.post("/locate", json=item).json() for item in items]
    assert [x_of(result["location"]) for result in results] == pytest.approx(list(map(x_of, alone)), abs=1e-3)
    assert [result["location"]["localLocationEstimate"]["localOrigin"]["coordinateId"] for result in results] == [
        "plane",
        "other",
    ] * 6


def test_a_bad_item_spoils_no_other(client: httpx.Client) -> None:
    good, *bad = requests_at(street(7, seed=6))
    bad[0]["cellId"] = "nowhere"
    bad[1]["csi"]["data"] = bad[1]["csi"]["data"][:-3]
    bad[2]["coarsePosition"]["lat"] = 200
    bad[3]["surprise"] = 1
    bad[4]["csi"]["data"] = base64.b64encode(np.full(2 * 32 * 32, np.nan, "<f4").tobytes()).decode()
    bad[5] |= {"cellId": "small", "allowFallback": False}
    response = client.post("/locate/batch", json={"items": [*bad, 7, good]})
    results = response.json()["results"]
    assert response.status_code == 200
    assert [result["problem"]["cause"] for result in results[:-1]] == [
        "CELL_NOT_FOUND",
        "CSI_NOT_BASE64",
        "MANDATORY_IE_INCORRECT",
        "UNKNOWN_FIELD",
        "CSI_NOT_FINITE",
        "POSITIONING_METHOD_FAILURE",
        "MANDATORY_IE_INCORRECT",
    ]
    assert all("location" not in result for result in results[:-1])
    assert results[2]["problem"]["invalidParams"][0]["param"] == "/coarsePosition/lat"
    assert x_of(results[-1]["location"]) == pytest.approx(x_of(client.post("/locate", json=good).json()), abs=1e-3)


def test_batch_may_be_as_large_as_the_limit_but_no_larger(
    client: httpx.Client, request_body: MakeRequest, settings: Settings
) -> None:
    # Items without CSI: what is tested is the counting, not the network.
    items = [{"cellId": "plane"}] * settings.batch_limit
    assert len(client.post("/locate/batch", json={"items": items}).json()["results"]) == settings.batch_limit
    response = client.post("/locate/batch", json={"items": [*items, request_body()]})
    assert (response.status_code, response.json()["cause"]) == (400, "BATCH_TOO_LARGE")
    assert response.json()["invalidParams"][0]["param"] == "/items"


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ({}, "MANDATORY_IE_MISSING"),
        ({"items": []}, "MANDATORY_IE_INCORRECT"),
        ({"items": {}}, "MANDATORY_IE_INCORRECT"),
        ({"items": [1], "more": 1}, "UNKNOWN_FIELD"),
        ([], "MANDATORY_IE_INCORRECT"),
    ],
)
def test_batch_that_is_none(client: httpx.Client, body: object, cause: str) -> None:
    response = client.post("/locate/batch", json=body)
    assert (response.status_code, response.json()["cause"]) == (400, cause)


def test_more_users_than_one_inference_takes(client: httpx.Client, settings: Settings) -> None:
    items = requests_at(street(settings.inference_batch + 3, seed=7))
    results = client.post("/locate/batch", json={"items": items}).json()["results"]
    last = client.post("/locate", json=items[-1]).json()
    assert x_of(results[-1]["location"]) == pytest.approx(x_of(last), abs=1e-3)
