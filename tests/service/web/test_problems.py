import errno
import json
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fingerpost.wire import LocateRequest
from service import errors
from service.errors import FieldError, InvalidParam, ServiceError
from service.web.media import JSON
from service.web.problems import EXCEPTION_HANDLERS, problem_of


def all_errors(of: type[ServiceError] = ServiceError) -> set[type[ServiceError]]:
    return {of}.union(*map(all_errors, of.__subclasses__()))


def test_every_error_has_its_own_status_and_cause() -> None:
    kinds = all_errors() - {ServiceError, FieldError}
    assert len({kind.cause for kind in kinds}) == len(kinds)
    assert all(kind.status >= 400 for kind in kinds)


def test_problem_says_which_field_is_at_fault() -> None:
    problem = problem_of(errors.CsiAllZero("/csi/data", "is all zero"))
    assert problem.model_dump(mode="json") == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "/csi/data: is all zero",
        "cause": "CSI_ALL_ZERO",
        "invalidParams": [{"param": "/csi/data", "reason": "is all zero"}],
    }


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ({"cellId": "a", "csi": {"shape": ["a", 2]}}, errors.FieldIncorrect, "/csi/shape/0"),
        ({"cellId": "a", "csi": {"a`b": 1}}, errors.UnknownField, "/csi/a`b"),
        ({"cellId": "a", "csi": {"a/b~c": 1}}, errors.UnknownField, "/csi/a~1b~0c"),
        ({"cellId": "a"}, errors.FieldMissing, "/csi"),
        ([], errors.FieldIncorrect, ""),
    ],
)
def test_schema_violations_become_json_pointers(body: Any, kind: type[FieldError], param: str) -> None:
    with pytest.raises(FieldError) as caught:
        JSON.read(json.dumps(body).encode(), LocateRequest)
    error = caught.value
    assert type(error) is kind
    assert error.invalid_params == (InvalidParam(param, error.invalid_params[0].reason),)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (MemoryError(), 503, "OUT_OF_MEMORY"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 503, "OUT_OF_MEMORY"),
        (RuntimeError("can't start new thread"), 503, "OUT_OF_MEMORY"),
        (OSError(errno.EIO, "the secret"), 500, "SYSTEM_FAILURE"),
        (RuntimeError("the secret"), 500, "SYSTEM_FAILURE"),
    ],
)
async def test_short_memory_is_told_from_other_failures(error: Exception, status: int, cause: str) -> None:
    async def broken(request: Request) -> Response:
        raise error

    app = Starlette(routes=[Route("/", broken)], exception_handlers=EXCEPTION_HANDLERS)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.get("/")
    assert (response.status_code, response.json()["cause"]) == (status, cause)
    assert "secret" not in response.text


@pytest.mark.anyio
async def test_unexpected_errors_tell_nothing_of_the_inside() -> None:
    async def broken(request: Request) -> Response:
        raise RuntimeError("the secret")

    app = Starlette(routes=[Route("/", broken)], exception_handlers=EXCEPTION_HANDLERS)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert response.json()["cause"] == "SYSTEM_FAILURE"
    assert "secret" not in response.text


LONG = "a" * 1_000_000


@pytest.mark.parametrize(
    "body", [{LONG: 1}, {"cellId": "plane", "csi": {LONG: 1}}, {"items": [], LONG: 1}, {"/".join("a" * 500_000): 1}]
)
@pytest.mark.parametrize("path", ["/locate", "/locate/batch", "/locate/trajectory", "/cells/plane/rollback"])
def test_long_names_of_fields_are_shortened(client: httpx.Client, path: str, body: Any) -> None:
    for content, media_type in ((json.dumps(body).encode(), "json"), (msgspec.msgpack.encode(body), "msgpack")):
        answer = client.post(path, content=content, headers={"Content-Type": f"application/{media_type}"})
        assert answer.status_code == 400
        assert len(answer.content) < 5000
        assert "a" * 101 not in answer.text


@pytest.mark.parametrize(
    "request_",
    [
        {"url": "/" + "a" * 5000},
        {"url": "/cells?" + "a" * 5000},
        {"url": "/cells/" + "a" * 5000},
        {"url": "/models/" + "a" * 5000 + ":activate", "method": "POST"},
        {"url": "/locate", "method": "POST", "headers": {"Content-Type": "a" * 5000}},
        {"url": "/locate", "method": "POST", "headers": {"Content-Encoding": "a" * 5000}},
        {"url": "/cells/c/versions/" + "a" * 5000},
        {"url": "/cells/c/versions?limit=" + "a" * 5000},
        {"url": "/cells/c/export?format=" + "a" * 5000},
        {"url": "/health/live", "method": "A" * 5000},
    ],
    ids=lambda one: one["url"][:12],
)
def test_long_names_in_the_head_are_shortened(client: httpx.Client, request_: dict[str, Any]) -> None:
    answer = client.request(**({"method": "GET"} | request_))
    assert 400 <= answer.status_code < 500
    assert "a" * 101 not in answer.text
    assert len(answer.content) < 2000
