"""The requests of an exchange, without a service."""

import base64
import json

import httpx
import numpy as np
import pytest

from fingerpost import CoarsePosition, NoAnswer, Problem, Refused, build_locate_request, build_trajectory_request
from fingerpost.exchange import Attempt, Exchange, Result, locate, locate_batch, locate_trajectory

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


def test_a_trajectory_has_a_snapshot_for_each_csi() -> None:
    request = build_trajectory_request("c", np.stack([CSI, CSI]))
    attempt = first(locate_trajectory(request, tries=1))
    assert attempt.path == "/locate/trajectory"
    assert [list(snapshot) for snapshot in json.loads(attempt.content)["snapshots"]] == [["csi"], ["csi"]]


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
