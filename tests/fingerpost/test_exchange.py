"""The requests of an exchange, without a service."""

import base64
import json
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from fingerpost import (
    CoarsePosition,
    NoAnswer,
    Problem,
    Refused,
    build_locate_request,
    build_measure_request,
    build_stations_request,
    build_trajectory_request,
)
from fingerpost.exchange import Attempt, Exchange, Result, locate, locate_batch, locate_trajectory, measure

CSI = np.arange(6).reshape(2, 3) * (1 + 2j)
PROBLEM = Problem(title="", status=503, detail="too many users", cause="QUEUE_FULL")


def response(status: int, body: str = "{}", **headers: str) -> httpx.Response:
    request = httpx.Request("POST", "http://service/locate")
    return httpx.Response(status, text=body, headers=headers, request=request)


def first(exchange: Exchange[Result]) -> Attempt:
    return next(exchange)


def test_csi_is_sent_as_base64_of_little_endian_complex64() -> None:
    position = CoarsePosition(x=1.0, y=2.0, h_accuracy=3.0)
    attempt = first(locate(build_locate_request("c", CSI, position, request_id="7"), tries=1))
    body = json.loads(attempt.content)
    assert np.array_equal(np.frombuffer(base64.b64decode(body["csi"].pop("data")), "<c8").reshape(2, 3), CSI)
    assert body == {
        "cellId": "c",
        "csi": {"encoding": "complex64", "shape": [2, 3], "scale": 1.0},
        "coarsePosition": {"x": 1.0, "y": 2.0, "hAccuracy": 3.0},
        "requestId": "7",
    }
    assert (attempt.path, attempt.pause_s) == ("/locate", 0.0)
    assert attempt.headers == {"Content-Type": "application/json", "Fingerpost-Cell": "c"}


def test_several_base_stations_send_a_measurement_each_and_go_where_the_first_one_does() -> None:
    measured = datetime(2026, 1, 1, tzinfo=UTC)
    request = build_stations_request({"b": CSI, "a": 2 * CSI}, {"a": measured}, request_id="7", h_accuracy=1.5)
    attempt = first(locate(request, tries=1))
    body = json.loads(attempt.content)
    data = [np.frombuffer(base64.b64decode(one["csi"].pop("data")), "<c8") for one in body["measurements"]]
    assert np.array_equal(data[0], CSI.ravel())
    assert np.array_equal(data[1], 2 * CSI.ravel())
    csi = {"encoding": "complex64", "shape": [2, 3], "scale": 1.0}
    assert body == {
        "measurements": [{"cellId": "b", "csi": csi}, {"cellId": "a", "csi": csi, "timestamp": "2026-01-01T00:00:00Z"}],
        "hAccuracy": 1.5,
        "requestId": "7",
    }
    assert (attempt.path, attempt.headers["Fingerpost-Cell"]) == ("/locate", "b")


def test_users_of_one_and_of_several_base_stations_go_in_one_batch() -> None:
    requests = [build_locate_request("a", CSI), build_stations_request({"a": CSI, "b": CSI})]
    attempt = first(locate_batch(requests, tries=1))
    assert [sorted(one) for one in json.loads(attempt.content)["items"]] == [["cellId", "csi"], ["measurements"]]


def test_a_trajectory_has_a_snapshot_for_each_csi() -> None:
    request = build_trajectory_request("c", np.stack([CSI, CSI]))
    attempt = first(locate_trajectory(request, tries=1))
    assert attempt.path == "/locate/trajectory"
    assert [list(snapshot) for snapshot in json.loads(attempt.content)["snapshots"]] == [["csi"], ["csi"]]


def test_a_measurement_has_one_snapshot_of_its_cell() -> None:
    attempt = first(measure(build_measure_request("c", CSI, max_resp_time=2.0), tries=1))
    assert (attempt.path, attempt.headers["Fingerpost-Cell"]) == ("/measure", "c")
    assert json.loads(attempt.content).keys() == {"cellId", "csi", "maxRespTime"}


def test_a_batch_has_at_most_256_users_of_one_cell() -> None:
    requests = [build_locate_request(cell_id, CSI) for cell_id in ["a", "b"] * 300]
    exchange = locate_batch(requests, tries=1)
    problem = {"problem": PROBLEM.model_dump(mode="json", by_alias=True)}
    sizes, results, attempt = [], None, next(exchange)
    while results is None:
        items = json.loads(attempt.content)["items"]
        assert {item["cellId"] for item in items} == {attempt.headers["Fingerpost-Cell"]}
        sizes.append(len(items))
        try:
            attempt = exchange.send(response(200, json.dumps({"results": [problem] * len(items)})))
        except StopIteration as end:
            results = end.value
    assert sizes == [256, 44, 256, 44]
    assert results == [PROBLEM] * 600


def test_a_busy_service_is_asked_again_after_a_pause() -> None:
    exchange = locate(build_locate_request("c", CSI), tries=2)
    attempt = next(exchange)
    again = exchange.send(response(503, **{"Retry-After": "2"}))
    assert again._replace(pause_s=0.0) == attempt
    assert 2.0 <= again.pause_s <= 2.5
    with pytest.raises(Refused, match="503 QUEUE_FULL: too many users"):
        exchange.send(response(503, PROBLEM.model_dump_json(by_alias=True)))


@pytest.mark.parametrize("status", [200, 502])
def test_no_answer_names_the_url_the_status_and_the_reason_in_one_line(status: int) -> None:
    exchange = locate(build_locate_request("c", CSI), tries=1)
    next(exchange)
    with pytest.raises(NoAnswer, match=f"^no answer from http://service/locate, but {status} text/plain.*$"):
        exchange.send(response(status, "<html>"))
