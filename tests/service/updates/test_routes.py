"""Methods of the operators' routes, and nulls in the bodies that they take."""

import time
from typing import Any

import httpx
import pytest

from reference_db import Fingerprints
from tests.service.updates.wire import DESCRIPTION, Json, assert_problem, on_a_line, sent


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    [
        "/cells",
        "/cells/c",
        "/cells/c/fingerprints",
        "/cells/c/versions",
        "/cells/c/versions/1",
        "/cells/c/versions/1/diff/1",
        "/cells/c/export",
        "/models",
    ],
)
async def test_head_answers_the_headers_of_get(service: httpx.AsyncClient, path: str) -> None:
    with_body, without = await service.get(path), await service.head(path)
    assert (with_body.status_code, without.status_code, without.content) == (200, 200, b"")
    for name in ("content-type", "content-length", "etag"):
        assert without.headers.get(name) == with_body.headers.get(name)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/cells", "GET, HEAD"),
        ("/cells/c", "DELETE, GET, HEAD, PATCH, PUT"),
        ("/cells/c/fingerprints", "GET, HEAD, POST"),
        ("/cells/c/fingerprints/delete", "POST"),
        ("/cells/c/fingerprints/forget", "POST"),
        ("/versions/collect", "POST"),
        ("/cells/c/retention", "PUT"),
        ("/cells/c/model", "PUT"),
        ("/cells/c/rollback", "POST"),
        ("/cells/c/versions", "GET, HEAD"),
        ("/cells/c/versions/1", "GET, HEAD"),
        ("/cells/c/versions/1/diff/1", "GET, HEAD"),
        ("/cells/c/errors", "GET, HEAD"),
        ("/cells/c/export", "GET, HEAD"),
        ("/cells/c/live", "GET, HEAD"),
        ("/models", "GET, HEAD"),
        ("/models/a:activate", "POST"),
        ("/docs/files/swagger-ui.css", "GET, HEAD"),
        ("/console/assets/console.js", "GET, HEAD"),
    ],
)
async def test_another_method_is_refused_with_all_methods_of_the_path(
    service: httpx.AsyncClient, path: str, allowed: str
) -> None:
    response = await service.request("TRACE", path)
    assert_problem(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == allowed


def with_nulls(body: Json, *names: str) -> Json:
    return dict.fromkeys(names) | body


@pytest.mark.anyio
async def test_null_is_the_same_as_absent_in_every_body(empty: httpx.AsyncClient, line: Fingerprints) -> None:
    array = with_nulls({"rows": 1, "columns": DESCRIPTION["array"]["columns"]}, "spacing", "polarisations")
    described = with_nulls(DESCRIPTION | {"array": array}, "area", "cellId", "surveyStoNs", "userStoNs")
    rows = [with_nulls(row, "lat", "lon") for row in sent(line)]
    rows[0] |= {"time": None, "sigma": None}

    async def change(method: str, path: str, body: Json) -> Json:
        response = await empty.request(method, f"/cells/c{path}", json=body)
        assert response.is_success, response.text
        answer: Json = response.json()
        return answer

    created = await change("PUT", "", {"cell": described, "fingerprints": None})
    assert (created["fingerprints"], created["area"], created["array"]["spacing"]) == (0, None, 0.5)
    assert (await change("PUT", "", {"cell": None, "fingerprints": rows}))["fingerprints"] == 40
    first: dict[str, Any] = (await empty.get("/cells/c/fingerprints?limit=1")).json()["fingerprints"][0]
    assert "time" not in first
    assert first["sigma"] == pytest.approx(0.05)
    criteria = ("ids", "area", "circle", "measuredBefore", "unknownTime")
    nothing = await empty.post("/cells/c/fingerprints/delete", json=with_nulls({}, *criteria))
    assert_problem(nothing, 400, "MANDATORY_IE_INCORRECT", "")
    chosen = with_nulls({"ids": [first["id"]]}, *criteria)
    assert (await change("POST", "/fingerprints/delete", chosen))["fingerprints"] == 39
    appended = {"fingerprints": [with_nulls(row, "lat", "lon") for row in sent(on_a_line(40, 42))]}
    assert (await change("POST", "/fingerprints", appended))["fingerprints"] == 41
    retention = with_nulls({"maxFingerprints": 40}, "maxAgeS", "minSpacingM")
    assert (await change("PUT", "/retention", retention))["fingerprints"] == 40
    cleared = await change("PUT", "/retention", with_nulls({}, "maxAgeS", "maxFingerprints", "minSpacingM"))
    assert set(cleared["retention"].values()) == {None}


@pytest.mark.anyio
async def test_a_required_list_may_not_be_null(service: httpx.AsyncClient) -> None:
    response = await service.post("/cells/c/fingerprints", json={"fingerprints": None})
    assert_problem(response, 400, "MANDATORY_IE_MISSING", "/fingerprints")
    neither = await service.put("/cells/c", json={"cell": None, "fingerprints": None})
    assert_problem(neither, 400, "MANDATORY_IE_MISSING", "/cell")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "cause", "params"),
    [
        (b'{"ids":[' + b"0," * 400_000 + b"0]}", "INVALID_MSG_FORMAT", []),
        (b'{"ids":[' + b'"not the id of any",' * 40_000 + b"0]}", "MANDATORY_IE_INCORRECT", ["/ids/0"]),
        (b"{" + b",".join(b'"%016x":0' % i for i in range(40_000)) + b"}", "MANDATORY_IE_INCORRECT", [""]),
    ],
)
async def test_a_body_that_is_wrong_everywhere_is_refused_at_once(
    service: httpx.AsyncClient, body: bytes, cause: str, params: list[str]
) -> None:
    started = time.monotonic()
    response = await service.post(
        "/cells/c/fingerprints/delete", content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(response, 400, cause, *params)
    assert time.monotonic() - started < 1


@pytest.mark.anyio
async def test_a_fingerprint_of_too_many_values_is_refused(service: httpx.AsyncClient) -> None:
    body = b'{"fingerprints":[{"csi":[' + b"[]," * 1000 + b"[]]}]}"
    assert_problem(
        await service.post("/cells/c/fingerprints", content=body, headers={"Content-Type": "application/json"}),
        400,
        "INVALID_MSG_FORMAT",
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("versions?before=abc", "query before"),
        ("versions?before=1_0", "query before"),
        ("versions?limit=1.0", "query limit"),
        ("fingerprints?limit=%2B1", "query limit"),
        ("fingerprints?after=%00", "query after"),
        ("export?version=%00", "query version"),
        ("live?after=1_0", "query after"),
    ],
)
async def test_a_wrong_parameter_of_the_query_is_named(service: httpx.AsyncClient, query: str, param: str) -> None:
    assert_problem(await service.get(f"/cells/c/{query}"), 400, "MANDATORY_IE_INCORRECT", param)


@pytest.mark.anyio
async def test_a_wrong_header_is_named(service: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "a" * 257}
    response = await service.put("/cells/c/model", json={"policy": "auto"}, headers=headers)
    assert_problem(response, 400, "MANDATORY_IE_INCORRECT", "header Idempotency-Key")


@pytest.mark.anyio
@pytest.mark.parametrize("version", [None, 1.5, True, []])
async def test_a_wrong_version_to_roll_back_to_is_named(service: httpx.AsyncClient, version: object) -> None:
    response = await service.post("/cells/c/rollback", json={"version": version})
    assert_problem(response, 400, "MANDATORY_IE_INCORRECT", "/version")


@pytest.mark.anyio
async def test_a_row_that_cannot_be_parsed_is_named(service: httpx.AsyncClient) -> None:
    body = b'{"fingerprints":[{"x":1e999}]}'
    answer = await service.post("/cells/c/fingerprints", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "/fingerprints/0" in answer.json()["detail"]
