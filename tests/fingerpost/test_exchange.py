"""The requests of an exchange, without a service."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from fingerpost import (
    BatchRequest,
    CoarsePosition,
    Fingerprints,
    NoAnswer,
    Problem,
    Refused,
    build_locate_request,
    build_stations_request,
)
from fingerpost.cell_calls import diff, show
from fingerpost.change_calls import append, delete
from fingerpost.exchange import Attempt, Exchange, Result, with_retries
from fingerpost.location_calls import locate, locate_batch, locate_by_stations, locate_trajectory, measure
from fingerpost.running import request_options
from fingerpost.service_calls import activate_model

CSI = np.arange(6).reshape(2, 3) * (1 + 2j)
PROBLEM = Problem(title="", status=503, detail="too many users", cause="QUEUE_FULL")


def response(status: int, body: str = "{}", **headers: str) -> httpx.Response:
    request = httpx.Request("POST", "http://service/locate")
    return httpx.Response(status, text=body, headers=headers, request=request)


def first(exchange: Exchange[Result]) -> Attempt:
    return next(exchange)


def test_csi_is_sent_as_base64_of_little_endian_complex64() -> None:
    position = CoarsePosition(x=1.0, y=2.0, h_accuracy=3.0)
    attempt = first(locate(None, "c", CSI, position, request_id="7"))
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
    csi = {"b": CSI, "a": 2 * CSI}
    attempt = first(locate_by_stations(None, csi, {"a": measured}, request_id="7", h_accuracy=1.5))
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
    attempt = first(locate_batch(None, requests))
    assert [sorted(one) for one in json.loads(attempt.content)["items"]] == [["cellId", "csi"], ["measurements"]]


def test_a_trajectory_has_a_snapshot_for_each_csi() -> None:
    attempt = first(locate_trajectory(None, "c", np.stack([CSI, CSI])))
    assert attempt.path == "/locate/trajectory"
    assert [list(snapshot) for snapshot in json.loads(attempt.content)["snapshots"]] == [["csi"], ["csi"]]


def test_a_measurement_has_one_snapshot_of_its_cell() -> None:
    attempt = first(measure(None, "c", CSI, max_resp_time=2.0))
    assert (attempt.path, attempt.headers["Fingerpost-Cell"]) == ("/measure", "c")
    assert json.loads(attempt.content).keys() == {"cellId", "csi", "maxRespTime"}


def test_a_batch_has_at_most_256_users_of_one_cell() -> None:
    requests = [build_locate_request(cell_id, CSI) for cell_id in ["a", "b"] * 300]
    exchange = locate_batch(None, requests)
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


def test_a_user_is_not_asked_about_again_once_the_deadline_would_have_passed() -> None:
    exchange = with_retries(locate(None, "c", CSI, max_resp_time=1.0), tries=3)
    next(exchange)
    assert exchange.send(response(503, **{"Retry-After": "0"})).pause_s == 0
    with pytest.raises(Refused, match="QUEUE_FULL"):
        exchange.send(response(503, PROBLEM.model_dump_json(by_alias=True), **{"Retry-After": "1"}))


def test_a_busy_service_is_asked_again_after_a_pause() -> None:
    exchange = with_retries(locate(None, "c", CSI), tries=2)
    attempt = next(exchange)
    again = exchange.send(response(503, **{"Retry-After": "2"}))
    assert again._replace(pause_s=0.0) == attempt
    assert 2.0 <= again.pause_s <= 2.5
    with pytest.raises(Refused, match="503 QUEUE_FULL: too many users"):
        exchange.send(response(503, PROBLEM.model_dump_json(by_alias=True)))


@pytest.mark.parametrize("status", [200, 502])
def test_no_answer_names_the_url_the_status_and_the_reason_in_one_line(status: int) -> None:
    exchange = locate(None, "c", CSI)
    next(exchange)
    with pytest.raises(NoAnswer, match=f"^no answer from http://service/locate, but {status} text/plain.*$"):
        exchange.send(response(status, "<html>"))


def test_a_cell_is_deleted_at_most_once() -> None:
    exchange = with_retries(delete(SimpleNamespace(cell_id="c"), force=True), tries=4)
    attempt = next(exchange)
    assert (attempt.method, attempt.path, attempt.params) == ("DELETE", "/cells/c", {"force": "true"})
    assert exchange.send(response(429, **{"Retry-After": "0"})) == attempt
    with pytest.raises(Refused, match="QUEUE_FULL"):
        exchange.send(response(503, PROBLEM.model_dump_json(by_alias=True)))


def test_a_service_that_hangs_is_waited_for_little_longer_than_the_deadline_and_long_for_a_publication() -> None:
    usual = httpx.Timeout(60.0)
    waits = [
        request_options(first(one), usual)["timeout"].read
        for one in (locate(None, "c", CSI), locate(None, "c", CSI, max_resp_time=0.5))
    ]
    assert waits == [60.0, 1.5]
    assert (request_options(first(activate_model(None, "new")), usual)["timeout"].read or 0) > 600
    assert request_options(first(locate(None, "c", CSI)), httpx.Timeout(None))["timeout"].read is None


def test_a_batch_is_no_larger_than_the_service_takes_and_the_same_json() -> None:
    large = np.ones((128, 1024), complex)  # 1.4 MB as JSON
    requests = [build_locate_request("c", large), build_stations_request({"c": CSI, "d": CSI}, request_id="7")] * 20
    exchange = locate_batch(None, (one for one in requests))
    attempt, sent = next(exchange), []
    answer = {"results": [{"problem": PROBLEM.model_dump(mode="json")}]}
    while len(sent) < len(requests):
        assert isinstance(attempt.content, bytes)
        assert len(attempt.content) < 16 * 2**20
        items = json.loads(attempt.content)["items"]
        sent += items
        with suppress(StopIteration):  # after the last batch
            attempt = exchange.send(response(200, json.dumps({"results": answer["results"] * len(items)})))
    assert sent == json.loads(BatchRequest(items=requests).model_dump_json())["items"]


def test_each_try_has_what_is_left_of_the_deadline() -> None:
    running = with_retries(locate(None, "c", CSI, max_resp_time=5.0), 3)
    assert next(running).deadline_s == 5.0
    assert running.send(response(503, PROBLEM.model_dump_json(), **{"Retry-After": "1"})).deadline_s < 4.0


@pytest.mark.parametrize("version", ["..", ".", ""])
def test_a_version_that_would_lead_elsewhere_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        next(show(SimpleNamespace(cell_id="c"), version))
    with pytest.raises(ValueError, match="is not a version"):
        next(diff(SimpleNamespace(cell_id="c"), 1, version))


def test_what_a_change_does_not_take_is_not_ignored() -> None:
    cell = SimpleNamespace(cell_id="c")
    with pytest.raises(TypeError, match="takes no forse; it takes author"):
        next(delete(cell, forse=True))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="idempotency_key has characters"):
        next(delete(cell, idempotency_key="é"))


def test_a_file_in_a_format_that_http_does_not_take_is_not_sent() -> None:
    with pytest.raises(ValueError, match=r"HTTP takes \.safetensors and \.npz.*cells import"):
        next(append(SimpleNamespace(cell_id="c"), Path("drive.mat")))


def test_masked_values_are_not_sent() -> None:
    masked = np.ma.masked_array(CSI, mask=CSI[0, 0] == CSI)
    with pytest.raises(ValueError, match="csi has masked values"):
        build_locate_request("c", masked)
    with pytest.raises(ValueError, match="positions has masked values"):
        Fingerprints(CSI[None], np.ma.masked_array([[1.0, 2.0]], mask=[[False, True]])).encode()
    build_locate_request("c", np.ma.masked_array(CSI))
