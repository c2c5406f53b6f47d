"""`GET /health/live` and `/health/ready`. Ready means: a model answered recently or answers now, the reference database
has been reached since the start, no task in the background makes serving unsafe, and no stop is near.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from fingerpost.wire_health import Live, Ready
from reference_db.errors import StoreMissing, StoreUnavailable
from reference_db.stores.store import Store
from service import errors
from service.background import Background, BlockingCalls, JobFailed
from service.errors import InferenceFailed, NotReady, OutOfMemory, Stopping
from service.inference.mateformer_session import MateformerSession
from service.settings import Settings
from service.web.problems import problem_responses

_log = logging.getLogger("fingerpost.health")


class Draining:
    """Whether a stop is near. After `began` the service serves on for a while, so that load balancers find others."""

    began = False


class Health:
    def __init__(
        self,
        settings: Settings,
        session: Callable[[], MateformerSession],
        draining: Draining,
        background: Background,
        store: Store,
        reached: Callable[[], bool],
    ) -> None:
        """`session` returns the session that serves at the moment; `reached`, whether others have reached the store."""
        self._settings = settings
        self._session = session
        self._draining = draining
        self._background = background
        self._store = store
        self._reading = BlockingCalls("readiness")
        self._reached = reached
        self._reached_here = False
        self._check: asyncio.Task[None] | None = None
        self._proof: asyncio.Task[None] | None = None

    async def check_ready(self) -> None:
        """Raises `Stopping`, or `NotReady`: it is unsafe to serve on because a task in the background does not succeed,
        the reference database has never been reached, or the last inference is long ago and a new one fails or hangs.
        """
        if self._draining.began:
            raise Stopping("the service is about to stop")
        if (unsafe := self._background.find_unsafe()) is not None:
            raise NotReady(unsafe)
        await self._reach_store()
        session = self._session()
        if session.seconds_since_answer <= self._settings.readiness_period_s:
            return
        # One proof at a time: when the model hangs, probes must not queue behind it.
        if self._proof is None or self._proof.done():
            self._proof = asyncio.create_task(asyncio.to_thread(session.prove))
        try:
            await asyncio.wait_for(asyncio.shield(self._proof), self._settings.readiness_timeout_s)
        except (InferenceFailed, OutOfMemory) as error:
            raise NotReady(error.detail) from error
        except TimeoutError as error:
            raise NotReady("the model does not answer") from error

    async def _reach_store(self) -> None:
        """Once is enough: afterwards, cells in memory are served while the store is away."""
        if self._reached_here or self._reached():
            return
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._reading.run(self._store.check))
        try:
            await asyncio.wait_for(asyncio.shield(self._check), self._settings.readiness_timeout_s)
        except StoreMissing as error:  # the log says it once
            raise NotReady(f"{error}: create it, or import a cell with --database") from error
        except (StoreUnavailable, JobFailed, TimeoutError) as error:
            _log.warning("not ready: the reference database has not been reached since the start: %s", error)
            raise NotReady("the reference database has not been reached since the start") from error
        self._reached_here = True


router = APIRouter(prefix="/health", tags=["health"])


def _health(request: Request) -> Health:
    health: Health = request.app.state.health
    return health


@router.get("/live", summary="Whether the process answers", responses=problem_responses())
async def live() -> Live:
    """For liveness probes."""
    return Live()


@router.get(
    "/ready",
    summary="Whether users can be located",
    responses=problem_responses(errors.NotReady, errors.Stopping),
)
async def ready(health: Annotated[Health, Depends(_health)]) -> Ready:
    """For readiness probes and load balancers."""
    await health.check_ready()
    return Ready()
