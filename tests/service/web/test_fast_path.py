from collections.abc import Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.errors import Congested
from service.telemetry.metrics import Metrics, RequestMetrics
from service.web.fast_path import Shortcut
from service.web.problems import EXPECTED, on_expected_error, on_unexpected_error


async def locate(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def congested(request: Request) -> Response:
    raise Congested("too many users are waiting already")


async def broken(request: Request) -> Response:
    raise RuntimeError("the secret")


async def starved(request: Request) -> Response:
    raise MemoryError


ENDPOINTS = (locate, congested, broken, starved)
ROUTES = [Route(f"/{endpoint.__name__}", endpoint, methods=["POST"]) for endpoint in ENDPOINTS]


def make_client(metrics: Metrics, *, shortcut: bool) -> httpx.AsyncClient:
    middleware = [Middleware(RequestMetrics, metrics=metrics)]
    if shortcut:
        middleware.append(Middleware(Shortcut, routes=ROUTES))
    handlers: dict[type[Exception], Callable] = dict.fromkeys(EXPECTED, on_expected_error)
    handlers[Exception] = on_unexpected_error
    app = Starlette(routes=ROUTES, middleware=middleware, exception_handlers=handlers)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://service")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/locate", 200),
        ("POST", "/congested", 503),
        ("POST", "/broken", 500),
        ("POST", "/starved", 503),
        ("GET", "/locate", 405),
        ("POST", "/locate/", 307),
        ("POST", "/nowhere", 404),
    ],
)
async def test_the_shortcut_answers_and_counts_as_the_router_would(method: str, path: str, status: int) -> None:
    answers, counts = [], []
    for shortcut in (False, True):
        metrics = Metrics()
        async with make_client(metrics, shortcut=shortcut) as client:
            response = await client.request(method, path, content=b"a body")
        answers.append((response.status_code, response.headers, response.content))
        counts.append(
            [s.labels for m in metrics.registry.collect() for s in m.samples if s.name.endswith("_requests_total")]
        )
    assert answers[0] == answers[1]
    assert answers[0][0] == status
    assert counts[0] == counts[1] != []


@pytest.mark.anyio
async def test_the_routes_of_the_shortcut_never_reach_the_router() -> None:
    async def router(*asgi: object) -> None:
        raise AssertionError

    transport = httpx.ASGITransport(Shortcut(router, ROUTES))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.post("/locate", content=b"a body")).text == "a body"
        assert (await client.post("/congested")).headers["retry-after"] == "1"
        with pytest.raises(AssertionError):
            await client.get("/locate")
