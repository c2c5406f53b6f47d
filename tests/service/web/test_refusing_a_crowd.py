"""What clients see of a crowd, on the wire. The app behind the protocol says what it was asked."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.web.crowd import Crowd
from service.web.http_protocol import ClientLimits, HttpProtocol, Refusal
from tests.redis_servers import GUARD_S, wait_until

LIMITS = ClientLimits(connections=10, head_s=60, idle_s=60, write_s=60, unread_bytes=2**20)
BODY = b"0" * 9000


class Crowded:
    """A server with no room for users who are located one by one."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refused: list[Refusal] = []
        crowd = Crowd(lambda: 0, lambda: None)
        http = partial(HttpProtocol, limits=LIMITS, crowd=crowd, note_refusal=self.refused.append)
        config = uvicorn.Config(self.answer, port=0, lifespan="off", interface="asgi3", log_level="critical", http=http)  # type: ignore[arg-type]
        self.server = uvicorn.Server(config)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    @property
    def url(self) -> str:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def crowded() -> Iterator[Crowded]:
    crowded = Crowded()
    thread = threading.Thread(target=lambda: asyncio.run(crowded.server.serve()))
    thread.start()
    wait_until(lambda: crowded.server.started, "the server does not start")
    yield crowded
    crowded.server.should_exit = True
    thread.join(GUARD_S)
    assert not thread.is_alive()


@pytest.fixture
def client(crowded: Crowded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=crowded.url, timeout=GUARD_S) as client:
        yield client


def refused(client: httpx.Client, **headers: str) -> httpx.Response:
    """The first refusal: until a crowd lasts, users are admitted."""
    deadline = time.monotonic() + GUARD_S
    while (answer := client.post("/locate?a=1", content=BODY, headers=headers)).status_code != 503:
        assert time.monotonic() < deadline, "nobody is refused"
    return answer


def test_a_refusal_is_the_problem_that_the_app_would_send(crowded: Crowded, client: httpx.Client) -> None:
    answer = refused(client, **{"X-Correlator": "c-1", "traceparent": "none"})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-Correlator"] == "c-1"
    assert "traceparent" not in answer.headers  # it has the wrong form
    assert json.loads(answer.content)["cause"] == "NF_CONGESTION"
    refusal = crowded.refused[-1]
    assert (refusal.route, refusal.status, refusal.cause) == ("/locate", 503, "NF_CONGESTION")
    assert 0 <= refusal.seconds < GUARD_S


def test_the_app_hears_nothing_of_a_refusal_and_the_connection_stays_open(
    crowded: Crowded, client: httpx.Client
) -> None:
    def address(answer: httpx.Response) -> object:
        return answer.extensions["network_stream"].get_extra_info("client_addr")

    before = address(client.get("/a"))
    asked, told = len(crowded.asked), len(crowded.refused)
    assert address(refused(client)) == before
    admitted = len(crowded.asked) - asked
    assert crowded.asked[asked:] == ["/locate"] * admitted
    assert len(crowded.refused) == told + 1
    assert address(client.get("/b")) == before


def test_other_requests_reach_the_app(crowded: Crowded, client: httpx.Client) -> None:
    large, expecting = {"content": b"0" * 2**17}, {"content": BODY, "headers": {"Expect": "100-continue"}}
    closing = {"content": BODY, "headers": {"Connection": "close"}}
    chunked = {"content": iter([BODY])}
    for path, request in (
        ("/locate/batch", {"content": BODY}),
        ("/locate", large),
        ("/locate", expecting),
        ("/locate", closing),
        ("/locate", chunked),
    ):
        refused(client)
        asked = len(crowded.asked)
        assert client.post(path, **request).status_code == 200  # type: ignore[arg-type]
        assert crowded.asked[asked:] == [path]
    refused(client)
    assert client.get("/locate").status_code == 200


def test_when_nobody_comes_for_a_moment_the_next_are_admitted(crowded: Crowded, client: httpx.Client) -> None:
    refused(client)
    time.sleep(0.05)
    assert client.post("/locate", content=BODY).status_code == 200
