"""What the service's routes add to FastAPI's."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import msgspec
import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import Field
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response

from fingerpost.wire_model import WireRequest
from service.errors import Congested
from service.settings import Settings
from service.telemetry.metrics import Metrics, RequestMetrics
from service.web.head import HeadMiddleware
from service.web.problems import EXCEPTION_HANDLERS
from service.web.routes import ApiRoute, BareRoute, BareRoutes, takes


class Deletion(WireRequest):
    older_than: Annotated[float, Field(gt=0)]


router = APIRouter(route_class=ApiRoute)
bare = APIRouter(route_class=BareRoute)


@router.post("/delete")
async def delete(deletion: Deletion, dry_run: Annotated[bool, Query(alias="dryRun")] = False) -> dict[str, object]:
    return {"olderThan": deletion.older_than, "dryRun": dry_run}


@router.get("/list")
async def show() -> dict[str, str]:
    return {"a": "list"}


@bare.post("/echo")
@takes(Deletion)
async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


@bare.post("/congested")
async def congested(request: Request) -> Response:
    raise Congested("too many requests wait")


@bare.post("/broken")
async def broken(request: Request) -> Response:
    raise RuntimeError("the secret")


@bare.post("/starved")
async def starved(request: Request) -> Response:
    raise MemoryError


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(params=["in front", "by FastAPI alone"])
async def client(metrics: Metrics, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[
            Middleware(RequestMetrics, metrics=metrics),
            Middleware(HeadMiddleware),
            *([Middleware(BareRoutes, routes=bare.routes)] if request.param == "in front" else []),
        ],
    )
    app.state.settings = Settings(body_limit_bytes=100)
    app.include_router(router)
    app.include_router(bare)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/echo", 200),
        ("POST", "/congested", 503),
        ("POST", "/broken", 500),
        ("POST", "/starved", 503),
        ("GET", "/echo", 405),
        ("POST", "/echo/", 307),
        ("POST", "/nowhere", 404),
        ("HEAD", "/list", 200),
    ],
)
async def test_every_answer_is_counted_by_its_route(
    client: httpx.AsyncClient, metrics: Metrics, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path, content=b"a body")
    assert response.status_code == status
    assert "secret" not in response.text
    (counted,) = [s for m in metrics.registry.collect() for s in m.samples if s.name == "fingerpost_requests_total"]
    assert (counted.labels["status"], counted.value) == (str(status), 1)
    assert counted.labels["route"] == (path if status not in (307, 404) else "none")


@pytest.mark.anyio
async def test_a_congested_route_says_when_to_ask_again(client: httpx.AsyncClient) -> None:
    assert (await client.post("/congested")).headers["retry-after"] == "1"


@pytest.mark.anyio
async def test_a_bare_route_gets_the_body_as_it_arrived(client: httpx.AsyncClient) -> None:
    assert (await client.post("/echo", content=b"\x00\xff")).content == b"\x00\xff"


@pytest.mark.anyio
async def test_head_answers_the_headers_of_get_alone(client: httpx.AsyncClient) -> None:
    head, get = await client.head("/list"), await client.get("/list")
    assert (head.status_code, head.headers, head.content) == (get.status_code, get.headers, b"")


@pytest.mark.anyio
async def test_json_and_msgpack_bodies_are_read_alike(client: httpx.AsyncClient) -> None:
    sent = {"olderThan": 1.5}
    for media_type, body in (
        ("application/json", msgspec.json.encode(sent)),
        ("application/msgpack", msgspec.msgpack.encode(sent)),
    ):
        answer = await client.post("/delete", content=body, headers={"Content-Type": media_type})
        assert answer.json() == {"olderThan": 1.5, "dryRun": False}
    assert (await client.post("/delete", content=msgspec.json.encode(sent))).status_code == 200  # JSON unless said


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "content", "status", "cause", "param"),
    [
        ("/delete?dryrun=true", b'{"olderThan":1}', 400, "UNKNOWN_FIELD", "query dryrun"),
        ("/delete?dryRun=true&dryRun=false", b'{"olderThan":1}', 400, "MANDATORY_IE_INCORRECT", "query dryRun"),
        ("/delete?dryRun=perhaps", b'{"olderThan":1}', 400, "MANDATORY_IE_INCORRECT", "query dryRun"),
        ("/delete", b'{"olderThan":-1}', 400, "MANDATORY_IE_INCORRECT", "/olderThan"),
        ("/delete", b'{"older_than":1}', 400, "UNKNOWN_FIELD", "/older_than"),
        ("/delete", b"{}", 400, "MANDATORY_IE_MISSING", "/olderThan"),
        ("/delete", b"[1]", 400, "MANDATORY_IE_INCORRECT", ""),
        ("/delete", b"", 400, "INVALID_MSG_FORMAT", None),
        ("/delete", b'{"olderThan":', 400, "INVALID_MSG_FORMAT", None),
        ("/delete", b" " * 101, 413, "BODY_TOO_LARGE", None),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(
    client: httpx.AsyncClient, path: str, content: bytes, status: int, cause: str, param: str | None
) -> None:
    answer = await client.post(path, content=content)
    problem = answer.json()
    assert (answer.status_code, problem["cause"]) == (status, cause)
    assert [one["param"] for one in problem.get("invalidParams", [])] == ([] if param is None else [param])
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.anyio
async def test_compressed_bodies_and_unknown_media_types_are_refused(client: httpx.AsyncClient) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}):
        answer = await client.post("/delete", content=b'{"olderThan":1}', headers=headers)
        assert (answer.status_code, answer.json()["cause"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_the_body_of_a_bare_route_is_documented() -> None:
    app = FastAPI()
    app.include_router(bare)
    content = app.openapi()["paths"]["/echo"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"]["$ref"].endswith("/Deletion")
