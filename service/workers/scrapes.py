"""What the parent answers for all workers: `/metrics`, `/latency` and `/health/ready`.

A worker would have to put these together on the loop that serves users. Each request is passed on to the workers with
its headers, so they check API keys and host names as ever.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import httpx
import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fingerpost.wire_health import Latency
from service.errors import NotReady, Stopping
from service.listening import bind_unix
from service.telemetry.worker_metrics import WorkerMetrics
from service.web.problems import PROBLEM_JSON, encode_problem
from service.workers.balancer import BalancerFailed
from service.workers.exposition import join_latencies, join_metrics

_log = logging.getLogger("fingerpost.workers")

_TIMEOUT_S = 4.0  # of two rounds: together less than Prometheus waits by default
_BALANCER = "haproxy"  # in place of the number of a worker
# What a service without HAProxy before it would count itself; a line for each cause follows.
_REFUSALS = """\
# HELP fingerpost_problems_total Requests that HAProxy refused.
# TYPE fingerpost_problems_total counter
"""
_OF_ONE_CONNECTION = {b"connection", b"content-length", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}
_RETURNED = ("content-type", "cache-control", "retry-after", "www-authenticate", "x-correlator")


class Scrapes:
    def __init__(
        self, sockets: Sequence[Path], metrics: WorkerMetrics, count_refusals: Callable[[], Awaitable[dict[str, int]]]
    ) -> None:
        """`sockets`: of the workers, in their order. `count_refusals`: of HAProxy, by cause; may raise
        `BalancerFailed`.
        """
        self.draining = False
        self._sockets = sockets
        self._clients: list[httpx.AsyncClient] = []
        self._metrics = metrics
        self._count_refusals = count_refusals

    def app(self) -> Starlette:
        """The three routes as an app."""
        routes = [
            Route("/metrics", self._answer_metrics),
            Route("/latency", self._answer_latency),
            Route("/health/ready", self._answer_ready),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for socket in self._sockets:
                transport = httpx.AsyncHTTPTransport(uds=str(socket))
                client = httpx.AsyncClient(transport=transport, base_url="http://worker", timeout=_TIMEOUT_S)
                self._clients.append(await stack.enter_async_context(client))
            yield

    async def _answer_metrics(self, request: Request) -> Response:
        answers = await self._ask_each(request)
        if (refusal := _find_refusal(answers)) is not None:
            return refusal
        texts = {str(number): answer.text for number, answer in enumerate(answers, 1) if answer is not None}
        for number in range(1, len(answers) + 1):
            self._metrics.up.labels(str(number)).set(str(number) in texts)
        with suppress(BalancerFailed):  # HAProxy is started again
            counts = await self._count_refusals()
            samples = (f'fingerpost_problems_total{{cause="{cause}"}} {count}.0\n' for cause, count in counts.items())
            texts[_BALANCER] = _REFUSALS + "".join(samples)
        content = join_metrics(texts).encode() + generate_latest(self._metrics.registry)
        return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _answer_latency(self, request: Request) -> Response:
        answers = await self._ask_each(request)
        if (refusal := _find_refusal(answers)) is not None:
            return refusal
        latencies = [Latency.model_validate_json(answer.content) for answer in answers if answer is not None]
        content = join_latencies(latencies).model_dump_json(by_alias=True)
        return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _answer_ready(self, request: Request) -> Response:
        """Ready if one worker is. Else the first worker's reason."""
        if self.draining:
            return _problem(Stopping.status, Stopping.cause, "the service is about to stop")
        asking = [asyncio.create_task(_ask(request, client)) for client in self._clients]
        try:
            answers: list[httpx.Response] = []
            for next_answer in asyncio.as_completed(asking):
                answer = await next_answer
                if answer is not None:
                    if answer.is_success:
                        return _passed_on(answer)
                    answers.append(answer)
        finally:
            for one in asking:
                one.cancel()
        return _passed_on(answers[0]) if answers else _no_worker()

    async def _ask_each(self, request: Request) -> list[httpx.Response | None]:
        """The answer of each worker, None for those that do not answer; of the first alone if it refuses."""
        first, *others = self._clients
        answer = await _ask(request, first)
        if answer is not None and not answer.is_success:
            return [answer]
        return [answer, *await asyncio.gather(*(_ask(request, client) for client in others))]


class ScrapeServer(uvicorn.Server):
    """Serves `Scrapes` on a Unix socket, and leaves signals to the parent."""

    def __init__(self, scrapes: Scrapes) -> None:
        super().__init__(uvicorn.Config(scrapes.app(), log_config=None, access_log=False, server_header=False))

    async def listen(self, path: Path) -> None:
        """Serves until `should_exit` is set."""
        with bind_unix(path) as listening:
            listening.listen(self.config.backlog)
            await self.serve([listening])

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _ask(request: Request, worker: httpx.AsyncClient) -> httpx.Response | None:
    """A worker's answer to this request; None if it does not answer."""
    headers = [(name, value) for name, value in request.headers.raw if name not in _OF_ONE_CONNECTION]
    url = httpx.URL(path=request.url.path, query=request.url.query.encode())
    try:
        return await worker.get(url, headers=headers)
    except httpx.TransportError as error:
        _log.debug("a worker does not answer: %s", error)
        return None


def _find_refusal(answers: Sequence[httpx.Response | None]) -> Response | None:
    """What to answer instead of joined answers: the first refusal, or that no worker answers."""
    given = [answer for answer in answers if answer is not None]
    if not given:
        return _no_worker()
    return next((_passed_on(answer) for answer in given if not answer.is_success), None)


def _passed_on(answer: httpx.Response) -> Response:
    headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
    return Response(answer.content, answer.status_code, headers)


def _no_worker() -> Response:
    return _problem(NotReady.status, NotReady.cause, "no worker answers")


def _problem(status: HTTPStatus, cause: str, detail: str) -> Response:
    return Response(encode_problem(status, cause, detail), status, {"Content-Type": PROBLEM_JSON, "Retry-After": "1"})
