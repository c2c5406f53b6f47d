"""``GET /health/live`` and ``/health/ready``: ready has inferred lately, or does so now, and is not about to stop."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.errors import InferenceFailed, NotReady, OutOfMemory, Stopping
from service.inference.session import MateformerSession
from service.settings import Settings
from service.web.draining import Draining


class Health:
    def __init__(self, settings: Settings, network: Callable[[], MateformerSession], draining: Draining) -> None:
        """`network`: the one that serves when it is asked."""
        self._settings = settings
        self._network = network
        self._draining = draining
        self._proof: asyncio.Task[None] | None = None

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """Raises `Stopping`, or `NotReady` when the last inference is long ago and another one fails or hangs."""
        if self._draining.began:
            raise Stopping("the service is about to stop")
        network = self._network()
        if network.seconds_since_answer > self._settings.readiness_period_s:
            # One proof at a time: when the network hangs, probes must not pile up behind it.
            if self._proof is None or self._proof.done():
                self._proof = asyncio.create_task(asyncio.to_thread(network.prove))
            try:
                await asyncio.wait_for(asyncio.shield(self._proof), self._settings.readiness_timeout_s)
            except (InferenceFailed, OutOfMemory) as error:
                raise NotReady(error.detail) from error
            except TimeoutError as error:
                raise NotReady("the network does not answer") from error
        return JSONResponse({"status": "ready"})
